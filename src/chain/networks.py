"""The chains known by name: one record each, from `networks.json`.

A chain that is not among them works all the same; what its record would say is unknown.
"""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

NETWORKS_PATH = Path(__file__).with_name("networks.json")
"""Written by `scripts/build_chain_data.mjs`, which says where each fact comes from."""

_OTHER_NAMES = {"bnb": 56, "xdai": 100, "matic": 137, "avalanche_c": 43_114}
"""In exports."""

_SECONDS_PER_HOUR = 3_600
_HOURS_PER_DAY = 24


class Network(NamedTuple):
    """A chain."""

    name: str  # one lower-case word, as in findings; "unknown" for a chain without a record
    title: str  # for people
    # Approximate; the present value if it has changed over the years. None where it is unknown.
    seconds_per_block: float | None
    # Base URL of a block explorer with pages at `/tx/HASH`, `/address/ADDRESS` and `/block/NUMBER`;
    # None where none is known.
    explorer: str | None
    native_symbol: str  # of the coin that pays for gas, with 18 decimals
    wrapped_native: str | None  # the ERC-20 form of that coin; None where it is unknown
    # Whether the receipts that its nodes serve hash to the root in the header.
    hashed_receipts: bool
    # phalcon, tenderly: what these transaction explorers call it in their URLs; None where they do
    # not show it.
    phalcon: str | None = None
    tenderly: str | None = None
    # Chainlink's feeds of that coin and of bitcoin, in USD; None where none is known.
    native_feed: str | None = None
    bitcoin_feed: str | None = None

    def transaction_links(self, tx_hash: str) -> dict[str, str]:
        """Pages of explorers about a transaction, by the explorer's name."""
        links = {}
        if self.explorer is not None:
            host = self.explorer.removeprefix("https://").removeprefix("www.")
            links[host] = f"{self.explorer}/tx/{tx_hash}"
        if self.phalcon is not None:
            links["Phalcon"] = f"https://app.blocksec.com/explorer/tx/{self.phalcon}/{tx_hash}"
        if self.tenderly is not None:
            links["Tenderly"] = f"https://dashboard.tenderly.co/tx/{self.tenderly}/{tx_hash}"
        return links


@cache
def networks() -> dict[int, Network]:
    """All chains with a record, by chain id."""
    rows = json.loads(NETWORKS_PATH.read_text(encoding="utf-8"))["networks"]
    return {int(chain_id): Network(**row) for chain_id, row in rows.items()}


def network(chain_id: int) -> Network:
    """The record of a chain; one that claims nothing where there is none."""
    return networks().get(chain_id) or Network(
        "unknown", f"Chain {chain_id}", None, None, "native coin", None, hashed_receipts=True
    )


def chain_ids_by_name() -> dict[str, int]:
    """Chain ids by `Network.name`."""
    return {known.name: chain_id for chain_id, known in networks().items()}


def chain_id_in(text: str) -> int | None:
    """The chain that an export calls this, by its id or a name; None if there is no such record."""
    name = text.lower().removesuffix(".0").removesuffix("_mainnet")
    try:
        return int(name, 0)
    except ValueError:
        pass
    for chain_id, known in networks().items():
        if name in (known.name, known.phalcon, known.tenderly):
            return chain_id
    return _OTHER_NAMES.get(name)


def described(chain_id: int) -> str:
    """A chain for people: "Base (chain 8453)", or "Chain 424242 (no record)"."""
    known = networks().get(chain_id)
    return f"{known.title} (chain {chain_id})" if known else f"Chain {chain_id} (no record)"


def block_a_day_before(block_number: int | None, seconds_per_block: float | None) -> int | None:
    """A block 24 to 25 hours older at this pace, the same one for all blocks of an hour.

    Queries about it can then be answered from the cache for an hour, and every scan node that
    handles a transaction queries the same block.

    Returns:
        None if the block or the time is unknown, or the chain was younger than that.
    """
    if seconds_per_block is None or block_number is None:
        return None
    hour = round(_SECONDS_PER_HOUR / seconds_per_block)
    earlier = block_number // hour * hour - blocks_a_day(seconds_per_block)
    return earlier if earlier >= 0 else None


def blocks_a_day(seconds_per_block: float) -> int:
    """Blocks of 24 hours, a whole number in each hour."""
    return _HOURS_PER_DAY * round(_SECONDS_PER_HOUR / seconds_per_block)
