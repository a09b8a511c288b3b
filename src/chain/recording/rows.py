"""Blocks, transactions and logs as flat table rows, without loss.

A node's response is a tree of JSON objects; a recording stores it as three tables that any parquet
reader can query. The column `extra` holds, as JSON, only the *difference* between the node's object
and the object that can be rebuilt from the other columns. So `decode_block(encode_block(x)) == x`
for every field that a node sends, known or unknown, and `extra` holds little but signatures, blooms
and chain-specific fields.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from src.chain.transfers import NATIVE_EMITTERS, TRANSFER_TOPIC, decode_event, normalise_address

Json = dict[str, Any]
Row = dict[str, Any]

ANY_BLOOM = "0x" + "ff" * 256
"""A bloom filter that matches everything, for blocks whose true one is unknown."""

_INT64_MAX = 2**63 - 1
_HASH = re.compile(r"0x[0-9a-fA-F]{64}")
_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")
_TOPICS = ("topic0", "topic1", "topic2", "topic3")

BLOCK_SCHEMA = pa.schema(
    [
        ("block_number", pa.int64()),
        ("block_hash", pa.string()),
        ("parent_hash", pa.string()),
        ("block_timestamp", pa.int64()),  # Unix seconds
        ("n_transactions", pa.int64()),
        ("receipts_root_verified", pa.bool_()),
        ("header", pa.string()),  # JSON: the block without its transactions
    ]
)
TRANSACTION_SCHEMA = pa.schema(
    [
        ("tx_hash", pa.string()),
        ("block_number", pa.int64()),
        ("block_timestamp", pa.int64()),
        ("block_hash", pa.string()),
        ("tx_index", pa.int64()),
        ("from_address", pa.string()),
        ("to_address", pa.string()),  # null: creates a contract
        ("nonce", pa.int64()),
        ("value_wei", pa.string()),  # decimal
        ("gas_limit", pa.int64()),
        ("gas_used", pa.int64()),
        ("cumulative_gas_used", pa.int64()),
        ("gas_price", pa.string()),  # decimal, wei: what was paid
        ("status", pa.int64()),  # null before Byzantium
        ("tx_type", pa.int64()),
        ("contract_address", pa.string()),
        ("input", pa.string()),
        ("n_logs", pa.int64()),
        ("n_erc20_transfers", pa.int64()),
        ("n_erc721_transfers", pa.int64()),
        ("n_other_transfer_sig", pa.int64()),
        ("transaction_extra", pa.string()),
        ("receipt_extra", pa.string()),
    ]
)
LOG_SCHEMA = pa.schema(
    [
        ("block_number", pa.int64()),
        ("tx_index", pa.int64()),
        ("log_index", pa.int64()),
        ("tx_hash", pa.string()),
        ("address", pa.string()),
        *[(topic, pa.string()) for topic in _TOPICS],
        ("data", pa.string()),
        ("extra", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class RecordedBlock:
    """One block as returned by a node."""

    block: Json  # `eth_getBlockByNumber(number, true)`
    # Its transactions' receipts with their logs, in the order of the transactions.
    receipts: list[Json]


@dataclass(frozen=True, slots=True)
class BlockRows:
    """One block's rows, of `BLOCK_SCHEMA`, `TRANSACTION_SCHEMA` and `LOG_SCHEMA`."""

    block: Row
    transactions: list[Row]
    logs: list[Row]


def encode_block(recorded: RecordedBlock, *, receipts_root_verified: bool) -> BlockRows:
    """Turn a block into rows.

    Raises:
        ValueError: a field that identifies the block, a transaction or a log is missing or
            malformed, or the receipts do not match the transactions.
    """
    block = recorded.block
    number, timestamp = _required(block, "number"), _required(block, "timestamp")
    transactions = block.get("transactions")
    if not isinstance(transactions, list) or len(transactions) != len(recorded.receipts):
        raise ValueError(f"block {number}: the numbers of receipts and transactions differ")
    header = {key: value for key, value in block.items() if key != "transactions"}
    block_row: Row = {
        "block_number": number,
        "block_hash": _hash(block, "hash"),
        "parent_hash": _hash(block, "parentHash"),
        "block_timestamp": timestamp,
        "n_transactions": len(transactions),
        "receipts_root_verified": receipts_root_verified,
        "header": _dump(header),
    }
    rows = BlockRows(block_row, [], [])
    for index, transaction in enumerate(transactions):
        receipt = recorded.receipts[index]
        if not isinstance(receipt, dict):
            raise ValueError(f"block {number}: receipt {index} is not an object")
        row = _transaction_row(index, transaction, receipt, block_row)
        rows.transactions.append(row)
        rows.logs.extend(_log_row(log, row) for log in logs_of(receipt) or ())
    return rows


