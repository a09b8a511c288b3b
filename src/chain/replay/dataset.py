"""Serves the data-set layout as a chain, with neutral values for unrecorded fields.

The layout contains transactions and their Transfer logs, not whole blocks. Recorded, and served
unchanged: hashes, numbers, timestamps, positions, sender, recipient, nonce, value, gas used, gas
price, status, type, the first four bytes of the input, Transfer logs. Synthesised, so that clients
find every field in its JSON-RPC shape:

- blooms that exclude nothing, as other logs may exist; zero roots, difficulty, miner, signatures;
- `parentHash`: the recorded hash of the block before, else zero;
- `gas` is the gas used, `maxFeePerGas` the price paid; block and cumulative gas are sums over the
  recorded transactions;
- a nonce, value or gas used that is unknown is 0; a status that is unknown is absent;
- `input` ends after its selector.

Transactions without a recorded sender, position or block hash (exports that hold transfers only)
are not served, since their sender would have to be invented.
"""

import json
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from eth_abi.abi import encode

from src.chain.recording.dataset import load_transactions, load_transfers
from src.chain.recording.format import RecordingError, Tables, TokenAnswers
from src.chain.recording.rows import ANY_BLOOM, BLOCK_SCHEMA, LOG_SCHEMA, TRANSACTION_SCHEMA, Json
from src.chain.transfers import TRANSFER_TOPIC
from src.files import read_gzip, reason

TOKENS_FILE = "tokens.csv.gz"
MAINNET = 1

_ZERO_HASH = "0x" + "0" * 64
_NO_UNCLES_HASH = "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"
_WORD_OF_ADDRESS = "0x" + "0" * 24
_NEEDED = ("from_address", "tx_index", "block_hash", "gas_price")


class DatasetSource:
    """A folder in the data-set layout, as a `BlockSource`; held in memory."""

    chain_id = MAINNET

    def __init__(self, folder: Path) -> None:
        """Load the folder.

        Raises:
            RecordingError: a file cannot be read or misses a column.
        """
        self._folder = folder
        try:
            rows = load_transactions(folder)
            self.left_out = rows.num_rows
            for column in _NEEDED:
                rows = rows.filter(pc.is_valid(rows[column]))
            self.left_out -= rows.num_rows
            rows = rows.sort_by([("block_number", "ascending"), ("tx_index", "ascending")])
            gas_used = pc.fill_null(rows["gas_used"], 0)
            rows = rows.set_column(rows.column_names.index("gas_used"), "gas_used", gas_used)
            transactions = _transactions(rows)
            logs = _logs(load_transfers(folder), transactions)
            self._tables = Tables(_blocks(rows), transactions, logs)
            complete = rows.filter(rows["full_block"])["block_number"].to_pylist()
        except (KeyError, pa.ArrowException, ValueError) as error:
            if isinstance(error, RecordingError):
                raise
            raise RecordingError(
                f"{folder}: is not in the data-set layout: {reason(error)}"
            ) from error
        self.incomplete_blocks = frozenset(rows["block_number"].to_pylist()) - set(complete)

    def blocks(self, columns: list[str]) -> pa.Table:
        """These columns of all blocks, ordered by number."""
        return self._tables.blocks.select(columns)

    def transactions(self, columns: list[str]) -> pa.Table:
        """These columns of all transactions, ordered by block and index."""
        return self._tables.transactions.select(columns)

    def tables_of(self, number: int) -> Tables:  # noqa: ARG002 - one table holds them all
        """The tables that hold the block."""
        return self._tables

    def tokens(self) -> dict[str, TokenAnswers]:
        """The metadata in `tokens.csv.gz`, if it exists."""
        return self._tokens

    @cached_property
    def _tokens(self) -> dict[str, TokenAnswers]:
        path = self._folder / TOKENS_FILE
        if not path.exists():
            return {}
        try:
            content = pa.BufferReader(read_gzip(path))
            table = pa_csv.read_csv(content).select(["address", "name", "symbol", "decimals"])
            rows = table.to_pylist()
        except (OSError, KeyError, pa.ArrowException) as error:
            raise RecordingError(f"{path}: cannot be read: {reason(error)}") from error
        return {
            row["address"].lower(): TokenAnswers(
                row["address"].lower(),
                _text_answer(row["name"]),
                _text_answer(row["symbol"]),
                None if row["decimals"] is None else _answer("uint256", int(row["decimals"])),
            )
            for row in rows
            if row["address"]
        }


def _transactions(rows: pa.Table) -> pa.Table:
    count = rows.num_rows
    zeros = pa.repeat(0, count)
    columns = {name: rows[name] for name in rows.column_names if name in TRANSACTION_SCHEMA.names}
    columns |= {
        "nonce": rows["nonce"],
        "value_wei": pc.fill_null(rows["value_wei"], "0"),
        "gas_limit": rows["gas_used"],
        "cumulative_gas_used": _running_sum(rows["block_number"], rows["gas_used"]),
        "tx_type": pc.fill_null(rows["tx_type"], 0),
        "contract_address": pa.nulls(count, pa.string()),
        "input": pc.fill_null(rows["input_selector"], "0x"),
        "n_logs": pc.fill_null(rows["n_logs"], 0),
        "n_erc721_transfers": pc.fill_null(rows["n_erc721_transfers"], 0),
        "n_other_transfer_sig": pc.fill_null(rows["n_other_transfer_sig"], 0),
        "transaction_extra": _transaction_extras(rows),
        "receipt_extra": _receipt_extras(rows),
    }
    columns = {name: columns.get(name, zeros) for name in TRANSACTION_SCHEMA.names}
    return pa.table(columns).cast(TRANSACTION_SCHEMA).combine_chunks()


