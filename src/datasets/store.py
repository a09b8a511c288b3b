"""The history store: one canonical form for blocks from anywhere.

    STORE/
      store.json                   format, what was imported, slices, what was missing or left out
      FIRST-LAST.parquet           a slice: all transactions with ERC-20 transfers of these blocks
      tokens.csv.gz                address and symbol of tokens, where the source has them
      exploit_*.csv.gz             known exploits, where the source has them

A slice is one file of `SCHEMA`, by block and position. Slices are what is worked on at
once, and counterparties are known within a slice, so their borders are part of a result.
`store.json` is written last: a folder without it is an import that was interrupted.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from src.datasets.fixed_bytes import hex_column, integers
from src.datasets.tables import ERC20, TableError
from src.files import read_file, reason, whole_file

MANIFEST: Final = "store.json"
_MAX_MANIFEST_BYTES: Final = 64 * 2**20
FORMAT: Final = "history-store"
VERSION: Final = 1
GENESIS: Final = 1_438_269_973
"""Unix seconds of Ethereum's first block, 2015-07-30."""
TOKENS_FILE: Final = "tokens.csv.gz"

_FACTS: Final = {
    "identity": str, "layout": str, "chain_id": int | None, "chain": str | None, "notes": list,
    "left_out": dict,
}  # fmt: skip
"""The form of what a manifest says: it may have been edited by hand."""

HASH: Final = pa.binary(32)
ADDRESS: Final = pa.binary(20)

TRANSFER: Final = pa.struct(
    [
        pa.field("log_index", pa.int64(), nullable=False),
        pa.field("token_address", ADDRESS, nullable=False),
        pa.field("from_address", ADDRESS, nullable=False),
        pa.field("to_address", ADDRESS, nullable=False),
        pa.field("amount", HASH, nullable=False),  # uint256, the most significant byte first
    ]
)
SCHEMA: Final = pa.schema(
    [
        pa.field("block_number", pa.int64()),
        pa.field("tx_index", pa.int64()),
        pa.field("tx_hash", HASH, nullable=False),
        pa.field("block_timestamp", pa.int64()),  # Unix seconds
        pa.field("nonce", pa.int64()),
        pa.field("from_address", ADDRESS),
        pa.field("to_address", ADDRESS),
        pa.field("transfers", pa.list_(pa.field("element", TRANSFER, nullable=False))),
    ]
)
"""One row a transaction with transfers; what is null is unknown (or, of `to_address`, absent)."""

_ROW_GROUP = 65_536
_ENCODED = [
    "block_number", "tx_index", "block_timestamp", "nonce", "from_address", "to_address",
    "transfers.list.element.token_address", "transfers.list.element.from_address",
    "transfers.list.element.to_address",
]  # fmt: skip
"""Columns whose values repeat."""


@dataclass(frozen=True, slots=True)
class StoredSlice:
    """One file of a store."""

    # first, last: blocks, included.
    first: int
    last: int
    transfers: int  # how many
    orphans: int  # transfers that were left out, since their transactions are not in the data

    @property
    def name(self) -> str:
        """Of the file, without its suffix."""
        return slice_name(self.first, self.last)


@dataclass(frozen=True, slots=True)
class Store:
    """A complete store."""

    folder: Path  # where it is
    facts: Mapping[str, Any]  # the content of its manifest
    slices: tuple[StoredSlice, ...]  # in order

    @property
    def identity(self) -> str:
        """Tells its content from others."""
        return str(self.facts["identity"])

    @property
    def layout(self) -> str:
        """Of the data it was imported from."""
        return str(self.facts["layout"])

    @property
    def chain_id(self) -> int | None:
        """None where the data that was imported does not say it."""
        return self.facts.get("chain_id")

    def path(self, part: StoredSlice) -> Path:
        """The file of a slice."""
        return self.folder / f"{part.name}.parquet"


def slice_name(first: int, last: int) -> str:
    """The name of a slice by its blocks."""
    return f"{first:012d}-{last:012d}"


def is_store(folder: Path) -> bool:
    """Whether the folder is a complete store."""
    return (folder / MANIFEST).is_file()


