"""Tokens as people see them: which of a transaction's are shown, and what each is called.

A token is known by its address; its symbol is decoration that anyone may choose. So a symbol that
could be mistaken for another token's is followed by the address.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from src.chain.facts import TokenInfo
from src.chain.well_known import WellKnownTokens
from src.detection.records import TransferLike

MAX_SHOWN_TOKENS: Final = 50
"""Tokens of one transaction that are looked up and detailed; the others are counted."""

USUAL_DECIMALS: Final = 18
"""Of a token that states none."""

_REMEMBERED = 4_096


@dataclass(frozen=True, slots=True)
class TokenView:
    """A token and what is to be known before its symbol is believed.

    Attributes:
        address: lowercase.
        name, symbol: sanitised, possibly empty.
        decimals: the exponent between raw units and token units.
        impersonates: its symbol reads like a well-known token's, though it is another contract.
        well_known: on the built-in list, by its address.
    """

    address: str
    name: str
    symbol: str
    decimals: int
    impersonates: bool = False
    well_known: bool = False

    @property
    def label(self) -> str:
        """What people call it, see `label_of`."""
        return label_of(self.address, self)


def label_of(
    address: str, token: TokenView | None, *, written: str | None = None, ambiguous: bool = False
) -> str:
    """What people call a token: its symbol where nobody can mistake it, else with the address.

    Args:
        address: the token's.
        token: what is known of it, or None.
        written: how the address is written, such as shortened; None for in full.
        ambiguous: whether the symbol means something else too where the label stands.
    """
    shown = written or address
    if token is None or not token.symbol:
        return shown
    return f"{token.symbol} ({shown})" if ambiguous or token.impersonates else token.symbol


def decimals_of(address: str, tokens: Mapping[str, TokenView]) -> int:
    """The token's decimals; where nobody knows them, the usual number."""
    token = tokens.get(address)
    return USUAL_DECIMALS if token is None else token.decimals


def labels_in(
    addresses: Collection[str],
    tokens: Mapping[str, TokenView],
    reserved: Collection[str] = frozenset(),
) -> dict[str, str]:
    """What people call tokens that stand side by side, by address; no two are called alike.

    Args:
        addresses: the tokens.
        tokens: what is known of them.
        reserved: symbols that mean something else here.
    """
    known = [tokens[address] for address in addresses if address in tokens]
    claims = Counter([token.symbol.casefold() for token in known]) if len(known) > 1 else {}
    labels = {}
    for address in addresses:
        token = tokens.get(address)
        ambiguous = token is not None and (
            token.symbol in reserved
            or (not token.well_known and claims.get(token.symbol.casefold(), 1) > 1)
        )
        labels[address] = label_of(address, token, ambiguous=ambiguous)
    return labels


@lru_cache(_REMEMBERED)
def token_view(address: str, info: TokenInfo, well_known: WellKnownTokens) -> TokenView:
    """A token with this metadata, held against the built-in list."""
    return TokenView(
        address,
        info.name,
        info.symbol,
        info.decimals,
        impersonates=well_known.is_impersonated(info.symbol, address),
        well_known=well_known.get(address) is not None,
    )


def shown_tokens(transfers: Sequence[TransferLike]) -> Collection[str]:
    """Tokens in the order of the logs; where there are too many, those with most transfers."""
    tokens = dict.fromkeys([transfer.token for transfer in transfers])
    if len(tokens) <= MAX_SHOWN_TOKENS:
        return tokens
    return most_moved(Counter([transfer.token for transfer in transfers]))


def most_moved(counts: Mapping[str, int]) -> list[str]:
    """Tokens with most transfers first, as many as are shown; by address where they are equal."""
    return sorted(counts, key=lambda token: (-counts[token], token))[:MAX_SHOWN_TOKENS]
