"""The receipts root of a block: proof that no receipt and no log of it is missing or altered.

A header commits to its receipts by the root of a Merkle-Patricia trie that maps a transaction's
index to its receipt (yellow paper 4.4.2; typed receipts: EIP-2718; status in place of the
intermediate state root since Byzantium: EIP-658).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import rlp  # type: ignore[import-untyped]
from trie.hexary import HexaryTrie

_LEGACY = 0


def receipts_root(receipts: Sequence[Mapping[str, Any]]) -> str:
    """Compute the root over a block's receipts, as JSON-RPC gives them, in transaction order.

    Returns:
        The root as lowercase `0x` + 64 hex digits, to compare with the header's `receiptsRoot`.

    Raises:
        ValueError: a field that enters the root is missing or is not hexadecimal.
    """
    trie = HexaryTrie({}, prune=True)
    for index, receipt in enumerate(receipts):
        try:
            trie[rlp.encode(index)] = _encoded(receipt)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"receipt {index} is misshapen: {error!r}") from error
    return "0x" + trie.root_hash.hex()


def _encoded(receipt: Mapping[str, Any]) -> bytes:
    outcome: bytes | int
    if receipt.get("root") is not None:  # before Byzantium: the state root after the transaction
        outcome = _bytes(receipt["root"])
    else:
        outcome = int(receipt["status"], 16)
    logs = [
        [_bytes(log["address"]), [_bytes(topic) for topic in log["topics"]], _bytes(log["data"])]
        for log in receipt["logs"]
    ]
    cumulative_gas = int(receipt["cumulativeGasUsed"], 16)
    body: bytes = rlp.encode([outcome, cumulative_gas, _bytes(receipt["logsBloom"]), logs])
    kind = int(receipt.get("type") or "0x0", 16)
    return body if kind == _LEGACY else bytes([kind]) + body


def _bytes(value: str) -> bytes:
    if not value.startswith("0x"):
        raise ValueError("no 0x prefix")
    return bytes.fromhex(value[2:])