def open_store(folder: Path) -> Store:
    """Open a store.

    Raises:
        TableError: it is none, or damaged.
    """
    path = folder / MANIFEST
    try:
        facts = json.loads(read_file(path, _MAX_MANIFEST_BYTES))
        if (facts["format"], facts["version"]) != (FORMAT, VERSION):
            raise TableError(f"{path}: another format or version; import the data again")
        for name, kind in _FACTS.items():
            if not isinstance(facts.get(name), kind):
                raise ValueError(f"{name} is missing, or of another form")
        slices = tuple(StoredSlice(*map(index, part)) for part in facts["slices"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, TableError):
            raise
        raise TableError(f"{path}: is no history store: {reason(error)}") from error
    return Store(folder, facts, slices)


def write_manifest(folder: Path, facts: Mapping[str, Any], slices: list[StoredSlice]) -> Store:
    """Complete a store."""
    parts = [[part.first, part.last, part.transfers, part.orphans] for part in slices]
    whole = {"format": FORMAT, "version": VERSION, **facts, "slices": parts}
    with whole_file(folder / MANIFEST) as unfinished:
        unfinished.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return open_store(folder)


def write_slice(path: Path, table: pa.Table) -> None:
    """Write one file; it is synced to disk when this returns.

    Raises:
        OSError: the disk; nothing is left under the final name.
    """
    with whole_file(path) as unfinished:
        pq.write_table(
            table, unfinished, compression="zstd", compression_level=1, use_dictionary=_ENCODED,
            row_group_size=_ROW_GROUP, write_statistics=["block_number"],
            write_page_checksum=True, store_schema=True,
        )  # fmt: skip


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Keep other processes out of a folder, which is made where it is missing.

    Raises:
        TableError: another one, of this kind, is in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / ".lock").acquire(blocking=False)
    except Timeout:
        raise TableError(f"{folder}: another {what} is writing to it") from None
    with lock:
        yield


def find_transaction(store: Store, tx_hash: str) -> dict[str, Any] | None:
    """The row of `SCHEMA` of a transaction, as Python values; None if it is not in the store.

    Raises:
        TableError: a file cannot be read.
    """
    wanted = pa.scalar(bytes.fromhex(tx_hash.removeprefix("0x")), HASH)
    for part in store.slices:
        path = store.path(part)
        try:
            found = pc.index(pq.read_table(path, columns=["tx_hash"])["tx_hash"], wanted).as_py()
        except (OSError, pa.ArrowException) as error:
            raise TableError(f"{path}: cannot be read: {reason(error)}") from error
        if found >= 0:
            (row,) = read_slice(path).slice(found, 1).to_pylist()
            return dict(row)
    return None


def read_slice(path: Path, first: int | None = None, last: int | None = None) -> pa.Table:
    """The transactions of a slice, those of these blocks alone.

    Raises:
        TableError: the file cannot be read.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(use_threads=False)
        if table.schema != SCHEMA:
            raise TableError(f"{path}: is no slice of a history store; import the data again")
    except (OSError, pa.ArrowException) as error:
        raise TableError(
            f"{path}: truncated, corrupt or not a parquet file: {reason(error)}"
        ) from error
    if first is not None and last is not None:
        block = table["block_number"].fill_null(-1).to_numpy()
        table = table.filter(pa.array((block >= first) & (block <= last)))
    return table


def data_set_tables(store: Store) -> tuple[pa.Table, pa.Table]:
    """Its transactions and transfers with the columns of the data set; held in memory.

    Blocks are whole in a store, as far as transactions with ERC-20 transfers go. Their hashes are
    not in it.

    Raises:
        TableError: a file cannot be read.
    """
    parts = [read_slice(store.path(part)) for part in store.slices]
    table = pa.concat_tables(parts or [SCHEMA.empty_table()])
    lists = table["transfers"].combine_chunks()
    moved, owner = lists.flatten(), pc.list_parent_indices(lists)
    rows = table.num_rows
    texts = {
        name: hex_column(table[name].combine_chunks())
        for name in ("tx_hash", "from_address", "to_address")
    }
    numbers = {
        name: table[name] for name in ("block_number", "tx_index", "block_timestamp", "nonce")
    }
    whole = {name: pa.repeat(True, rows) for name in ("full_block", "all_logs")}
    named = {"block_hash": pa.repeat("", rows), "source": pa.repeat(store.layout, rows)}
    transfers = {
        "tx_hash": texts["tx_hash"].take(owner),
        "log_index": moved.field("log_index"),
        **{
            name: hex_column(moved.field(name))
            for name in ("token_address", "from_address", "to_address")
        },
        "value_raw": pa.array(map(str, integers(moved.field("amount"))), pa.string()),
        "token_std": pa.repeat(ERC20, len(moved)),
    }
    return pa.table({**texts, **numbers, **whole, **named}), pa.table(transfers)
