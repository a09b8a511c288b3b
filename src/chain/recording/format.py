"""A recording: a range of blocks in a folder of parquet files, written in parts.

    DIR/
      recording.json                          format, version, chain id
      blocks-000018000000-000018000099/       a part: consecutive blocks, both ends included
        blocks.parquet transactions.parquet logs.parquet tokens.parquet

A part is written under a temporary name and renamed after it is complete and synced to disk, so
every visible part is complete, even if the writer was killed. Parts never overlap. The columns are
those of `recording.rows`; `tokens.parquet` holds the metadata of tokens first seen in its part.
"""

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from src.chain.recording.rows import (
    BLOCK_SCHEMA,
    LOG_SCHEMA,
    TRANSACTION_SCHEMA,
    BlockRows,
    Row,
)
from src.chain.transfers import NATIVE_EMITTERS, TRANSFER_TOPIC
from src.files import UNFINISHED, bomb, parquet_bytes, read_file, reason, sync, write_file

FORMAT = "recorded-blocks"
VERSION = 1
MANIFEST = "recording.json"

_PART = re.compile(r"blocks-(\d{12})-(\d{12})")
_PARTS_IN_MEMORY = 4
_MAX_MANIFEST_BYTES = 2**20

TOKEN_SCHEMA = pa.schema(
    [("token_address", pa.string())]
    + [(name, pa.string()) for name in ("name", "symbol", "decimals")]
)


class RecordingError(ValueError):
    """The folder is not a recording, is corrupt, or does not match the blocks to add."""


@dataclass(frozen=True, slots=True)
class TokenAnswers:
    """A token contract's results of `name()`, `symbol()` and `decimals()`.

    Each is the data returned by the node (`0x...`, ABI-encoded, possibly empty), or None if the
    call reverts.
    """

    token_address: str
    name: str | None
    symbol: str | None
    decimals: str | None


class Part(NamedTuple):
    """Consecutive blocks in one folder; `first` and `last` are included."""

    first: int
    last: int
    path: Path


class Tables(NamedTuple):
    """One part's tables, ordered by block, transaction and log."""

    blocks: pa.Table
    transactions: pa.Table
    logs: pa.Table


class Recording:
    """A recording, for reading. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        """Open a recording.

        Raises:
            RecordingError: the folder is not a recording, or its parts overlap.
        """
        self.folder = folder
        self.chain_id = _read_manifest(folder)
        self.parts = find_parts(folder)
        self._tables = lru_cache(maxsize=_PARTS_IN_MEMORY)(self._read_tables)

    def tables(self, part: Part) -> Tables:
        """The tables of one part; the last few are cached."""
        return self._tables(part)

    def blocks(self, columns: list[str]) -> pa.Table:
        """These columns of all blocks, ordered by number."""
        return self._all("blocks", columns, BLOCK_SCHEMA)

    def transactions(self, columns: list[str]) -> pa.Table:
        """These columns of all transactions, ordered by block and index."""
        return self._all("transactions", columns, TRANSACTION_SCHEMA)

    def tokens(self) -> dict[str, TokenAnswers]:
        """The recorded token metadata, by address."""
        rows = self._all("tokens", TOKEN_SCHEMA.names, TOKEN_SCHEMA).to_pylist()
        return {row["token_address"]: TokenAnswers(**row) for row in rows}

    def _read_tables(self, part: Part) -> Tables:
        return Tables(*(read_table(part.path / f"{name}.parquet") for name in Tables._fields))

    def _all(self, name: str, columns: list[str], schema: pa.Schema) -> pa.Table:
        empty = schema.empty_table().select(columns)
        paths = [part.path / f"{name}.parquet" for part in self.parts]
        tables = [read_table(path, columns) for path in paths]
        try:
            return pa.concat_tables([empty, *tables])
        except pa.ArrowException as error:
            raise RecordingError(f"{self.folder}: {name}: columns have unexpected types") from error


class RecordingWriter:
    """Adds blocks to a recording, in parts; created by `open_writer`, which locks the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts = find_parts(folder)
        self._blocks: list[BlockRows] = []
        self._known_tokens = set(Recording(folder).tokens())

    @property
    def pending_rows(self) -> int:
        """Rows that are added but not yet written."""
        return sum(1 + len(rows.transactions) + len(rows.logs) for rows in self._blocks)

    @property
    def pending_blocks(self) -> int:
        """Blocks that are added but not yet written."""
        return len(self._blocks)

    def missing(self, first: int, last: int) -> list[range]:
        """The gaps between `first` and `last` (included) that no part covers."""
        gaps, start = [], first
        for part in self.parts:
            if part.last < start or part.first > last:
                continue
            if part.first > start:
                gaps.append(range(start, part.first))
            start = part.last + 1
        if start <= last:
            gaps.append(range(start, last + 1))
        return gaps

    def add(self, rows: BlockRows) -> None:
        """Add the next block.

        Raises:
            RecordingError: it does not follow the previous block, by number or by parent hash, or
                does not match the parts already written: the chain was reorganised.
        """
        block = rows.block
        before = self._blocks[-1].block if self._blocks else self._edge(block["block_number"] - 1)
        after = self._edge(block["block_number"] + 1)
        if self._blocks and before and before["block_number"] + 1 != block["block_number"]:
            raise RecordingError(f"block {block['block_number']} is out of order")
        for parent, child in ((before, block), (block, after)):
            if parent and child and child["parent_hash"] != parent["block_hash"]:
                raise RecordingError(
                    f"block {child['block_number']} does not descend from the block"
                    f" {parent['block_number']} in the recording: the chain was reorganised, or the"
                    " node is on another chain; remove the part with the orphaned block and record"
                    " again"
                )
        self._blocks.append(rows)

    def unknown_tokens(self) -> list[str]:
        """Contracts with Transfer events in pending blocks, and without recorded metadata."""
        logs = (log for rows in self._blocks for log in rows.logs)
        found = {log["address"]: None for log in logs if log["topic0"] == TRANSFER_TOPIC}
        known = self._known_tokens | NATIVE_EMITTERS
        return [address for address in found if address and address not in known]

    def write(self, tokens: Iterable[TokenAnswers] = ()) -> Part | None:
        """Write the pending blocks as one part; it is synced to disk when this returns.

        Returns:
            The part, or None if nothing is pending.

        Raises:
            OSError: the disk failed; the part is removed, and its blocks are still pending.
        """
        if not self._blocks:
            return None
        first, last = (self._blocks[i].block["block_number"] for i in (0, -1))
        answers = [asdict(token) for token in tokens]
        transactions = [row for rows in self._blocks for row in rows.transactions]
        logs = [row for rows in self._blocks for row in rows.logs]
        tables: dict[str, tuple[list[Row], pa.Schema]] = {
            "blocks": ([rows.block for rows in self._blocks], BLOCK_SCHEMA),
            "transactions": (transactions, TRANSACTION_SCHEMA),
            "logs": (logs, LOG_SCHEMA),
            "tokens": (answers, TOKEN_SCHEMA),
        }
        path = self.folder / f"blocks-{first:012d}-{last:012d}"
        unfinished = self.folder / f"{UNFINISHED}{path.name}"
        try:
            unfinished.mkdir()
            for name, (table_rows, schema) in tables.items():
                table = pa.Table.from_pylist(table_rows, schema)
                file = unfinished / f"{name}.parquet"
                pq.write_table(
                    table, file, compression="zstd", compression_level=9, write_page_checksum=True
                )
                sync(file)
            sync(unfinished)
            unfinished.rename(path)
        except OSError:
            shutil.rmtree(unfinished, ignore_errors=True)  # free the space of a full disk
            raise
        sync(self.folder)
        part = Part(first, last, path)
        self.parts = sorted([*self.parts, part])
        self._known_tokens.update(answer["token_address"] for answer in answers)
        self._blocks.clear()
        return part

    def _edge(self, number: int) -> Row | None:
        """The written block of this number, if it is the first or last of its part."""
        for part in self.parts:
            if number in (part.first, part.last):
                columns = ["block_number", "block_hash", "parent_hash"]
                rows = read_table(part.path / "blocks.parquet", columns).to_pylist()
                return next((row for row in rows if row["block_number"] == number), None)
        return None


