"""Splits a history into slices: ranges of whole blocks that fit into memory.

A transaction's rows must be in one slice, so slices are cut between blocks. Only the column of
block numbers is read for that, run-length encoded: 20 million blocks take 300 MB.
"""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from src.backtest.errors import BacktestError
from src.backtest.reading.columns import numbers
from src.backtest.reading.layouts import Export, TableFiles, unreadable

"""Rows of transfers and transactions per slice; takes about 400 MB during processing."""

_BATCH = 65_536
_NEAR = 0.35  # of a slice
_NO_BLOCKS: NDArray[np.int64] = np.zeros(0, np.int64)
_EVEN = ((24, 12), (2, 2))
"""From this number of slices on, it is rounded to a multiple, so that workers end together."""

_FOOTER = 8  # bytes: its length and the magic number


@dataclass(frozen=True, slots=True)
class Span:
    """Rows of one row group: start included, stop not."""

    path: Path
    row_group: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Slice:
    """Blocks `first` to `last`, both included, and where their rows are.

    Attributes:
        index: position among the slices.
        first, last: block numbers.
        n_transfers: rows of the table of transfers or logs.
        transactions, transfers, blocks: row ranges to read.
    """

    index: int
    first: int
    last: int
    n_transfers: int
    transactions: tuple[Span, ...]
    transfers: tuple[Span, ...]
    blocks: tuple[Span, ...] = ()

    @property
    def name(self) -> str:
        """Sorts like the blocks."""
        return f"{self.first:012d}-{self.last:012d}"


@dataclass(frozen=True, slots=True)
class _Runs:
    """One row group's block numbers: value and end of each run of equal ones."""

    path: Path
    row_group: int
    rows: int
    values: NDArray[np.int64]
    ends: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BlockIndex:
    """The block index of a table; `ordered` if its rows are sorted by block."""

    groups: tuple[_Runs, ...]
    ordered: bool

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return sum(group.rows for group in self.groups)

    def counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Distinct block numbers, and the rows of each."""
        if not self.groups:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        values = np.concatenate([group.values for group in self.groups])
        rows = np.concatenate([np.diff(group.ends, prepend=0) for group in self.groups])
        distinct, where = np.unique(values, return_inverse=True)
        return distinct, np.bincount(where, rows, len(distinct)).astype(np.int64)

    def begins(self) -> NDArray[np.int64]:
        """The first block of each row group."""
        return np.array([group.values[0] for group in self.groups], np.int64)

    def breaks_at(self, blocks: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these blocks start a row group, so that no group has rows from both sides."""
        lasts = np.array([-1, *(group.values[-1] for group in self.groups)], np.int64)
        return lasts[np.searchsorted(self.begins(), blocks)] < blocks

    def spans(self, first: int, last: int) -> tuple[Span, ...]:
        """The rows of some blocks; the table must be ordered."""
        found = []
        for group in self.groups:
            if not group.rows or group.values[-1] < first or group.values[0] > last:
                continue
            before = np.searchsorted(group.values, first, side="left")
            through = np.searchsorted(group.values, last, side="right")
            start = int(group.ends[before - 1]) if before else 0
            stop = int(group.ends[through - 1]) if through else 0
            if start < stop:
                found.append(Span(group.path, group.row_group, start, stop))
        return tuple(found)


def index_blocks(table: TableFiles) -> BlockIndex:
    """Index a table with a column of block numbers.

    Raises:
        BacktestError: a file cannot be read.
    """
    read = partial(_runs, column=table.columns["block_number"])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        groups = [runs for file in pool.map(read, table.paths) for runs in file]
    groups.sort(key=lambda runs: int(runs.values[0]) if runs.rows else -1)
    filled = [runs for runs in groups if runs.rows]
    rising = all((np.diff(runs.values) > 0).all() for runs in filled)
    joined = all(one.values[-1] <= two.values[0] for one, two in pairwise(filled))
    return BlockIndex(tuple(filled), bool(rising and joined))


def _runs(path: Path, column: str) -> list[_Runs]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return [
                _runs_of_group(file, path, group, column) for group in range(file.num_row_groups)
            ]
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error


