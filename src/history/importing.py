"""Imports an export into a store: `import_history`.

Reading, joining, sorting and spilling are DuckDB's. Files in order of blocks are imported range by
range, several at once; others in one go, sorted with spilling.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from src.chain.recording.format import is_recording, read_table
from src.datasets.location import EXPLOIT_TRANSFERS_FILE, EXPLOITS_FILE
from src.datasets.store import (
    MANIFEST,
    VERSION,
    Store,
    StoredSlice,
    is_store,
    locked,
    open_store,
    slice_name,
    write_manifest,
)
from src.datasets.tables import TableError
from src.datasets.tokens import symbols, write_symbols
from src.files import UNFINISHED, write_file
from src.history import damage, spark
from src.history.canonical import Damaged, write_rows
from src.history.layouts import RECORDING, column_name
from src.history.matching import Export, match
from src.history.piped import unpiped
from src.history.sources import (
    PARQUET,
    connect,
    identity,
    list_files,
    parquet,
    scan,
)
from src.history.sql import block_counts, export_views, statement, transfers_have_blocks, views
from src.history.survey import survey

SLICE_TRANSFERS: Final = 500_000
MEMORY: Final = "1GB"
PLAN: Final = "plan.json"

_SPILL = ".spill"
_SLICES = f"{'[0-9]' * 12}*-{'[0-9]' * 12}*.parquet"
_TWICE = 3
"""So often a row may be read on average before everything is rather sorted at once."""
_BATCH = 100_000
_SELDOM_UNKNOWN = ["from_address", "tx_index", "block_timestamp", "nonce"]

Ranges = list[tuple[int, int]]
Done = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How to import."""

    # Names of columns that the user says, see `layouts.custom_tables`.
    columns: Mapping[str, str] | None = None
    blocks: tuple[int, int] | None = None  # first and last; others are left out; None for all
    slice_transfers: int = SLICE_TRANSFERS  # transfers of a slice, about
    workers: int = os.cpu_count() or 1  # threads
    memory: str = MEMORY  # of the engine, such as `1GB`; it takes up to a quarter more
    remedy: str = "make room where temporary files go"  # where it is too small, for the error


def import_history(
    source: str,
    out: Path,
    options: ImportOptions,
    planned: Callable[[int], Done],
    session: Any = None,
) -> Store:
    """Import an export, or go on with an interrupted import; a complete one is only checked.

    Args:
        source: a folder, a file, a bucket's URL, a glob in a bucket, or `-` for standard input.
        out: the folder of the store. A recording's may be the recording's own, where it is made
            again after other blocks were recorded.
        options: how.
        planned: called with the number of transfers; returns what is told how many are done.
        session: of Spark, to read parquet files with; None to read them on this machine. Other
            files always are.

    Raises:
        TableError: the data or the folder is unusable.
        OSError: the disk failed.
    """
    # pyarrow imports it with its first array, and would lose a Ctrl-C meanwhile.
    import pandas as pd  # noqa: F401, PLC0415  slow to import

    folder = Path(source).resolve()
    if folder in out.resolve().parents and not is_recording(folder):
        raise TableError(f"{out}: is in {source}, whose files would be imported: change --out")
    with (
        locked(out, "import"),
        unpiped(source, out) as place,
        connect(options.workers, options.memory, out / _SPILL) as engine,
    ):
        files, left_out = list_files(place, engine)
        export = match(place, files, left_out, options.columns)
        for ours, theirs in (options.columns or {}).items():
            if not any(column_name(theirs) in file.columns for file in files):
                raise TableError(
                    f"{place}: no file has the column {theirs}, in --columns for {ours}"
                )
        same = _identity(export, options)
        if any(file.form != PARQUET for file in export.files):
            session = None
        work = Import(export, out.resolve(), options, engine, same, session)
        if is_store(out):
            store = open_store(out)
            if store.identity == same:
                return store
            if not work.is_in_place:
                raise TableError(f"{out}: was imported from other data; delete it, or change --out")
        return work.run(planned)


def is_current(folder: Path, options: ImportOptions) -> bool:
    """Whether the folder of a recording holds the store of its blocks, imported with these options.

    Raises:
        TableError: the recording or the store is unusable.
    """
    if not is_store(folder):
        return False
    with connect() as engine:
        export = match(str(folder), *list_files(str(folder), engine), options.columns)
    return open_store(folder).identity == _identity(export, options)


def _identity(export: Export, options: ImportOptions) -> str:
    first, last = options.blocks or (None, None)
    asked = [VERSION, export.layout, options.slice_transfers, first, last]
    return identity(export.files, json.dumps([*asked, sorted((options.columns or {}).items())]))