@contextmanager
def open_writer(folder: Path, chain_id: int) -> Iterator[RecordingWriter]:
    """Open a recording for adding blocks; creates it if it does not exist.

    Blocks that are not written when the context ends are lost.

    Raises:
        RecordingError: another process is writing to it, it is for another chain, or the folder
            contains something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / ".lock").acquire(blocking=False)
    except Timeout:
        raise RecordingError(f"{folder}: another process is recording into this folder") from None
    with lock:
        _prepare(folder, chain_id)
        yield RecordingWriter(folder)


def _prepare(folder: Path, chain_id: int) -> None:
    if not (folder / MANIFEST).exists():
        if any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise RecordingError(f"{folder}: not empty and not a recording; choose another folder")
        manifest = {"format": FORMAT, "version": VERSION, "chain_id": chain_id}
        write_file(folder / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    recorded = _read_manifest(folder)
    if recorded != chain_id:
        raise RecordingError(
            f"{folder}: was recorded on chain {recorded}, but the node is on chain {chain_id}"
        )
    for left_over in folder.glob(f"{UNFINISHED}*"):
        if left_over.is_dir():
            shutil.rmtree(left_over)
        else:
            left_over.unlink()


def is_recording(folder: Path) -> bool:
    """Whether the folder has the manifest of a recording."""
    return (folder / MANIFEST).is_file()


def find_parts(folder: Path) -> list[Part]:
    """The complete parts in a recording's folder, in order.

    Raises:
        RecordingError: two of them overlap.
    """
    names = [(path, _PART.fullmatch(path.name)) for path in folder.iterdir() if path.is_dir()]
    found = sorted(Part(int(match[1]), int(match[2]), path) for path, match in names if match)
    for one, next_one in pairwise(found):
        if next_one.first <= one.last:
            raise RecordingError(f"{folder}: {one.path.name} and {next_one.path.name} overlap")
    return found


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a parquet file.

    Raises:
        RecordingError: it cannot be read, or a column is missing.
    """
    try:
        # Not `pq.read_table`, which imports pandas and delays each start by a second.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if problem := bomb(path.stat().st_size, parquet_bytes(file.metadata)):
                raise ValueError(problem)
            table = file.read(columns)
        table.validate(full=True)  # checks offsets and UTF-8
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RecordingError(f"{path}: cannot be read: {reason(error)}") from error
    missing = set(columns or ()) - set(table.column_names)
    if missing:
        raise RecordingError(f"{path}: has no column {', '.join(sorted(missing))}")
    return table


def _read_manifest(folder: Path) -> int:
    """The chain id of a recording."""
    try:
        manifest = json.loads(read_file(folder / MANIFEST, _MAX_MANIFEST_BYTES))
        if (manifest["format"], manifest["version"]) != (FORMAT, VERSION):
            raise RecordingError(f"{folder}: unsupported format or version")
        return int(manifest["chain_id"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        if isinstance(error, RecordingError):
            raise
        raise RecordingError(
            f"{folder}: is not a recording by `npm run record` ({MANIFEST}: {reason(error)})"
        ) from error
