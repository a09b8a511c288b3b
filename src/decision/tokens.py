"""The display of tokens: which tokens of a transaction are shown, and their labels.

A token is identified by its address; anyone can choose its symbol. So a symbol that could be
mistaken for another token's is followed by the address.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from src.chain.facts import TokenInfo
from src.chain.text import short
from src.chain.well_known import WellKnownTokens
from src.detection.records import NATIVE, TransferLike

MAX_SHOWN_TOKENS: Final = 50
"""Maximum number of a transaction's tokens that are looked up and shown; others are counted."""

USUAL_DECIMALS: Final = 18
"""Decimals assumed for a token whose decimals are unknown."""

_REMEMBERED = 4_096

_PLAIN: Final = re.compile(r"[A-Za-z0-9$+-]{1,16}")
_LETTER: Final = re.compile(r"[A-Za-z]")


@dataclass(frozen=True, slots=True)
class TokenView:
    """A token's metadata, and whether its symbol is trustworthy."""

    address: str  # lowercase
    # name, symbol: sanitised, possibly empty.
    name: str
    symbol: str
    decimals: int | None  # the exponent between raw units and token units; None if it states none
    # It may: see `WellKnownTokens.is_impersonated`.
    impersonates: bool = False
    well_known: bool = False  # on the built-in list, by its address

    @property
    def label(self) -> str:
        """Its label, see `label_of`."""
        return label_of(self.address, self)


def label_of(
    address: str, token: TokenView | None, *, written: str | None = None, ambiguous: bool = False
) -> str:
    """The label of a token: its symbol, followed by the address if it could be mistaken.

    Args:
        address: the token's.
        token: its metadata, or None.
        written: the displayed form of the address, such as shortened; None for the full address.
        ambiguous: whether the symbol has another meaning in this context.
    """
    shown = written or address
    if token is None or not token.symbol:
        return shown
    return f"{token.symbol} ({shown})" if ambiguous or token.impersonates else token.symbol


def token_name(address: str, token: TokenView | None, native: str, *, has_list: bool = True) -> str:
    """A token within a sentence, of which a stranger's symbol must not write a part.

    Args:
        address: its own, or `NATIVE`.
        token: its metadata, or None.
        native: the symbol of the native currency.
        has_list: whether the chain's well-known tokens are known; if so, others are marked.
    """
    if address == NATIVE:
        return native
    if token is None or not token.symbol:
        return f"token {short(address)}"
    if token.well_known:
        return token.symbol
    if not (_PLAIN.fullmatch(token.symbol) and _LETTER.search(token.symbol)):
        return f"token {short(address)}"
    if token.impersonates:
        return f"{token.symbol} (not the well-known token, {short(address)})"
    if token.symbol.casefold() == native.casefold():
        return f"{token.symbol} ({short(address)})"
    return f"{token.symbol} (unlisted)" if has_list else token.symbol


def decimals_of(address: str, tokens: Mapping[str, TokenView]) -> int:
    """The token's decimals, or the usual number if they are unknown."""
    token = tokens.get(address)
    return USUAL_DECIMALS if token is None or token.decimals is None else token.decimals


def labels_in(
    addresses: Collection[str],
    tokens: Mapping[str, TokenView],
    reserved: Collection[str] = frozenset(),
) -> dict[str, str]:
    """Unique labels of tokens that are shown together, by address.

    Args:
        addresses: the tokens.
        tokens: token metadata by address.
        reserved: symbols with another meaning in this context.
    """
    known = [tokens[address] for address in addresses if address in tokens]
    claims = [token.symbol.casefold() for token in known]
    # Some well-known tokens share a symbol, mostly after a migration.
    listed = [token.symbol.casefold() for token in known if token.well_known]
    labels = {}
    for address in addresses:
        token = tokens.get(address)
        ambiguous = token is not None and (
            token.symbol in reserved
            or (listed if token.well_known else claims).count(token.symbol.casefold()) > 1
        )
        labels[address] = label_of(address, token, ambiguous=ambiguous)
    return labels


@lru_cache(_REMEMBERED)
def token_view(address: str, info: TokenInfo, well_known: WellKnownTokens) -> TokenView:
    """A token with this metadata, compared with the built-in list."""
    return TokenView(
        address,
        info.name,
        info.symbol,
        info.decimals,
        impersonates=well_known.is_impersonated(info.symbol, address),
        well_known=well_known.get(address) is not None,
    )


def shown_tokens(transfers: Sequence[TransferLike]) -> Collection[str]:
    """Tokens in log order; if there are too many, those with the most transfers."""
    tokens = dict.fromkeys([transfer.token for transfer in transfers])
    if len(tokens) <= MAX_SHOWN_TOKENS:
        return tokens
    return most_moved(Counter([transfer.token for transfer in transfers]))


def most_moved(counts: Mapping[str, int]) -> list[str]:
    """The shown tokens, most transfers first, then by address."""
    return sorted(counts, key=lambda token: (-counts[token], token))[:MAX_SHOWN_TOKENS]
