"""The built-in list of well-known tokens, and the detection of impersonations.

Anyone can deploy a token called USDC. A token is identified by its address; a symbol that looks
like a well-known one at another address is an impersonation.
"""

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.chain.facts import TokenInfo, token_info
from src.chain.text import sanitise_text

TOKEN_LIST_PATH = Path(__file__).with_name("well_known_tokens.json")
LOOK_ALIKES_PATH = Path(__file__).with_name("look_alikes.json")

# ASCII characters that look alike in any typeface; capitals only if they do so themselves.
_ASCII_LOOK_ALIKES = {"l": "i", "1": "i", "|": "i", "0": "o"}
_MAX_SYMBOL_LENGTH = 64


class WellKnownTokens:
    """The list of one chain.

    `tokens` maps lower-case addresses to metadata, `look_alikes` characters to the ASCII text that
    they look like.
    """

    def __init__(self, tokens: Mapping[str, TokenInfo], look_alikes: Mapping[str, str]) -> None:
        self._tokens = dict(tokens)
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

        Compared without regard to case, compatibility forms, accents, invisible characters and
        Unicode's look-alike letters, digits and signs (UTS #39). Not detected: added or swapped
        letters ("USDCC", "UDSC") and pairs that look like one letter ("rn" for "m").
        """
        return address not in self._tokens and not self._symbols.isdisjoint(self._keys(symbol))

    def _keys(self, symbol: str) -> set[str]:
        """The case-insensitive forms of a symbol: as written, and with look-alikes replaced."""
        text = "".join(sanitise_text(symbol, _MAX_SYMBOL_LENGTH).split())
        decomposed = unicodedata.normalize("NFKD", text)
        bare = "".join(c for c in decomposed if not unicodedata.combining(c))
        keys = {bare.casefold(), bare.translate(self._look_alikes).casefold()}
        keys.discard("")
        return keys


def load_well_known_tokens(chain_id: int) -> WellKnownTokens:
    """The built-in list; empty for chains without one."""
    rows = _read(TOKEN_LIST_PATH)["tokens"].get(str(chain_id), {})
    tokens = {address: token_info("built-in list", *row) for address, row in rows.items()}
    return WellKnownTokens(tokens, _read(LOOK_ALIKES_PATH)["characters"])


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