def decode_block(rows: BlockRows) -> RecordedBlock:
    """The inverse of `encode_block`; rows in the order of the block."""
    logs: dict[int, list[Json]] = {}
    by_index = {row["tx_index"]: row for row in rows.transactions}
    for row in rows.logs:
        transaction = by_index[row["tx_index"]]
        log = _patched(_plain_log(row, transaction), row["extra"])
        logs.setdefault(row["tx_index"], []).append(log)
    transactions, receipts = [], []
    for row in rows.transactions:
        transactions.append(_patched(_plain_transaction(row), row["transaction_extra"]))
        receipt = _patched(_plain_receipt(row), row["receipt_extra"])
        receipts.append(receipt | {"logs": logs.get(row["tx_index"], [])})
    header: Json = json.loads(rows.block["header"])
    return RecordedBlock(header | {"transactions": transactions}, receipts)


def logs_of(receipt: Json) -> list[Json] | None:
    """The logs of a receipt, where nodes in Go say null for none; None if they are malformed."""
    logs = receipt.get("logs", 0)
    logs = [] if logs is None else logs
    return logs if isinstance(logs, list) and all(isinstance(log, dict) for log in logs) else None


def token_standard(address: Any, topics: Sequence[str | None], data: Any) -> str | None:
    """The kind of a Transfer log: "erc20", "erc721", "native" (see `chain.transfers`), "unknown"
    (the Transfer signature with topics of no standard), or None for other logs.
    """
    given = [topic for topic in topics if topic is not None]
    if not given or not isinstance(given[0], str) or given[0].lower() != TRANSFER_TOPIC:
        return None
    is_native = normalise_address(address) in NATIVE_EMITTERS
    if decode_event("0x" + "0" * 40, given, data, 0) is not None:
        return "native" if is_native else "erc20"
    return "erc721" if len(given) == 4 and data == "0x" else "unknown"


def _transaction_row(index: int, transaction: Json, receipt: Json, block: Row) -> Row:
    transaction_hash = _hash(transaction, "hash")
    if _required(transaction, "transactionIndex") != index:
        raise ValueError(f"transaction {transaction_hash} does not have its index {index}")
    if _hash(receipt, "transactionHash") != transaction_hash:
        raise ValueError(
            f"the receipt of transaction {transaction_hash} belongs to another transaction"
        )
    if not block["block_hash"] == _hash(transaction, "blockHash") == _hash(receipt, "blockHash"):
        raise ValueError(f"transaction {transaction_hash} or its receipt belongs to another block")
    logs = logs_of(receipt)
    if logs is None:
        raise ValueError(f"the receipt of transaction {transaction_hash} has no list of logs")
    standards = [token_standard(log.get("address"), _topics(log), log.get("data")) for log in logs]
    row: Row = {
        "tx_hash": transaction_hash,
        "block_number": block["block_number"],
        "block_timestamp": block["block_timestamp"],
        "block_hash": block["block_hash"],
        "tx_index": index,
        "from_address": normalise_address(transaction.get("from")),
        "to_address": normalise_address(transaction.get("to")),
        "nonce": _int64(transaction.get("nonce")),
        "value_wei": _decimal(transaction.get("value")),
        "gas_limit": _int64(transaction.get("gas")),
        "gas_used": _int64(receipt.get("gasUsed")),
        "cumulative_gas_used": _int64(receipt.get("cumulativeGasUsed")),
        "gas_price": _decimal(receipt.get("effectiveGasPrice", transaction.get("gasPrice"))),
        "status": _int64(receipt.get("status")),
        "tx_type": _int64(transaction.get("type")),
        "contract_address": normalise_address(receipt.get("contractAddress")),
        "input": _text(transaction.get("input")),
        "n_logs": len(logs),
        "n_erc20_transfers": standards.count("erc20"),
        "n_erc721_transfers": standards.count("erc721"),
        "n_other_transfer_sig": standards.count("unknown"),
    }
    receipt = {key: value for key, value in receipt.items() if key != "logs"}
    row["transaction_extra"] = _difference(transaction, _plain_transaction(row))
    row["receipt_extra"] = _difference(receipt, _plain_receipt(row))
    return row