def _runs_of_group(file: pq.ParquetFile, path: Path, row_group: int, column: str) -> _Runs:
    values, ends, rows = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
    # Batch by batch, to stay in the CPU cache.
    for batch in file.iter_batches(_BATCH, [row_group], [column], use_threads=False):
        blocks = numbers(pa.chunked_array([batch.column(0)]), column)
        if blocks.min() < 0:
            raise BacktestError(f"{path}: a row has no {column}")
        last = np.append(np.flatnonzero(np.diff(blocks)), len(blocks) - 1)
        values.append(blocks[last])
        ends.append(rows + last + 1)
        rows += len(blocks)
    value, end = np.concatenate(values), np.concatenate(ends)
    is_last = np.append(np.diff(value) != 0, True)[: len(value)]  # some go on in the next batch
    return _Runs(path, row_group, rows, value[is_last], end[is_last])


def common_breaks(tables: Sequence[BlockIndex]) -> NDArray[np.int64]:
    """Blocks at which a row group of the first table begins and no group of another continues.

    Reading from there decodes nothing unnecessarily. Most exports split their tables alike.
    """
    begins = tables[0].begins()
    return begins[np.all([table.breaks_at(begins) for table in tables], axis=0)]


def whole_table(table: TableFiles) -> tuple[Span, ...]:
    """All rows of a table, in the order of its files."""
    spans = []
    for path in table.paths:
        try:
            with pq.ParquetFile(path) as file:
                groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        except (OSError, pa.ArrowException) as error:
            raise unreadable(path, error) from error
        spans += [Span(path, i, 0, rows) for i, rows in enumerate(groups)]
    return tuple(spans)


def cut_blocks(
    counts: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    slice_rows: int,
    first: int,
    last: int,
    breaks: NDArray[np.int64] = _NO_BLOCKS,
) -> list[tuple[int, int]]:
    """Ranges of blocks of about `slice_rows` rows each, never less than a block.

    Args:
        counts: block numbers and rows of each table.
        slice_rows: rows of all tables together, about.
        first: blocks before are left out.
        last: blocks after are left out.
        breaks: blocks before which it is good to cut, if it is near.
    """
    blocks = np.concatenate([values for values, _ in counts])
    rows = np.concatenate([number for _, number in counts])
    inside = (blocks >= first) & (blocks <= last)
    blocks, where = np.unique(blocks[inside], return_inverse=True)
    if not len(blocks):
        return []
    total = np.cumsum(np.bincount(where, rows[inside], len(blocks)))
    n_slices = max(1, round(float(total[-1]) / slice_rows))
    for least, multiple in _EVEN:
        if n_slices >= least:
            n_slices = -(-n_slices // multiple) * multiple
            break
    goals = total[-1] / n_slices * np.arange(1, n_slices)
    at = np.searchsorted(total, goals)
    good = np.searchsorted(blocks, breaks) - 1
    good = good[(good >= 0) & (good < len(blocks) - 1)]
    if len(good):
        nearest = good[np.abs(total[good] - total[at][:, np.newaxis]).argmin(axis=1)]
        near = np.abs(total[nearest] - total[at]) < total[-1] / n_slices * _NEAR
        at = np.where(near, nearest, at)
    ends = np.unique(np.append(at, len(blocks) - 1))
    starts = np.append(0, ends[:-1] + 1)
    return [(int(blocks[a]), int(blocks[b])) for a, b in zip(starts, ends, strict=True)]


def identity(export: Export) -> str:
    """Hash of what the files hold, by their names, sizes and footers.

    A footer lists every column chunk with its size, place and statistics: rewriting a file
    changes it.

    Raises:
        BacktestError: a file cannot be read.
    """
    digest = hashlib.sha256(export.layout.encode())
    tables = [export.transactions, export.transfers, export.blocks]
    for path in (path for table in tables if table for path in table.paths):
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - _FOOTER))
                length = int.from_bytes(file.read(4), "little") + _FOOTER
                file.seek(max(0, size - length))
                footer = file.read()
        except OSError as error:
            raise unreadable(path, error) from error
        name = path.relative_to(export.folder).as_posix()
        digest.update(f"\n{name}\n{size}\n".encode() + hashlib.sha256(footer).digest())
    return digest.hexdigest()
