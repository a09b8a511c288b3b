"""Which tokens have a price without a market: stablecoins, and those with a Chainlink feed."""

from typing import Final

from src.chain.facts import Price
from src.chain.networks import network
from src.chain.well_known import WellKnownTokens

STABLECOINS: Final = frozenset(
    {"USDC", "USDT", "DAI", "PYUSD", "GUSD", "USDP", "LUSD", "GHO", "crvUSD", "FDUSD", "USDC.e",
     "USDbC", "USDT.e", "USD₮0", "BUSD"}
)  # fmt: skip
"""Symbols that count for tokens of the built-in list alone, which is keyed by address."""

BITCOIN: Final = frozenset({"WBTC", "tBTC", "cbBTC", "BTCB", "BTC.b"})
"""Likewise."""

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
    known = network(chain_id)
    if token == known.wrapped_native:
        return known.native_feed
    info = well_known.get(token)
    return known.bitcoin_feed if info is not None and info.symbol in BITCOIN else None
