"""Sorts an export by block, on disk, if its files are not sorted or have no block numbers.

It makes one pass over each table, in bounded memory, and writes each row to the file of its slice.
If transfers have no block number, it is taken from their transactions, which takes 60 bytes of
memory per transaction and is suitable for up to some tens of millions.
"""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from src.backtest.kernels import arrow
from src.backtest.reading.columns import Words, numbered, numbers, parsed_bytes
from src.backtest.reading.layouts import TRANSACTIONS, Export, TableFiles, unreadable
from src.backtest.reading.plan import Slice, cut_blocks, index_blocks, whole_table

_ORDERED = ".ordered"
_BATCH = 262_144
_BUFFERED_ROWS = 1_000_000


def shuffled(
    export: Export, workspace: Path, slice_rows: int, first: int, last: int
) -> tuple[Export, list[Slice]]:
    """Split an export into slices by copying its rows; a complete copy is reused.

    Args:
        export: the data.
        workspace: folder for the copy.
        slice_rows: rows of both tables per slice.
        first: earlier blocks are ignored.
        last: later blocks are ignored.

    Raises:
        BacktestError: a file cannot be read.
        OSError: the disk.
    """
    transactions = index_blocks(export.transactions)
    blocks, rows = transactions.counts()
    # The transfers' blocks are not known yet: assume the average number per transaction.
    transfers = sum(span.stop for span in whole_table(export.transfers))
    all_rows = rows * (1 + -(-transfers // max(1, transactions.rows)))
    ranges = cut_blocks([(blocks, all_rows)], slice_rows, first, last)
    folder = workspace / _ORDERED
    if not folder.is_dir():
        _copy(export, ranges, folder)
    tables = {
        table.kind: TableFiles(
            table.kind,
            tuple(sorted((folder / table.kind).glob("*.parquet"))),
            {name: name for name in table.columns},
        )
        for table in (export.transactions, export.transfers)
    }
    slices = []
    for index, (start, end) in enumerate(ranges):
        spans = {kind: whole_table(_bucket(table, index)) for kind, table in tables.items()}
        moved = spans[export.transfers.kind]
        slices.append(
            Slice(index, start, end, sum(span.stop for span in moved), spans[TRANSACTIONS], moved)
        )
    copied = replace(
        export, transactions=tables[TRANSACTIONS], transfers=tables[export.transfers.kind]
    )
    return copied, slices


def _bucket(table: TableFiles, index: int) -> TableFiles:
    return replace(table, paths=tuple(path for path in table.paths if int(path.stem) == index))


def remove_copy(workspace: Path) -> None:
    """Remove the output of `shuffled`."""
    shutil.rmtree(workspace / _ORDERED, ignore_errors=True)


def _copy(export: Export, ranges: list[tuple[int, int]], folder: Path) -> None:
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    ends = np.array([end for _, end in ranges], np.int64)
    starts = np.array([start for start, _ in ranges], np.int64)

    def slice_of(block: NDArray[np.int64]) -> NDArray[np.int64]:
        at = np.minimum(np.searchsorted(ends, block), max(0, len(ends) - 1))
        inside = (block >= starts[at]) & (block <= ends[at]) if len(ends) else block < 0
        return np.where(inside, at, -1)

    in_transfers = "block_number" in export.transfers.columns
    index = None if in_transfers else _BlockOfTransaction.of(export.transactions)
    try:
        for table in (export.transactions, export.transfers):
            with_block = in_transfers or table.kind == TRANSACTIONS
            with _Buckets(unfinished / table.kind) as buckets:
                for batch in _batches(table):
                    if with_block:
                        block = _blocks(batch)
                    else:
                        assert index is not None  # noqa: S101  made above
                        block = index.of_batch(batch)
                    buckets.add(batch, slice_of(block))
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)  # free the space of a full disk
        raise


def _blocks(batch: pa.RecordBatch) -> NDArray[np.int64]:
    return numbers(pa.chunked_array([batch.column("block_number")]), "block_number")


@dataclass(slots=True)
class _BlockOfTransaction:
    tx_hash: Words
    block: NDArray[np.int64]

    @classmethod
    def of(cls, table: TableFiles) -> "_BlockOfTransaction":
        wanted = {name: table.columns[name] for name in ("tx_hash", "block_number")}
        hashes, blocks = [], []
        for batch in _batches(replace(table, columns=wanted)):
            hashes.append(parsed_bytes(pa.chunked_array([batch.column("tx_hash")]), 32)[0])
            blocks.append(_blocks(batch))
        if not hashes:
            return cls(np.zeros((0, 4), np.uint64), np.zeros(0, np.int64))
        words, block = np.concatenate(hashes), np.concatenate(blocks)
        order = np.lexsort(words.T[::-1])
        return cls(words[order], block[order])

    def of_batch(self, batch: pa.RecordBatch) -> NDArray[np.int64]:
        """The block of each transfer's transaction; -1 where it is not there."""
        column = pa.chunked_array([batch.column("tx_hash")])
        wanted, good = parsed_bytes(column, arrow.WORD_BYTES)
        block = np.full(len(wanted), -1, np.int64)
        if not len(self.tx_hash):
            return block
        number, first = numbered(wanted)
        distinct = wanted[first]
        at = np.searchsorted(self.tx_hash[:, 0], distinct[:, 0])
        found = np.full(len(distinct), -1, np.int64)
        pending = np.arange(len(distinct))
        while len(pending):  # hashes that share their first 64 bits follow one another
            inside = at[pending] < len(self.tx_hash)
            pending = pending[inside]
            here = self.tx_hash[at[pending]]
            same = (here == distinct[pending]).all(axis=1)
            found[pending[same]] = self.block[at[pending[same]]]
            pending = pending[~same & (here[:, 0] == distinct[pending, 0])]
            at[pending] += 1
        return np.where(good, found[number], -1)


@dataclass(slots=True)
class _Buckets:
    """Appends rows to one file a slice, in large row groups."""

    folder: Path
    writers: dict[int, pq.ParquetWriter] = field(default_factory=dict)
    pending: dict[int, list[pa.RecordBatch]] = field(default_factory=dict)
    rows: int = 0

    def __enter__(self) -> "_Buckets":
        self.folder.mkdir(parents=True)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._flush()
        finally:
            for writer in self.writers.values():
                writer.close()

    def add(self, batch: pa.RecordBatch, bucket: NDArray[np.int64]) -> None:
        order = np.argsort(bucket, kind="stable")
        order = order[bucket[order] >= 0]
        if not len(order):
            return
        rows = batch.take(pa.array(order))
        sorted_bucket = bucket[order]
        starts = np.flatnonzero(np.diff(sorted_bucket, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
            number = int(sorted_bucket[start])
            self.pending.setdefault(number, []).append(rows.slice(start, stop - start))
        self.rows += len(order)
        if self.rows >= _BUFFERED_ROWS:
            self._flush()

    def _flush(self) -> None:
        for number, batches in self.pending.items():
            table = pa.Table.from_batches(batches).combine_chunks()
            if number not in self.writers:
                path = self.folder / f"{number:08d}.parquet"
                self.writers[number] = pq.ParquetWriter(path, table.schema, compression="zstd")
            self.writers[number].write_table(table)
        self.pending.clear()
        self.rows = 0


def _batches(table: TableFiles) -> Iterator[pa.RecordBatch]:
    names: Mapping[str, str] = {theirs: ours for ours, theirs in table.columns.items()}
    for path in table.paths:
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                columns = list(table.columns.values())
                for batch in file.iter_batches(_BATCH, columns=columns, use_threads=False):
                    yield batch.rename_columns([names[name] for name in batch.schema.names])
        except (OSError, pa.ArrowException) as error:
            raise unreadable(path, error) from error
