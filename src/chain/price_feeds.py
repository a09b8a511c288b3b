"""Which tokens have a price without a market: stablecoins, and those with a Chainlink feed."""

from typing import Final, NamedTuple

from src.chain.facts import Price
from src.chain.networks import network
from src.chain.well_known import WellKnownTokens

STABLECOINS: Final = frozenset(
    {"USDC", "USDT", "DAI", "PYUSD", "GUSD", "USDP", "LUSD", "GHO", "crvUSD", "FDUSD", "USDC.e",
     "USDbC", "USDT.e", "USD₮0", "BUSD"}
)  # fmt: skip
"""Symbols that count for tokens of the built-in list alone, which is keyed by address."""

BITCOIN: Final = frozenset({"WBTC", "tBTC", "cbBTC", "BTCB"})
"""Likewise."""


class Feeds(NamedTuple):
    """The Chainlink feeds of a chain, in USD; None for none."""

    native: str | None  # of the native currency
    bitcoin: str | None


FEEDS: Final = {  # data.chain.link
    1: Feeds(
        "0x5f4ec3df9cbd43714fe2740f5e3616155c5b8419", "0xf4030086522a5beea4988f8ca5b36dbc97bee88c"
    ),
    10: Feeds("0x13e3ee699d1909e989722e753853ae30b17e08c5", None),
    56: Feeds("0x0567f2323251f0aab15c8dfb1967e4e8a7d42aee", None),
    8453: Feeds("0x71041dddad3595f9ced3dccfbe3d1f4b0a16bb70", None),
    42161: Feeds("0x639fe6ab55c921f74e7fac1ee960c0b6293ba612", None),
}
"""By chain id."""

API_NAMES: Final = {
    1: "ethereum", 10: "optimism", 56: "bsc", 100: "xdai", 137: "polygon", 250: "fantom",
    5000: "mantle", 8453: "base", 42161: "arbitrum", 43114: "avax", 59144: "linea",
    81457: "blast", 534352: "scroll",
}  # fmt: skip
"""How the price API calls a chain."""


def fixed_price(token: str, well_known: WellKnownTokens) -> Price | None:
    """The price of a token that is worth a dollar by what it is; None for any other."""
    info = well_known.get(token)
    return Price(1.0, "fixed") if info is not None and info.symbol in STABLECOINS else None


def feed_of(token: str, chain_id: int, well_known: WellKnownTokens) -> str | None:
    """The feed that prices a token; the native currency is priced as its wrapped form."""
    feeds = FEEDS.get(chain_id)
    if feeds is None:
        return None
    if token == network(chain_id).wrapped_native:
        return feeds.native
    info = well_known.get(token)
    return feeds.bitcoin if info is not None and info.symbol in BITCOIN else None
