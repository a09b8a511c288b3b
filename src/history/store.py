"""The history store: one canonical form for blocks from anywhere.

    STORE/
      store.json                   format, what was imported, slices, what was missing or left out
      FIRST-LAST.parquet           a slice: all transactions with ERC-20 transfers of these blocks
      tokens.csv.gz                address and symbol of tokens, where the source has them
      exploit_*.csv.gz             known exploits, where the source has them

A slice is one file of `canonical.SCHEMA`, by block and position. Slices are what is worked on at
once, and counterparties are known within a slice, so their borders are part of a result.
`store.json` is written last: a folder without it is an import that was interrupted.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from src.files import reason, whole_file
from src.history.canonical import HASH, SCHEMA
from src.history.errors import HistoryError

MANIFEST: Final = "store.json"
FORMAT: Final = "history-store"
VERSION: Final = 1
TOKENS_FILE: Final = "tokens.csv.gz"

_ROW_GROUP = 65_536
_ENCODED = [
    "block_number", "tx_index", "block_timestamp", "nonce", "from_address", "to_address",
    "transfers.list.element.token_address", "transfers.list.element.from_address",
    "transfers.list.element.to_address",
]  # fmt: skip
"""Columns whose values repeat."""


@dataclass(frozen=True, slots=True)
class StoredSlice:
    """One file of a store.

    Attributes:
        first, last: blocks, included; -1 where the blocks are not known.
        transfers: how many.
        orphans: transfers that were left out, since their transactions are not in the data.
    """

    first: int
    last: int
    transfers: int
    orphans: int

    @property
    def name(self) -> str:
        """Of the file, without its suffix."""
        return slice_name(self.first, self.last)


@dataclass(frozen=True, slots=True)
class Store:
    """A complete store.

    Attributes:
        folder: where it is.
        facts: the content of its manifest.
        slices: in order.
    """

    folder: Path
    facts: Mapping[str, Any]
    slices: tuple[StoredSlice, ...]

    @property
    def identity(self) -> str:
        """Tells its content from others."""
        return str(self.facts["identity"])

    @property
    def layout(self) -> str:
        """Of the data it was imported from."""
        return str(self.facts["layout"])

    def path(self, part: StoredSlice) -> Path:
        """The file of a slice."""
        return self.folder / f"{part.name}.parquet"


def slice_name(first: int, last: int) -> str:
    """The name of a slice by its blocks."""
    return f"{max(first, 0):012d}-{max(last, 0):012d}"


def is_store(folder: Path) -> bool:
    """Whether the folder is a complete store."""
    return (folder / MANIFEST).is_file()


def open_store(folder: Path) -> Store:
    """Open a store.

    Raises:
        HistoryError: it is none, or damaged.
    """
    path = folder / MANIFEST
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if (facts["format"], facts["version"]) != (FORMAT, VERSION):
            raise HistoryError(f"{path}: another format or version; import the data again")
        slices = tuple(StoredSlice(*part) for part in facts["slices"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, HistoryError):
            raise
        raise HistoryError(f"{path}: is no history store: {reason(error)}") from error
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


def find_transaction(store: Store, tx_hash: str) -> dict[str, Any] | None:
    """The row of `SCHEMA` of a transaction, as Python values; None if it is not in the store.

    Raises:
        HistoryError: a file cannot be read.
    """
    wanted = pa.scalar(bytes.fromhex(tx_hash.removeprefix("0x")), HASH)
    for part in store.slices:
        path = store.path(part)
        try:
            found = pc.index(pq.read_table(path, columns=["tx_hash"])["tx_hash"], wanted).as_py()
        except (OSError, pa.ArrowException) as error:
            raise HistoryError(f"{path}: cannot be read: {reason(error)}") from error
        if found >= 0:
            (row,) = read_slice(path).slice(found, 1).to_pylist()
            return dict(row)
    return None


def read_slice(path: Path, first: int | None = None, last: int | None = None) -> pa.Table:
    """The transactions of a slice, those of these blocks alone.

    Raises:
        HistoryError: the file cannot be read.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(use_threads=False)
        if table.schema != SCHEMA:
            raise HistoryError(f"{path}: is no slice of a history store; import the data again")
    except (OSError, pa.ArrowException) as error:
        raise HistoryError(
            f"{path}: truncated, corrupt or not a parquet file: {reason(error)}"
        ) from error
    if first is not None and last is not None:
        block = table["block_number"].fill_null(-1).to_numpy()
        table = table.filter(pa.array((block >= first) & (block <= last)))
    return table
