"""Whether a contract existed at an earlier block: `eth_getCode` there, and which block that is."""

from collections.abc import Mapping
from typing import Final

from src.chain.clients.rpc import JsonRpcClient
from src.chain.erc20 import returned_bytes
from src.chain.errors import MalformedAnswer, PassingError, RequestRefused, SourceUnavailable
from src.chain.facts import CodeAt
from src.chain.networks import block_a_day_before
from src.chain.quantities import as_int

SOURCE = "node history"
"""Not "node": many nodes answer everything but this."""

PRESENT_SECONDS: Final = 7 * 86_400
"""How long a block counts as of now, with the chain's present time between blocks."""

_MAX_PACE = 3_600.0


def time_of(node: JsonRpcClient, key: str) -> int:
    """When a block was made, Unix seconds; `key` is its number.

    Raises:
        SourceError: no usable answer.
    """
    block = node.call("eth_getBlockByNumber", [hex(int(key)), False])
    time = as_int(block.get("timestamp")) if isinstance(block, dict) else None
    if time is None:
        raise MalformedAnswer("node", "block without a time")
    return time


def measured_day_before(
    block: int, blocks: tuple[int, int], times: Mapping[str, int]
) -> int | None:
    """A block a day older, by the pace between two earlier `blocks` whose `times` are known.

    None if they are not, or do not say.
    """
    began, ended = (times.get(str(number)) for number in blocks)
    if began is None or ended is None or blocks[0] == blocks[1]:
        return None
    pace = (ended - began) / (blocks[1] - blocks[0])
    return block_a_day_before(block, pace) if 0 < pace < _MAX_PACE else None


def question(contract: str, block: int) -> str:
    """The key of this question among those in flight."""
    return f"{contract}@{block}"


def code_at(node: JsonRpcClient, key: str) -> CodeAt:
    """Ask the node.

    It must be an archive node, or keep the states of the last day. See `question` for the key.

    Raises:
        SourceUnavailable: the node does not have that block's state, in whatever words ("missing
            trie node", "header not found", null): it will not have the next one's either.
        SourceError: no answer.
    """
    contract, _, block = key.partition("@")
    try:
        code = returned_bytes(node.call("eth_getCode", [contract, hex(int(block))]))
    except (RequestRefused, MalformedAnswer, PassingError) as error:
        raise SourceUnavailable(SOURCE, f"no code at block {block}: {error.problem}") from None
    return CodeAt(contract, int(block), exists=bool(code))
