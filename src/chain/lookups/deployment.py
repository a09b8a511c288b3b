"""Whether a contract existed at an earlier block: `eth_getCode` there."""

from src.chain.clients.rpc import JsonRpcClient
from src.chain.erc20 import returned_bytes
from src.chain.errors import MalformedAnswer, PassingError, RequestRefused, SourceUnavailable
from src.chain.facts import CodeAt

SOURCE = "node history"
"""Not "node": many nodes answer everything but this."""


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
