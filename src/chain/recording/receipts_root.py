"""The receipts root of a block: proof that no receipt and no log of it is missing or altered.

A header commits to its receipts by the root of a Merkle-Patricia trie that maps a transaction's
index to its receipt (yellow paper 4.4.2; typed receipts: EIP-2718; status in place of the
intermediate state root since Byzantium: EIP-658).

All entries are known in advance, so the root is hashed from the leaves up without building a trie.
This takes a fraction of the time of py-trie, which the tests compare it with and whose use
dominated the cost of recording a block.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

import rlp
from eth_utils.crypto import keccak

from src.chain.quantities import as_bytes
from src.files import reason

_LEGACY = 0
_DEPOSIT = 0x7E
"""Of the OP stack (Base, Optimism ...). Since the Canyon upgrade two more fields enter the root:
https://specs.optimism.io/protocol/canyon/overview.html#deposit-transaction-receipt-hash"""
_HASH_BYTES = 32
_BLOOM_BITS = 2048
_BRANCHES = "0123456789abcdef"

_Entry = tuple[str, bytes]  # key as hex digits, value


class Outcome(Enum):
    """Which field of a receipt enters the root, if it has both."""

    STATUS = "status"
    ROOT = "root"


def has_state_root(receipt: Mapping[str, Any]) -> bool:
    """Whether a receipt has a post-state root; some nodes give an empty one beside the status."""
    root = receipt.get("root")
    return isinstance(root, str) and len(root) == 2 + 2 * _HASH_BYTES


def receipts_root(receipts: Sequence[Mapping[str, Any]], outcome: Outcome = Outcome.STATUS) -> str:
    """Compute the root over a block's receipts in JSON-RPC form, in transaction order.

    Args:
        receipts: all of the block.
        outcome: the field that entered the root, of receipts that have both.

    Returns:
        The root as lowercase `0x` + 64 hex digits, to compare with the header's `receiptsRoot`.

    Raises:
        ValueError: a field that enters the root is missing or is not hexadecimal.
    """
    entries: list[_Entry] = []
    for index, receipt in enumerate(receipts):
        try:
            entries.append((_rlp(_integer(index)).hex(), _encoded(receipt, outcome)))
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ValueError(f"receipt {index} is malformed: {reason(error)}") from error
    entries.sort()
    return "0x" + keccak(_node(entries, 0) if entries else _rlp(b"")).hex()


def _encoded(receipt: Mapping[str, Any], outcome: Outcome) -> bytes:
    by_root = receipt.get("status") is None or outcome is Outcome.ROOT
    if by_root and has_state_root(receipt):  # before Byzantium
        result = _content(receipt["root"])
    else:
        result = _integer(int(receipt["status"], 16))
    logs = [
        [_content(log["address"]), [*map(_content, log["topics"])], _content(log["data"])]
        for log in receipt["logs"]
    ]
    cumulative_gas = _integer(int(receipt["cumulativeGasUsed"], 16))
    bloom = receipt.get("logsBloom") or _bloom(receipt["logs"])  # some nodes leave it out
    fields: list[Any] = [result, cumulative_gas, _content(bloom), logs]
    kind = int(receipt.get("type") or "0x0", 16)
    if kind == _DEPOSIT and receipt.get("depositReceiptVersion") is not None:
        names = ("depositNonce", "depositReceiptVersion")
        fields += [_integer(int(receipt[name], 16)) for name in names]
    body = _rlp(fields)
    return body if kind == _LEGACY else bytes([kind]) + body


def _bloom(logs: Iterable[Mapping[str, Any]]) -> str:
    """The bloom filter over the addresses and topics of logs (yellow paper 4.4.1)."""
    bits = 0
    for log in logs:
        for item in (log["address"], *log["topics"]):
            digest = keccak(hexstr=item)
            for start in (0, 2, 4):
                bits |= 1 << int.from_bytes(digest[start : start + 2]) % _BLOOM_BITS
    return f"0x{bits:0{_BLOOM_BITS // 4}x}"


def _node(entries: Sequence[_Entry], depth: int) -> bytes:
    """The RLP of the node over these entries, sorted by keys with a common prefix of `depth`.

    No key is a prefix of another one, since RLP is prefix-free, so branches have no values.
    """
    first, value = entries[0]
    if len(entries) == 1:
        return _rlp([_path(first[depth:], leaf=True), value])
    last, _ = entries[-1]
    shared = depth
    while first[shared] == last[shared]:
        shared += 1
    if shared > depth:
        path = _path(first[depth:shared], leaf=False)
        return _rlp([path, _reference(_node(entries, shared))])
    below = [[entry for entry in entries if entry[0][depth] == digit] for digit in _BRANCHES]
    children = [_reference(_node(some, depth + 1)) if some else b"" for some in below]
    return _rlp([*children, b""])


def _reference(node: bytes) -> Any:
    """What a parent has of a node: the node itself if it is short, else its hash."""
    return rlp.decode(node) if len(node) < _HASH_BYTES else keccak(node)


def _path(digits: str, *, leaf: bool) -> bytes:
    """Hex digits of a key with their flag, in whole bytes (yellow paper, appendix C)."""
    flag = 2 * leaf + len(digits) % 2
    return bytes.fromhex(f"{flag}{digits}" if flag % 2 else f"{flag}0{digits}")


def _content(text: str) -> bytes:
    content = as_bytes(text)
    if content is None:
        raise ValueError("not hexadecimal")
    return content


def _integer(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)


def _rlp(item: Any) -> bytes:
    """The RLP of bytes, or of lists of them."""
    encoded: bytes = rlp.encode(item, infer_serializer=False)
    return encoded
