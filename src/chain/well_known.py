"""The built-in list of well-known tokens, and which other tokens bear a symbol of theirs.

Anyone can deploy a token called USDC. A token is identified by its address; one that bears a
well-known symbol at another address may imitate that token, or only be its namesake. What its
deployer chooses (name, trades, holders) cannot tell which, so only what others have published does.
"""

import json
import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from src.chain.facts import UNREADABLE_SYMBOL, TokenInfo, token_info
from src.chain.text import sanitise_text

TOKEN_LIST_PATH = Path(__file__).with_name("well_known_tokens.json")
LOOK_ALIKES_PATH = Path(__file__).with_name("look_alikes.json")

# ASCII characters that look alike in any typeface; capitals only if they do so themselves.
_ASCII_LOOK_ALIKES = {"l": "i", "1": "i", "|": "i", "0": "o"}
_MAX_SYMBOL_LENGTH = 64
# Also those that have no decomposition: with a stroke, a hook or a tail, and small capitals.
_LATIN = re.compile(
    r"LATIN (?:CAPITAL LETTER|SMALL LETTER|LETTER SMALL CAPITAL) ([A-Z])(?: WITH .*)?"
)


class WellKnownTokens:
    """The list of one chain.

    `tokens` maps lower-case addresses to metadata, `look_alikes` characters to the ASCII text that
    they look like, `namesakes` the addresses of other published tokens to their symbols.
    """

    def __init__(
        self,
        tokens: Mapping[str, TokenInfo],
        look_alikes: Mapping[str, str],
        namesakes: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._tokens = dict(tokens)
        self._namesakes = namesakes
        self._look_alikes = str.maketrans(
            {c: _ASCII_LOOK_ALIKES.get(reads, reads) for c, reads in look_alikes.items()}
            | _ASCII_LOOK_ALIKES
        )
        self._symbols = {key for info in tokens.values() for key in self._keys(info.symbol)}

    def get(self, address: str) -> TokenInfo | None:
        """The metadata of a well-known token, or None for any other contract."""
        return self._tokens.get(address)

    def with_symbol(self, symbol: str) -> list[tuple[str, TokenInfo]]:
        """Address and metadata of the list's tokens of just this symbol."""
        return [(address, info) for address, info in self._tokens.items() if info.symbol == symbol]

    def __len__(self) -> int:
        return len(self._tokens)

    def is_impersonated(self, symbol: str, address: str) -> bool:
        """Whether `symbol` looks like a well-known token's but `address` is another contract.

        That is all: it may imitate that token or only share its symbol. A token that was published
        under this symbol is known to be its namesake.

        Compared without regard to case, compatibility forms, marks on and beside letters, invisible
        characters and Unicode's look-alike letters, digits and signs (UTS #39). Not detected: added
        or swapped letters ("USDCC", "UDSC") and pairs that look like one letter ("rn" for "m").
        """
        if address in self._tokens:
            return False
        if symbol == UNREADABLE_SYMBOL:  # only a token that has something to hide has one
            return bool(self._tokens)
        keys = self._keys(symbol)
        if self._symbols.isdisjoint(keys):
            return False
        # A contract may change its symbol: it is excused under the published one alone.
        return keys.isdisjoint(self._keys(self._namesakes.get(address, "")))

    def _keys(self, symbol: str) -> set[str]:
        """The case-insensitive forms of a symbol: as written, and with look-alikes replaced."""
        text = "".join(sanitise_text(symbol, _MAX_SYMBOL_LENGTH).split())
        decomposed = unicodedata.normalize("NFKD", text)
        keys = {_bare(decomposed), _bare(decomposed.translate(self._look_alikes))}
        keys.discard("")
        return keys


def _bare(text: str) -> str:
    """A decomposed text without marks, each Latin letter as the ASCII one that it is a form of."""
    if text.isascii():
        return text.casefold()
    letters = []
    for character in text:
        letter = _LATIN.fullmatch(unicodedata.name(character, ""))
        if letter is not None:
            letters.append(letter[1])
        elif not unicodedata.category(character).startswith("M"):
            letters.append(character)
    return "".join(letters).casefold()


@cache
def load_well_known_tokens(chain_id: int) -> WellKnownTokens:
    """The built-in list; empty for chains without one."""
    lists, key = _read(TOKEN_LIST_PATH), str(chain_id)
    rows = lists["tokens"].get(key, {})
    tokens = {address: token_info("built-in list", *row) for address, row in rows.items()}
    namesakes = {address: row[1] for address, row in lists["namesakes"].get(key, {}).items()}
    return WellKnownTokens(tokens, _read(LOOK_ALIKES_PATH)["characters"], namesakes)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
