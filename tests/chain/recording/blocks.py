"""Blocks made up for tests, and recordings of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.chain.recording.format import TokenAnswers, open_writer
from src.chain.recording.rows import (
    BlockRows,
    RecordedBlock,
    encode_block,
)
from src.chain.transfers import TRANSFER_TOPIC

TOKEN = "0x" + "70" * 20

SENDER, RECIPIENT = "0x" + "a1" * 20, "0x" + "b2" * 20

WORD = "0x" + "0" * 24


def block_hash(number: int, fork: int = 0) -> str:
    return f"0x{fork:032x}{number:032x}"


def make_log(index: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "address": TOKEN,
        "topics": [TRANSFER_TOPIC, WORD + SENDER[2:], WORD + RECIPIENT[2:]],
        "data": f"0x{2**256 - 1:064x}",
        "logIndex": hex(index),
        "removed": False,
    } | changes


def make_block(
    number: int,
    logs: list[dict[str, Any]] | None = None,
    *,
    fork: int = 0,
    parent_fork: int = 0,
    transaction: dict[str, Any] | None = None,
    receipt: dict[str, Any] | None = None,
) -> RecordedBlock:
    """A block with one transaction with these logs."""
    position = {"blockHash": block_hash(number, fork), "blockNumber": hex(number)}
    transaction_hash = f"0x{fork:032x}{number + 2**64:032x}"
    sent = position | {
        "hash": transaction_hash,
        "transactionIndex": "0x0",
        "from": SENDER,
        "to": TOKEN,
        "nonce": hex(number),
        "value": "0x0",
        "gas": "0x30d40",
        "gasPrice": "0x3b9aca00",
        "type": "0x0",
        "input": "0xa9059cbb",
    }
    received = position | {
        "transactionHash": transaction_hash,
        "transactionIndex": "0x0",
        "from": SENDER,
        "to": TOKEN,
        "gasUsed": "0x5208",
        "cumulativeGasUsed": "0x5208",
        "effectiveGasPrice": "0x3b9aca00",
        "status": "0x1",
        "type": "0x0",
        "contractAddress": None,
        "logsBloom": "0x" + "00" * 256,
        "logs": [make_log()] if logs is None else logs,
    }
    block = {
        "number": hex(number),
        "hash": block_hash(number, fork),
        "parentHash": block_hash(number - 1, parent_fork),
        "timestamp": hex(1_700_000_000 + 12 * number),
        "transactions": [sent | (transaction or {})],
    }
    return RecordedBlock(block, [received | (receipt or {})])


def rows_of(number: int, **changes: Any) -> BlockRows:
    return encode_block(make_block(number, **changes), receipts_root_verified=True)


def write_blocks(
    folder: Path, *numbers: int, chain_id: int = 1, tokens: Sequence[TokenAnswers] = ()
) -> None:
    with open_writer(folder, chain_id) as writer:
        for number in numbers:
            writer.add(rows_of(number))
        writer.write(tokens)
