"""Transactions and their token transfers as two plain tables, the input of training.

Two kinds of folder have the same tables: a recording by `npm run record`, and the *data-set layout*
with `transactions.parquet` and `transfers.parquet`, which researchers exchange.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from src.chain.recording.format import Recording, is_recording, read_table
from src.chain.recording.rows import token_standard
from src.chain.transfers import TRANSFER_TOPIC, decode_event

TRANSACTIONS_FILE = "transactions.parquet"
TRANSFERS_FILE = "transfers.parquet"

TRANSFER_SCHEMA = pa.schema(
    [
        ("tx_hash", pa.string()),
        ("log_index", pa.int64()),
        ("token_address", pa.string()),  # of a native transfer the emitter of its log
        ("from_address", pa.string()),
        ("to_address", pa.string()),
        ("value_raw", pa.string()),  # decimal uint256; of an ERC-721 transfer the token's id
        ("token_std", pa.string()),  # "erc20", "erc721" or "native"
        ("source", pa.string()),
    ]
)

_SOURCE = "recording"
_SELECTOR_CHARACTERS = 10  # 0x and four bytes
_LOG_COLUMNS = ["tx_hash", "log_index", "address", "topic0", "topic1", "topic2", "topic3", "data"]
_TRANSACTION_COLUMNS = [
    "tx_hash",
    "block_number",
    "block_timestamp",
    "from_address",
    "to_address",
    "value_wei",
    "gas_used",
    "gas_price",
    "status",
    "tx_index",
    "nonce",
    "input",
    "tx_type",
    "n_logs",
    "n_erc20_transfers",
    "n_erc721_transfers",
    "n_other_transfer_sig",
    "block_hash",
]


def is_dataset(folder: Path) -> bool:
    """Whether the folder has the data-set layout."""
    return (folder / TRANSACTIONS_FILE).is_file() and (folder / TRANSFERS_FILE).is_file()


def load_transactions(folder: Path) -> pa.Table:
    """One row per transaction, in the data-set layout, from either kind of folder.

    Columns: tx_hash, block_number, block_timestamp (Unix seconds), from_address, to_address, nonce,
    value_wei and gas_price (decimal strings, wei), gas_used, status, tx_index, tx_type,
    input_selector, n_logs, n_erc20_transfers, n_erc721_transfers, n_other_transfer_sig, block_hash,
    source, full_block, all_logs, all_transfers, receipts_root_verified, ts_interpolated.

    Raises:
        RecordingError: the folder is neither kind, or cannot be read.
    """
    if not is_recording(folder):
        return read_table(folder / TRANSACTIONS_FILE)
    recording = Recording(folder)
    table = recording.transactions(_TRANSACTION_COLUMNS)
    blocks = recording.blocks(["block_number", "receipts_root_verified"])
    selector = pc.utf8_slice_codeunits(table["input"], 0, _SELECTOR_CHARACTERS)
    table = table.drop_columns("input").append_column("input_selector", selector)
    verified = blocks["receipts_root_verified"].take(
        pc.index_in(table["block_number"], blocks["block_number"])
    )
    table = table.append_column("receipts_root_verified", verified)
    rows = table.num_rows
    for name in ("full_block", "all_logs", "all_transfers"):
        table = table.append_column(name, pa.repeat(True, rows))
    table = table.append_column("ts_interpolated", pa.repeat(False, rows))
    return table.append_column("source", pa.repeat(_SOURCE, rows))


def load_transfers(folder: Path) -> pa.Table:
    """One row per token transfer (`TRANSFER_SCHEMA`), from either kind of folder.

    Raises:
        RecordingError: the folder is neither kind, or cannot be read.
    """
    if not is_recording(folder):
        return read_table(folder / TRANSFERS_FILE)
    return pa.Table.from_batches(_transfers(Recording(folder)), TRANSFER_SCHEMA)


def _transfers(recording: Recording) -> Iterator[pa.RecordBatch]:
    """One batch per part."""
    for part in recording.parts:
        logs = read_table(part.path / "logs.parquet", _LOG_COLUMNS)
        logs = logs.filter(pc.equal(logs["topic0"], TRANSFER_TOPIC))
        rows = []
        for log in logs.to_pylist():
            topics = [log[f"topic{i}"] for i in range(4)]
            standard = token_standard(log["address"], topics, log["data"])
            if standard not in ("erc20", "erc721", "native"):
                continue
            given = [topic for topic in topics if topic is not None]
            event = decode_event(log["address"], given, log["data"], log["log_index"])
            if event is None:  # ERC-721: the token id is indexed
                payer, payee = "0x" + topics[1][-40:], "0x" + topics[2][-40:]
                amount = int(topics[3], 16)
            else:
                _, payer, payee, amount, _ = event
            row = {
                "tx_hash": log["tx_hash"],
                "log_index": log["log_index"],
                "token_address": log["address"],
                "from_address": payer,
                "to_address": payee,
                "value_raw": str(amount),
                "token_std": standard,
                "source": _SOURCE,
            }
            rows.append(row)
        yield pa.RecordBatch.from_pylist(rows, TRANSFER_SCHEMA)
