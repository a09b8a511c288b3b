"""Reads a slice's rows and renames the columns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from src.backtest.reading.layouts import Export, TableFiles, unreadable
from src.backtest.reading.plan import Slice, Span

_BATCH = 16_384
"""About a page of hashes: text of more pages than one is moved again for each of them."""
_READ_BYTES = 1 << 20
"""At once: a row group's whole column would be put into new memory, page by page."""
_REFERENCE_BYTES = 8
"""A row takes less where it refers to a dictionary, more where it is an address in full."""


@dataclass(frozen=True, slots=True)
class SliceTables:
    """A slice's rows as exported: not validated, not sorted, possibly with duplicates."""

    transactions: pa.Table
    transfers: pa.Table
    blocks: pa.Table | None


class SliceReader:
    """Reads slices. Consecutive slices continue where the last one ended.

    A row group can only be read from its beginning and often contains several slices, so reading
    in order decodes each row once. Not thread-safe.
    """

    def __init__(self, export: Export) -> None:
        self._transactions = _Cursor(export.transactions)
        self._transfers = _Cursor(export.transfers, without=frozenset({"block_number"}))
        self._blocks = None if export.blocks is None else _Cursor(export.blocks)

    def read(self, part: Slice) -> SliceTables:
        """Read the rows of a slice.

        Raises:
            BacktestError: a file cannot be read.
        """
        return SliceTables(
            self._transactions.read(part.transactions),
            self._transfers.read(part.transfers),
            None if self._blocks is None else self._blocks.read(part.blocks),
        )


class _Cursor:
    """A place in a table, of which some columns are not read."""

    def __init__(self, table: TableFiles, without: frozenset[str] = frozenset()) -> None:
        columns = {ours: name for ours, name in table.columns.items() if ours not in without}
        self._columns = list(columns.values())
        self._ours = list(columns)
        self._at: tuple[Path, int] | None = None
        self._next_row = 0
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._left: pa.RecordBatch | None = None

    def read(self, spans: Sequence[Span]) -> pa.Table:
        """These rows; columns have our names."""
        if not spans:
            return pa.schema([(name, pa.null()) for name in self._ours]).empty_table()
        pieces = [pa.Table.from_batches(self._rows(span)) for span in spans]
        if any(piece.schema != pieces[0].schema for piece in pieces):
            pieces = [_without_dictionaries(piece) for piece in pieces]
        return pa.concat_tables(pieces, promote_options="permissive").rename_columns(self._ours)

    def _rows(self, span: Span) -> list[pa.RecordBatch]:
        try:
            return list(self._cut(span))
        except (OSError, pa.ArrowException) as error:
            self._at = None
            raise unreadable(span.path, error) from error

    def _cut(self, span: Span) -> Iterator[pa.RecordBatch]:
        if self._at != (span.path, span.row_group) or self._next_row > span.start:
            self._batches = _batches(span, self._columns)
            self._at, self._next_row, self._left = (span.path, span.row_group), 0, None
        while self._next_row < span.stop:
            batch = self._left if self._left is not None else next(self._batches)
            self._left = None
            start = max(0, span.start - self._next_row)
            stop = min(batch.num_rows, span.stop - self._next_row)
            if start < stop:
                yield batch.slice(start, stop - start)
            if stop < batch.num_rows:
                self._left = batch.slice(max(stop, 0))
                batch = batch.slice(0, max(stop, 0))
            self._next_row += batch.num_rows


def _batches(span: Span, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(span.path) as file:
        repeating = _repeating(file.metadata.row_group(span.row_group), columns)
    with pq.ParquetFile(
        span.path, read_dictionary=repeating, page_checksum_verification=True,
        buffer_size=_READ_BYTES,
    ) as file:  # fmt: skip
        for batch in file.iter_batches(
            _BATCH, row_groups=[span.row_group], columns=columns, use_threads=False
        ):
            yield batch.select(columns)


def _repeating(group: pq.RowGroupMetaData, columns: list[str]) -> list[str]:
    """Dictionary-encoded columns of text or bytes.

    If the encoding is kept, each distinct value is parsed once instead of each row. A column that
    outgrew its dictionary has most values in plain form and would have to be encoded again.
    """
    chunks = [group.column(i) for i in range(group.num_columns)]
    return [
        chunk.path_in_schema
        for chunk in chunks
        if chunk.path_in_schema in columns
        and chunk.physical_type == "BYTE_ARRAY"
        and chunk.total_uncompressed_size < _REFERENCE_BYTES * chunk.num_values
    ]


def _without_dictionaries(table: pa.Table) -> pa.Table:
    """The same values as text or bytes, so that it fits tables read from elsewhere."""
    for place, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):
            plain = table.column(place).cast(column.type.value_type)
            table = table.set_column(place, column.name, plain)
    return table
