"""The chains known by name: one record each."""

from typing import Final, NamedTuple

_SECONDS_PER_HOUR = 3_600
_HOURS_PER_DAY = 24


class Network(NamedTuple):
    """A chain.

    Attributes:
        name: as in findings.
        seconds_per_block: approximate; the present value if it has changed over the years.
    """

    name: str
    seconds_per_block: float


NETWORKS: Final = {
    1: Network("ethereum", 12),
    10: Network("optimism", 2),
    56: Network("bsc", 0.75),
    137: Network("polygon", 2),
    250: Network("fantom", 1),
    42161: Network("arbitrum", 0.25),
    43114: Network("avalanche", 2),
}
"""By chain id."""


def block_a_day_before(block_number: int | None, chain_id: int) -> int | None:
    """A block between 24 and 25 hours older, the same one for all blocks of an hour.

    Queries about it can then be answered from the cache for an hour, and every scan node that
    handles a transaction queries the same block.

    Returns:
        None if the block or the chain is unknown, or the chain was younger than that.
    """
    network = NETWORKS.get(chain_id)
    if network is None or block_number is None:
        return None
    hour = round(_SECONDS_PER_HOUR / network.seconds_per_block)
    earlier = (block_number // hour - _HOURS_PER_DAY) * hour
    return earlier if earlier >= 0 else None
