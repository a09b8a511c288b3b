"""Which files of an export are which of its tables, by their names and columns."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from src.chain.recording.format import is_recording
from src.datasets.tables import TableError
from src.history.layouts import (
    BLOCKS,
    CUSTOM,
    EXPLORER,
    JOINED,
    LOGS,
    OTHERS,
    RECORDING,
    TABLES,
    TRANSACTIONS,
    TRANSFERS,
    Table,
    custom_tables,
    table_name,
)
from src.history.sources import (
    BYTES,
    DECIMAL,
    FLOAT,
    INTEGER,
    LIST,
    LIST_OF_BYTES,
    NOTHING,
    TEXT,
    TIME,
    Column,
    File,
    shown,
)

_EXACT_AMOUNTS = frozenset({DECIMAL, INTEGER, TEXT, BYTES})
_SENT, _MOVED = (TRANSACTIONS,), (TRANSFERS, LOGS)
_HEX = frozenset({TEXT, BYTES, NOTHING})
_NUMBERS = frozenset({INTEGER, DECIMAL, FLOAT, TEXT, NOTHING})
_KINDS = {
    "amount": _EXACT_AMOUNTS,
    "topics": frozenset({TEXT, LIST, LIST_OF_BYTES}),
    "chain": _NUMBERS,
    "token_std": frozenset({TEXT, NOTHING}),
    "block_timestamp": _NUMBERS | {TIME},
    **dict.fromkeys(("block_number", "log_index", "tx_index", "nonce"), _NUMBERS),
}
"""What a column may be of; others are hashes, addresses and data."""


@dataclass(frozen=True, slots=True)
class TableFiles:
    """The files of one table."""

    table: Table  # what it is
    # In order of their names, each with its columns by our names.
    files: tuple[tuple[File, Mapping[str, Column]], ...]


@dataclass(frozen=True, slots=True)
class Export:
    """The tables of an export."""

    source: str  # as given
    layout: str  # its name
    transactions: TableFiles | None  # None where transfers say it themselves, in `JOINED`
    transfers: TableFiles  # or logs
    blocks: TableFiles | None  # where transactions have no time
    beside: TableFiles | None  # transfers beside logs, of which the blocks alone are read
    left_out: Mapping[str, str]  # the reason by file
    notes: tuple[str, ...]  # what the user should know

    @property
    def tables(self) -> tuple[TableFiles, ...]:
        """All that are read."""
        found = (self.transactions, self.transfers, self.blocks)
        return tuple(table for table in found if table is not None)

    @property
    def files(self) -> tuple[File, ...]:
        """All that are read."""
        return tuple(file for table in self.tables for file, _ in table.files)


def match(
    source: str,
    files: Iterable[File],
    left_out: dict[str, str],
    columns: Mapping[str, str] | None = None,
) -> Export:
    """Find the tables of an export.

    Args:
        source: as given.
        files: with tables.
        left_out: why others are not read; more are added.
        columns: names of columns that the user says, see `layouts.custom_tables`.

    Raises:
        TableError: no known layout, several, or a table that lacks a column or is missing.
    """
    if columns:
        tables: Iterable[Table] = custom_tables(columns)
    else:
        recorded = "://" not in source and is_recording(Path(source))
        tables = [table for table in TABLES if (table.layout == RECORDING) == recorded]
    found: dict[tuple[str, str], list[File]] = {}
    problems: dict[tuple[str, str], str] = {}
    for file in sorted(files, key=lambda file: not file.has_rows):
        name = table_name(file.name)
        if name in OTHERS:
            left_out[file.name] = f"{name}, another table"
            continue
        if EXPLORER in file.columns:
            left_out[file.name] = "Etherscan's, not exact"
            problems.setdefault(("Etherscan", TRANSFERS), _of_explorer(file))
            continue
        named = [table for table in tables if table.called == name] or list(tables)
        fitting, missing = _best(named, file)
        if missing:  # another tool's table may have this name: Dune's `tokens.transfers`
            alike = [table for table in tables if table.kind == fitting[0].kind]
            if not (others := _best(alike, file))[1]:
                fitting, missing = others
        if missing and name is None:
            left_out[file.name] = "its columns are those of no table"
            continue
        if not file.has_rows and (missing or any(found.get((t.layout, t.kind)) for t in fitting)):
            left_out[file.name] = "has no rows"
            continue
        for table in fitting:
            key = (table.layout, table.kind)
            found.setdefault(key, [])
            if missing:
                problems.setdefault(key, _lacks(file, table, missing))
            else:
                found[key].append(file)
    by_key = {(table.layout, table.kind): table for table in tables}
    layouts = _complete(found, by_key)
    if len(layouts) > 1:
        raise TableError(
            f"{source}: contains several layouts ({', '.join(layouts)}); use a folder with one"
        )
    if not layouts:
        raise _incomplete(source, found, problems, left_out)
    (layout,) = layouts
    return _export(
        source,
        {kind: table for (one, kind), table in by_key.items() if one == layout},
        {kind: files for (one, kind), files in found.items() if one == layout},
        {kind: problem for (one, kind), problem in problems.items() if one == layout},
        left_out,
    )


def _export(
    source: str,
    tables: Mapping[str, Table],
    found: Mapping[str, list[File]],
    problems: Mapping[str, str],
    left_out: dict[str, str],
) -> Export:
    """The tables of one layout, by their kinds."""

    def read(kind: str, without: Collection[str] = ()) -> TableFiles:
        if kind in problems:
            raise TableError(problems[kind])
        table = tables[kind]
        kept = {ours: names for ours, names in table.optional.items() if ours not in without}
        table = replace(table, optional=kept)
        files = tuple((file, _names(table, file)) for file in found[kind])
        for file, columns in files:
            _check_kinds(file, columns)
        return TableFiles(table, files)

    notes = []
    layout = tables[TRANSACTIONS].layout
    transactions = read(TRANSACTIONS) if TRANSACTIONS in found else None
    # cryo's transfers are ERC-20 alone; other tools' have NFTs, which logs tell apart.
    prefers_logs = layout != "cryo" and LOGS not in problems
    prefers_logs &= any(file.has_rows for file in found.get(LOGS, ()))
    kind = TRANSFERS if TRANSFERS in found and not prefers_logs else LOGS
    other = LOGS if kind == TRANSFERS else TRANSFERS
    for file in found.get(other, ()):
        left_out[file.name] = f"{other}: the same transfers are in the {kind}"
    if layout == "ethereum-etl" and kind == TRANSFERS:
        notes.append(
            "token_transfers does not tell NFTs from ERC-20 tokens: an NFT counts as a "
            "transfer whose amount is its id; with the table logs beside it they are told apart"
        )
    moved = read(kind, without=() if transactions is None else JOINED)
    beside = None
    if kind == LOGS and TRANSFERS in found:
        table = tables[TRANSFERS]
        names = {**table.required, **table.optional}["block_number"]
        table = replace(table, required={"block_number": names}, optional={})
        beside = TableFiles(table, tuple((file, _names(table, file)) for file in found[TRANSFERS]))
    blocks = None
    told = transactions or moved
    timeless = [file for file, columns in told.files if "block_timestamp" not in columns]
    if timeless:
        if not found.get(BLOCKS):
            named = tables[TRANSACTIONS].optional["block_timestamp"][0]
            raise TableError(
                f"{timeless[0].path}: lacks the column {named}, and there are no blocks to take it "
                f"from: export transactions with {named}, or blocks as well"
            )
        blocks = read(BLOCKS)
    for file in found.get(BLOCKS, ()) if blocks is None else ():
        left_out[file.name] = "blocks: the transactions have their time"
    facts = [ours for ours in told.table.optional if ours in (*JOINED, "to_address")]
    known = {ours for _, columns in told.files for ours in columns}
    if any(ours in ("to_address", "tx_to") and ours not in known for ours in facts):
        notes.append(f"{told.table.called} without to_address: unknown")
    for file, columns in told.files:
        if missing := [ours for ours in facts if ours in known and ours not in columns]:
            notes.append(f"{file.name} without {', '.join(missing)}: unknown")
    return Export(source, layout, transactions, moved, blocks, beside, left_out, tuple(notes))


def _check_kinds(file: File, columns: Mapping[str, Column]) -> None:
    for ours, column in columns.items():
        if not file.has_rows or column.kind in _KINDS.get(ours, _HEX):
            continue
        kind = "double" if column.kind == FLOAT else column.kind
        why = f"and cannot be the {ours}: export it as text, or name another with --columns"
        if ours == "amount":
            why = (
                "which is not exact: export it as text of a decimal uint256, or export the table "
                "logs instead"
            )
        raise TableError(f"{file.path}: the column {column.name} is {kind}, {why}")


def _names(table: Table, file: File) -> dict[str, Column]:
    """The file's columns by our names; of several for an amount the first exact one.

    An optional column without a value is as if it were missing.
    """
    names = {}
    for ours, theirs in {**table.required, **table.optional}.items():
        present = [file.columns[name] for name in theirs if name in file.columns]
        exact = [column for column in present if column.kind in _EXACT_AMOUNTS]
        if ours == "amount" and exact:
            present = exact
        if ours in table.optional and file.has_rows:
            present = [column for column in present if column.kind != NOTHING]
        if present:
            found = present[0]
            names[ours] = found if file.has_rows else Column(found.name, NOTHING)
    return names


def _best(tables: list[Table], file: File) -> tuple[list[Table], list[str]]:
    """The tables that a file fits best, and the columns that it lacks."""
    lacking = {i: _missing(table, file) for i, table in enumerate(tables)}
    fitting = [i for i, missing in lacking.items() if not missing]
    if fitting:
        most = max(len(tables[i].required) for i in fitting)
        return [tables[i] for i in fitting if len(tables[i].required) == most], []
    nearest = min(lacking, key=lambda i: len(lacking[i]) / len(tables[i].required))
    return [tables[nearest]], lacking[nearest]


def _missing(table: Table, file: File) -> list[str]:
    return [
        " or ".join(theirs)
        for theirs in table.required.values()
        if not any(name in file.columns for name in theirs)
    ]


def _lacks(file: File, table: Table, missing: list[str]) -> str:
    present = ", ".join(column.name for column in file.columns.values())
    of = "" if table.layout == CUSTOM else f"{table.layout}'s "
    return (
        f"{file.path}: looks like {of}{table.called} but lacks the column"
        f"{'s' * (len(missing) > 1)} {', '.join(missing)}; it has {present}. Names can be given "
        "with --columns"
    )


def _complete(
    found: Mapping[tuple[str, str], list[File]], tables: Mapping[tuple[str, str], Table]
) -> list[str]:
    layouts = {layout for layout, _ in found}
    return sorted(
        layout
        for layout in layouts
        if (
            (layout, TRANSACTIONS) in found
            and ((layout, TRANSFERS) in found or (layout, LOGS) in found)
        )
        or (
            (layout, TRANSFERS) in found
            and _are_joined(tables[layout, TRANSFERS], found[layout, TRANSFERS])
        )
    )


def _are_joined(table: Table, files: list[File]) -> bool:
    """Whether these transfers say all that is needed of their transactions."""
    needed = {"block_number", "block_timestamp", "tx_from"}
    return bool(files) and all(needed <= _names(table, file).keys() for file in files)


def _incomplete(
    source: str,
    found: Mapping[tuple[str, str], list[File]],
    problems: Mapping[tuple[str, str], str],
    left_out: Mapping[str, str],
) -> TableError:
    if problems:
        return TableError(next(iter(problems.values())))
    others = shown(left_out)
    by_kind = {k: [layout for layout, kind in found if kind in k] for k in (_SENT, _MOVED)}
    if all(by_kind.values()):
        sent, moved = (" or ".join(sorted(set(layouts))) for layouts in by_kind.values())
        return TableError(
            f"{source}: the transactions are those of {sent}, the transfers those of {moved}: use "
            f"those of one tool, or name their columns with --columns{others}"
        )
    for layout, kind in found:
        if kind == TRANSACTIONS:
            return TableError(
                f"{source}: contains transactions ({layout}) but no transfers or logs{others}"
            )
        if kind in (TRANSFERS, LOGS):
            return TableError(
                f"{source}: contains no transactions ({layout}). The features need each "
                "transaction's sender: export transactions as well, or transfers with the sender "
                f"(see docs/backtest.md){others}"
            )
    return TableError(
        f"{source}: no file has a supported layout (a recording, the data set, ethereum-etl, "
        "BigQuery, AWS, cryo, Dune, Flipside); --columns ours=theirs,... describes another"
        f"{others}"
    )


def _of_explorer(file: File) -> str:
    """Why Etherscan's CSV files are refused."""
    amounts = (c.name for n, c in file.columns.items() if n == "quantity" or "value" in n)
    return (
        f"{file.path}: the column {next(amounts, file.columns[EXPLORER].name)} of Etherscan's CSV "
        "files holds no exact amounts, and they have neither log_index nor the transactions' "
        "senders: record the blocks with npm run record, or export them with ethereum-etl or cryo"
    )