@dataclass(frozen=True, slots=True)
class Import:
    """An import of these tables; `run` carries it out."""

    export: Export
    out: Path
    options: ImportOptions
    engine: Any
    identity: str
    session: Any = None

    @property
    def is_in_place(self) -> bool:
        """Whether the store is in the folder of the recording that it is made of."""
        return self.export.layout == RECORDING and self.out == Path(self.export.source).resolve()

    def run(self, planned: Callable[[int], Done]) -> Store:
        """Write the slices and then the manifest, see `import_history`."""
        self._prepare()
        with damage.named(self.export, self.engine, self.options.remedy):
            self._show()
            if self.export.layout == RECORDING:
                _verify(self.export)
            ranges, blocks, total = self._ranges()
            span = blocks[[0, -1]].tolist() if len(blocks) else []
            chain, notes = survey(self.export, self._query, span, self.options.blocks)
            done = planned(total)
            if self.session is not None:
                slices = self._slices_by_spark(ranges, blocks)
            elif self._are_ordered(ranges):
                slices = self._slices_by_range(ranges, done)
            else:
                slices = self._slices_by_order(ranges, done)
            notes += self._check(slices)
        if not self.is_in_place:
            self._copy_lists()
        shutil.rmtree(self.out / _SPILL, ignore_errors=True)
        first, last = self.options.blocks or (None, None)
        facts = {
            "identity": self.identity,
            "layout": self.export.layout,
            **chain,
            "source": self.export.source,
            "notes": [*self.export.notes, *notes],
            "left_out": dict(self.export.left_out),
            "first_block": first,
            "last_block": last,
            "slice_transfers": self.options.slice_transfers,
        }
        return write_manifest(self.out, facts, slices)

    def _prepare(self) -> None:
        plan = self.out / PLAN
        content = (json.dumps({"identity": self.identity}) + "\n").encode()
        if self.is_in_place:
            if not plan.exists() or plan.read_bytes() != content:
                for path in (self.out / MANIFEST, *self.out.glob(_SLICES)):
                    path.unlink(missing_ok=True)
        elif plan.exists():
            if plan.read_bytes() != content:
                raise TableError(
                    f"{self.out}: contains an unfinished import of other data or with other "
                    "options; delete it, or change --out"
                )
        elif any(not entry.name.startswith(".") for entry in self.out.iterdir()):
            raise TableError(f"{self.out}: not empty and not a history store; choose another")
        write_file(plan, content)
        for left in self.out.glob(f"{UNFINISHED}*"):
            if left.is_file():  # folders are the recorder's
                left.unlink()

    def _show(self) -> None:
        """Make the files views of the engine, those with equal columns together."""
        for view in export_views(self.export):
            if self.session is not None:
                spark.show(self.session, view.name, [file.path for file in view.files])
            else:
                self.engine.execute(
                    f"CREATE VIEW {view.name} AS SELECT * FROM {scan(list(view.files))}"
                )

    def _query(self, text: str) -> pa.Table:
        if self.session is not None:
            return self.session.sql(text).toArrow()
        return self.engine.sql(text).to_arrow_table()

    def _ranges(self) -> tuple[Ranges, NDArray[np.int64], int]:
        """The blocks of each slice, all blocks, and the number of transfers."""
        counts = self._query(block_counts(self.export))
        if counts["block_number"].null_count:
            raise Damaged
        block, rows = (counts[name].to_numpy() for name in ("block_number", "n"))
        if self.options.blocks is not None:
            first, last = self.options.blocks
            if len(block) and (first > block[-1] or last < block[0]):
                raise TableError(
                    f"{self.export.source}: its transfers are of blocks {block[0]} to {block[-1]}, "
                    "none of them between --from-block and --to-block"
                )
            inside = (block >= first) & (block <= last)
            block, rows = block[inside], rows[inside]
        total = int(rows.sum())
        if not transfers_have_blocks(self.export):
            counted = [
                f"SELECT count(*) AS n FROM {view.name}"
                for view in views(self.export.transfers, "transfers")
            ]
            total = sum(self._query(" UNION ALL ".join(counted))["n"].to_pylist())
        parts = _cut(block, rows, -(-total // self.options.slice_transfers))
        return parts or [(0, 0)] * bool(total), block, total  # transfers without transactions

    def _slices_by_spark(self, ranges: Ranges, blocks: NDArray[np.int64]) -> list[StoredSlice]:
        text = statement(self.export, self.options.blocks)
        slices = {part: self._written(*part) for part in ranges}
        pending = [part for part, found in slices.items() if found is None]
        if pending:
            written = spark.write_slices(self.session, text, blocks, ranges, pending, self.out)
            slices |= {(part.first, part.last): part for part in written}
        return [
            write_rows(None, self.out, *part) if found is None else found
            for part, found in slices.items()
        ]

    def _slices_by_range(self, ranges: Ranges, done: Done) -> list[StoredSlice]:
        with ThreadPoolExecutor(self.options.workers, "import") as pool:
            futures = [pool.submit(self._import_range, *part) for part in ranges]
            slices = []
            try:
                for future in futures:
                    slices.append(part := future.result())
                    done(part.transfers)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return slices

    def _slices_by_order(self, ranges: Ranges, done: Done) -> list[StoredSlice]:
        text = statement(self.export, self.options.blocks)
        ordered = self.engine.sql(f"{text} ORDER BY block_number NULLS LAST")
        reader = ordered.to_arrow_reader(_BATCH)
        slices = []
        for first, last, rows in _split(reader, ranges):
            slices.append(part := write_rows(rows, self.out, first, last))
            done(part.transfers)
        return slices

    def _are_ordered(self, ranges: Ranges) -> bool:
        """Whether reading each range by itself reads few rows in vain, and leaves out none."""
        if len(ranges) < 2:
            return bool(ranges) and transfers_have_blocks(self.export)
        starts = np.array([first for first, _ in ranges])
        ends = np.array([last for _, last in ranges])
        rows = read = 0
        for table in (self.export.transfers, self.export.transactions):
            for file, columns in table.files if table else ():
                column = columns.get("block_number")
                groups = None if column is None else file.groups.get(column_name(column.name))
                if groups is None:
                    return False
                for low, high, n in groups:
                    overlaps = np.searchsorted(starts, high, "right") - np.searchsorted(ends, low)
                    rows += n
                    read += n * max(0, int(overlaps))
        return read <= _TWICE * rows

    def _import_range(self, first: int, last: int) -> StoredSlice:
        written = self._written(first, last)
        if written is not None:
            return written
        with closing(self.engine.cursor()) as cursor:
            rows = cursor.sql(statement(self.export, (first, last))).to_arrow_table(_BATCH)
        return write_rows(rows, self.out, first, last)

    def _written(self, first: int, last: int) -> StoredSlice | None:
        """The slice of these blocks, where an interrupted import has written it."""
        path = self.out / f"{slice_name(first, last)}.parquet"
        if not path.is_file():
            return None
        try:
            facts = pq.read_metadata(path).metadata or {}
            return StoredSlice(first, last, int(facts[b"transfers"]), int(facts[b"orphans"]))
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            raise TableError(f"{path}: is no slice of this store: delete it") from error

    def _check(self, slices: list[StoredSlice]) -> list[str]:
        """Of how many transactions something is unknown; refuses one that is in two slices."""
        if not slices:
            return []
        stored = parquet(str(self.out / f"{part.name}.parquet") for part in slices)
        again = self.engine.sql(
            "SELECT lower(hex(tx_hash)), min(block_number), max(block_number) "
            f"FROM {stored} GROUP BY tx_hash HAVING count(*) > 1 LIMIT 1"
        ).fetchall()
        for tx_hash, first, last in again:
            raise TableError(
                f"transaction 0x{tx_hash} is in the blocks {first} and {last}, of two forks: leave "
                "one of them out, or export both again"
            )
        counts = ", ".join(f"count(*) - count({name}) AS {name}" for name in _SELDOM_UNKNOWN)
        (unknown,) = self.engine.sql(f"SELECT {counts} FROM {stored}").to_arrow_table().to_pylist()
        return [f"{n:,} transactions without {name}: unknown" for name, n in unknown.items() if n]

    def _copy_lists(self) -> None:
        folder = Path(self.export.source)
        if not folder.is_dir():
            return
        write_symbols(self.out, symbols(folder))
        for name in (EXPLOITS_FILE, EXPLOIT_TRANSFERS_FILE):
            if (folder / name).is_file():
                write_file(self.out / name, (folder / name).read_bytes())


def _cut(block: NDArray[np.int64], rows: NDArray[np.int64], parts: int) -> Ranges:
    """Ranges of whole blocks with about the same number of rows each."""
    if not len(block):
        return []
    total = np.cumsum(rows)
    goals = total[-1] / max(parts, 1) * np.arange(1, parts)
    ends = np.unique(np.append(np.searchsorted(total, goals), len(block) - 1))
    starts = np.append(0, ends[:-1] + 1)
    return [(int(block[a]), int(block[b])) for a, b in zip(starts, ends, strict=True)]


def _split(
    batches: Iterator[pa.RecordBatch], ranges: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int, pa.Table]]:
    """The rows of each range, from rows in order of the blocks; unknown blocks come last."""
    left = list(ranges)
    pending: list[pa.RecordBatch] = []
    schema = None
    for batch in batches:
        schema, rest = batch.schema, batch
        block = batch.column("block_number").fill_null(left[-1][1]).to_numpy()
        while len(left) > 1 and block[-1] > left[0][1]:
            cut = int(np.searchsorted(block, left[0][1], "right"))
            pending.append(rest.slice(0, cut))
            rows = pa.Table.from_batches(pending).combine_chunks()
            pending, rest, block = [], rest.slice(cut), block[cut:]
            yield *left.pop(0), rows
        pending.append(rest)
    for first, last in left if schema is not None else ():
        yield first, last, pa.Table.from_batches(pending, schema)
        pending = []


def _verify(export: Export) -> None:
    """Read the recording's pages with their checksums, which the engine does not."""
    for table in export.tables:
        for file, columns in table.files:
            read_table(Path(file.path), [column.name for column in columns.values()])