def _log_row(log: Json, transaction: Row) -> Row:
    topics = _topics(log)
    row: Row = {
        "block_number": transaction["block_number"],
        "tx_index": transaction["tx_index"],
        "log_index": _required(log, "logIndex"),
        "tx_hash": transaction["tx_hash"],
        "address": normalise_address(log.get("address")),
        **dict(zip(_TOPICS, [*topics, *[None] * 4][:4], strict=True)),
        "data": _text(log.get("data")),
    }
    row["extra"] = _difference(log, _plain_log(row, transaction))
    return row


def _plain_transaction(row: Row) -> Json:
    """The transaction rebuilt from the columns without `extra`."""
    return _position(row) | {
        "hash": row["tx_hash"],
        "from": row["from_address"],
        "to": row["to_address"],
        "nonce": _quantity(row["nonce"]),
        "value": _quantity(row["value_wei"]),
        "gas": _quantity(row["gas_limit"]),
        "gasPrice": _quantity(row["gas_price"]),
        "type": _quantity(row["tx_type"]),
        "input": row["input"],
    }


def _plain_receipt(row: Row) -> Json:
    """The receipt, without logs, rebuilt from the columns without `extra`."""
    return _position(row) | {
        "transactionHash": row["tx_hash"],
        "from": row["from_address"],
        "to": row["to_address"],
        "gasUsed": _quantity(row["gas_used"]),
        "cumulativeGasUsed": _quantity(row["cumulative_gas_used"]),
        "effectiveGasPrice": _quantity(row["gas_price"]),
        "status": _quantity(row["status"]),
        "type": _quantity(row["tx_type"]),
        "contractAddress": row["contract_address"],
        "logsBloom": ANY_BLOOM,
    }


def _plain_log(row: Row, transaction: Row) -> Json:
    """The log rebuilt from the columns without `extra`."""
    return _position(transaction) | {
        "transactionHash": row["tx_hash"],
        "blockTimestamp": _quantity(transaction["block_timestamp"]),
        "logIndex": _quantity(row["log_index"]),
        "address": row["address"],
        "topics": [row[topic] for topic in _TOPICS if row[topic] is not None],
        "data": row["data"],
        "removed": False,
    }


def _position(row: Row) -> Json:
    return {
        "blockHash": row["block_hash"],
        "blockNumber": _quantity(row["block_number"]),
        "transactionIndex": _quantity(row["tx_index"]),
    }


def _difference(actual: Mapping[str, Any], plain: Json) -> str | None:
    """The difference from `plain` to `actual` as JSON; None if they are equal."""
    change = {
        key: value
        for key, value in actual.items()
        if key not in plain or type(plain[key]) is not type(value) or plain[key] != value
    }
    absent = [key for key in plain if key not in actual]
    if not change and not absent:
        return None
    return _dump({"set": change, "absent": absent} if absent else {"set": change})


def _patched(plain: Json, extra: str | None) -> Json:
    if extra is None:
        return plain
    change: Json = json.loads(extra)
    result: Json = plain | change["set"]
    for key in change.get("absent", ()):
        del result[key]
    return result


def _dump(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _topics(log: Json) -> list[str]:
    topics = log.get("topics")
    if not isinstance(topics, list):
        return []
    # Normalised to lowercase; `extra` keeps the node's spelling.
    return [topic.lower() for topic in topics if _text(topic) is not None]


def _text(value: Any) -> str | None:
    # Parquet strings are UTF-8: other text, such as a lone surrogate, goes into `extra`.
    return value if isinstance(value, str) and value.isascii() else None


def _int64(value: Any) -> int | None:
    """A JSON-RPC quantity that fits into a column, or None: then `extra` keeps the original."""
    number = parse_quantity(value)
    return number if number is not None and number <= _INT64_MAX else None


def _decimal(value: Any) -> str | None:
    number = parse_quantity(value)
    return None if number is None else str(number)


def _quantity(value: int | str | None) -> str | None:
    """An integer or decimal string as a JSON-RPC quantity."""
    return None if value is None else hex(int(value))


def parse_quantity(value: Any) -> int | None:
    """The number of a JSON-RPC quantity of at most 256 bits ("0x1b4"), or None."""
    return int(value, 16) if isinstance(value, str) and _QUANTITY.fullmatch(value) else None


def _required(source: Json, key: str) -> int:
    number = _int64(source.get(key))
    if number is None:
        raise ValueError(f"{key} is missing or not a quantity")
    return number


def _hash(source: Json, key: str) -> str:
    value = source.get(key)
    if isinstance(value, str) and _HASH.fullmatch(value):
        return value.lower()
    raise ValueError(f"{key} is missing or not a hash")