def _transaction_extras(rows: pa.Table) -> list[str]:
    extras = []
    columns = [rows[name].to_pylist() for name in ("tx_type", "gas_price", "nonce")]
    for kind, price, nonce in zip(*columns, strict=True):
        change: Json = {"v": "0x0", "r": "0x0", "s": "0x0"}
        if nonce is None:
            change["nonce"] = "0x0"
        if kind:
            change |= {"chainId": hex(MAINNET), "accessList": [], "yParity": "0x0"}
        if kind and kind > 1:
            change |= {"maxFeePerGas": hex(int(price)), "maxPriorityFeePerGas": "0x0"}
        extras.append(json.dumps({"set": change}))
    return extras


def _receipt_extras(rows: pa.Table) -> list[str | None]:
    without_status = json.dumps({"set": {}, "absent": ["status"]})
    return [without_status if status is None else None for status in rows["status"].to_pylist()]


def _running_sum(groups: pa.ChunkedArray, values: pa.ChunkedArray) -> pa.Array:
    """The sum of `values` so far within each run of equal `groups`."""
    group, value = groups.to_numpy(), values.to_numpy()
    total = np.cumsum(value)
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    before = (total - value)[starts]
    lengths = np.diff(np.append(starts, len(group)))
    return pa.array(total - np.repeat(before, lengths))


def _blocks(rows: pa.Table) -> pa.Table:
    """The blocks of the transactions, with the known fields in their headers."""
    keys = ["block_number", "block_hash", "block_timestamp", "receipts_root_verified"]
    grouped = rows.group_by("block_number", use_threads=False).aggregate(
        [(key, "first") for key in keys[1:]] + [("gas_used", "sum"), ("tx_hash", "count")]
    )
    blocks = []
    hash_of: dict[int, str] = {}
    for row in grouped.sort_by("block_number").to_pylist():
        number, block_hash = row["block_number"], row["block_hash_first"]
        timestamp, parent_hash = row["block_timestamp_first"], hash_of.get(number - 1, _ZERO_HASH)
        hash_of[number] = block_hash
        header = _header(number, block_hash, parent_hash, timestamp, row["gas_used_sum"])
        block = {
            "block_number": number,
            "block_hash": block_hash,
            "parent_hash": parent_hash,
            "block_timestamp": timestamp,
            "n_transactions": row["tx_hash_count"],
            "receipts_root_verified": row["receipts_root_verified_first"],
            "header": json.dumps(header),
        }
        blocks.append(block)
    return pa.Table.from_pylist(blocks, BLOCK_SCHEMA)


def _header(number: int, block_hash: str, parent_hash: str, timestamp: int, gas_used: int) -> Json:
    """A header as far as a data set knows it: without its roots, which would prove something."""
    return {
        "number": hex(number),
        "hash": block_hash,
        "parentHash": parent_hash,
        "timestamp": hex(timestamp),
        "gasUsed": hex(gas_used),
        "gasLimit": hex(gas_used),
        "nonce": "0x" + "0" * 16,
        "sha3Uncles": _NO_UNCLES_HASH,
        "logsBloom": ANY_BLOOM,
        "mixHash": _ZERO_HASH,
        "miner": "0x" + "0" * 40,
        "difficulty": "0x0",
        "totalDifficulty": "0x0",
        "extraData": "0x",
        "size": "0x0",
        "uncles": [],
    }


def _logs(transfers: pa.Table, transactions: pa.Table) -> pa.Table:
    """Transfer events encoded as logs."""
    position = pc.index_in(transfers["tx_hash"], transactions["tx_hash"])
    known = pc.is_valid(position)
    transfers, position = transfers.filter(known), position.filter(known)
    is_nft = pc.equal(transfers["token_std"], "erc721")
    words = pa.array([f"0x{int(value):064x}" for value in transfers["value_raw"].to_pylist()])
    table = pa.table(
        {
            "block_number": transactions["block_number"].take(position),
            "tx_index": transactions["tx_index"].take(position),
            "log_index": transfers["log_index"],
            "tx_hash": transfers["tx_hash"],
            "address": transfers["token_address"],
            "topic0": pa.repeat(TRANSFER_TOPIC, len(words)),
            "topic1": _address_words(transfers["from_address"]),
            "topic2": _address_words(transfers["to_address"]),
            "topic3": pc.if_else(is_nft, words, pa.scalar(None, pa.string())),
            "data": pc.if_else(is_nft, "0x", words),
            "extra": pa.nulls(len(words), pa.string()),
        }
    ).cast(LOG_SCHEMA)
    order = [("block_number", "ascending"), ("log_index", "ascending")]
    return table.sort_by(order).combine_chunks()


def _address_words(addresses: pa.ChunkedArray) -> pa.ChunkedArray:
    digits = pc.utf8_slice_codeunits(addresses, 2)
    return pc.binary_join_element_wise(
        pa.scalar(_WORD_OF_ADDRESS, digits.type), digits, pa.scalar("", digits.type)
    )


def _text_answer(text: str | None) -> str:
    return _answer("string", text or "")


def _answer(kind: str, value: str | int) -> str:
    """What a contract returns for this value, ABI-encoded."""
    return "0x" + encode([kind], [value]).hex()
