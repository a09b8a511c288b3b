"""An account's first outgoing transaction, by a search over its nonce at past blocks."""

from typing import Any

from src.chain.clients.deadline import Deadline
from src.chain.clients.rpc import JsonRpcClient
from src.chain.errors import MalformedAnswer, NotFound
from src.chain.facts import FirstTransaction, first_transaction
from src.chain.quantities import as_int

SOURCE = "node"

_STRIDE = 16


def first_outgoing_transaction(
    node: JsonRpcClient,
    address: str,
    block_number: int | None = None,
    deadline: Deadline | None = None,
) -> FirstTransaction:
    """The time of the first block up to `block_number` that holds a transaction sent by `address`.

    The nonce only grows, so steps of growing length back from `block_number` and a binary search
    in the last step find it: three requests for an account that is new in that block, about 30 for
    the oldest. Incoming transactions do not count.

    Args:
        node: an archive node; others answer for accounts younger than the states they keep.
        address: the account.
        block_number: the last block looked at; None for the newest.
        deadline: when to give up.

    Raises:
        NotFound: `address` has sent nothing up to that block.
        SourceError: no usable answer; `RequestRefused` from a node without old states.
    """

    def ask(method: str, *params: Any) -> Any:
        return node.call(method, list(params), deadline)

    def has_sent(block: int) -> bool:
        return _quantity(ask("eth_getTransactionCount", address, hex(block))) > 0

    last = _quantity(ask("eth_blockNumber")) if block_number is None else block_number
    low, high = 0, last
    distance = 1
    while high > 0:
        earlier = max(0, last - distance)
        if not has_sent(earlier):
            low = earlier + 1
            break
        high = earlier
        distance *= _STRIDE
    if high == last and not has_sent(last):
        raise NotFound("the address has sent no transaction")
    while low < high:
        middle = (low + high) // 2
        if has_sent(middle):
            high = middle
        else:
            low = middle + 1
    block = ask("eth_getBlockByNumber", hex(high), False)
    if not isinstance(block, dict):
        raise MalformedAnswer(SOURCE, "block missing")
    return first_transaction(SOURCE, _quantity(block.get("timestamp")))


def _quantity(value: Any) -> int:
    """A JSON-RPC quantity such as "0x1b4"."""
    if isinstance(value, str) and value.startswith("0x") and len(value) <= 18:
        number = as_int(value)
        if number is not None:
            return number
    raise MalformedAnswer(SOURCE, "not a quantity")
