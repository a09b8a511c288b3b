"""The common layouts of exported blocks, and their detection.

Files are identified by their columns, not by their names, so an export may be split into files in
any way. If a file resembles a table but lacks columns, the error names them; a file that resembles
none (traces, contracts, ...) is ignored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from src.backtest.errors import BacktestError
from src.chain.recording.format import find_parts, is_recording
from src.files import reason

TRANSACTIONS = "transactions"
TRANSFERS = "transfers"
LOGS = "logs"
BLOCKS = "blocks"

_TOPICS: Final = {f"topic{i}": (f"topic{i}",) for i in range(4)}


@dataclass(frozen=True, slots=True)
class TableLayout:
    """One kind of table in one layout.

    Attributes:
        layout: the tool or data set that writes it.
        kind: `TRANSACTIONS`, `TRANSFERS`, `LOGS` or `BLOCKS`.
        called: the tool's own name of it.
        required: the names that a column may have, by our name for it.
        optional: the same of columns that may be missing.
        telling: columns without which a file is none of these, complete or not.
    """

    layout: str
    kind: str
    called: str
    required: Mapping[str, tuple[str, ...]]
    telling: frozenset[str]
    optional: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_DATASET = "data set"
_ETL = "ethereum-etl"
_CRYO = "cryo"
RECORDING: Final = "recording"

LAYOUTS: Final = (
    TableLayout(
        RECORDING,
        LOGS,
        "logs",
        {
            "tx_hash": ("tx_hash",),
            "block_number": ("block_number",),
            "log_index": ("log_index",),
            "token_address": ("address",),
            "data": ("data",),
            **_TOPICS,
        },
        frozenset({"tx_hash", "topic0"}),
    ),
    TableLayout(
        _DATASET,
        TRANSFERS,
        "transfers",
        {
            "tx_hash": ("tx_hash",),
            "log_index": ("log_index",),
            "token_address": ("token_address",),
            "from_address": ("from_address",),
            "to_address": ("to_address",),
            "amount": ("value_raw",),
        },
        frozenset({"tx_hash", "log_index"}),
        {"token_std": ("token_std",), "block_number": ("block_number",)},
    ),
    TableLayout(
        _DATASET,
        TRANSACTIONS,
        "transactions",
        {
            "tx_hash": ("tx_hash",),
            "block_number": ("block_number",),
            "block_timestamp": ("block_timestamp",),
            "from_address": ("from_address",),
        },
        frozenset({"tx_hash"}),
        {"to_address": ("to_address",), "nonce": ("nonce",), "tx_index": ("tx_index",)},
    ),
    TableLayout(
        _ETL,
        TRANSACTIONS,
        "transactions",
        {
            "tx_hash": ("hash",),
            "block_number": ("block_number",),
            "block_timestamp": ("block_timestamp",),
            "from_address": ("from_address",),
        },
        frozenset({"hash", "nonce"}),
        {"to_address": ("to_address",), "nonce": ("nonce",), "tx_index": ("transaction_index",)},
    ),
    TableLayout(
        _ETL,
        TRANSFERS,
        "token_transfers",
        {
            "tx_hash": ("transaction_hash",),
            "block_number": ("block_number",),
            "log_index": ("log_index",),
            "token_address": ("token_address",),
            "from_address": ("from_address",),
            "to_address": ("to_address",),
            "amount": ("value",),
        },
        frozenset({"transaction_hash", "token_address"}),
    ),
    TableLayout(
        _CRYO,
        TRANSFERS,
        "erc20_transfers",
        {
            "tx_hash": ("transaction_hash",),
            "block_number": ("block_number",),
            "log_index": ("log_index",),
            "token_address": ("erc20",),
            "from_address": ("from_address",),
            "to_address": ("to_address",),
            "amount": ("value_binary", "value_string", "value"),
        },
        frozenset({"transaction_hash", "erc20"}),
    ),
    TableLayout(
        _CRYO,
        LOGS,
        "logs",
        {
            "tx_hash": ("transaction_hash",),
            "block_number": ("block_number",),
            "log_index": ("log_index",),
            "token_address": ("address",),
            "data": ("data",),
            **_TOPICS,
        },
        frozenset({"transaction_hash", "topic0"}),
    ),
    TableLayout(
        _CRYO,
        TRANSACTIONS,
        "transactions",
        {
            "tx_hash": ("transaction_hash",),
            "block_number": ("block_number",),
            "from_address": ("from_address",),
        },
        frozenset({"transaction_hash", "nonce"}),
        {
            "block_timestamp": ("timestamp",),
            "to_address": ("to_address",),
            "nonce": ("nonce",),
            "tx_index": ("transaction_index",),
        },
    ),
    TableLayout(
        _CRYO,
        BLOCKS,
        "blocks",
        {"block_number": ("block_number",), "block_timestamp": ("timestamp",)},
        frozenset({"block_hash", "timestamp", "author"}),
    ),
)


@dataclass(frozen=True, slots=True)
class TableFiles:
    """The files of one table.

    Attributes:
        kind: see `TableLayout`.
        paths: in the order of their names.
        columns: the file's name of each column, by our name.
    """

    kind: str
    paths: tuple[Path, ...]
    columns: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Export:
    """The tables of a folder.

    Attributes:
        folder: the folder.
        layout: name of the layout.
        transactions: one row per transaction.
        transfers: one row per transfer or log.
        blocks: one row per block, if transactions have no timestamp.
        left_out: ignored files of other kinds.
    """

    folder: Path
    layout: str
    transactions: TableFiles
    transfers: TableFiles
    blocks: TableFiles | None
    left_out: tuple[Path, ...]


def detect(folder: Path) -> Export:
    """Detect the tables of a folder.

    Raises:
        BacktestError: no known layout, a mixture, an unreadable file, or a missing column.
    """
    if not folder.is_dir():
        raise BacktestError(f"{folder}: no such folder")
    recording = is_recording(folder)
    found: dict[tuple[str, str], list[Path]] = {}
    columns: dict[tuple[str, str], Mapping[str, str]] = {}
    left_out: list[Path] = []
    for path in _files(folder, recording=recording):
        match = _match(path)
        if match is None:
            left_out.append(path)
            continue
        table, names = match
        key = (table.layout, table.kind)
        if columns.setdefault(key, names) != names:
            raise BacktestError(f"{path}: its columns are not those of {found[key][0]}")
        found.setdefault(key, []).append(path)
    if recording:  # its transactions have the columns of the data set
        for (layout, kind), paths in list(found.items()):
            if layout == _DATASET:
                found[RECORDING, kind], columns[RECORDING, kind] = paths, columns[layout, kind]
                del found[layout, kind]
    if not found:
        raise BacktestError(
            f"{folder}: no parquet file has a supported layout (a recording, transactions and "
            "transfers of the data set, ethereum-etl's transactions and token_transfers, cryo's "
            "transactions and erc20_transfers or logs)"
        )
    layouts = sorted({layout for layout, _ in found})
    if len(layouts) > 1:
        raise BacktestError(
            f"{folder}: contains several layouts ({', '.join(layouts)}); use a folder with one"
        )
    tables = {
        kind: TableFiles(kind, tuple(paths), columns[layout, kind])
        for (layout, kind), paths in found.items()
    }
    return _export(folder, layouts[0], tables, tuple(left_out))


def _export(
    folder: Path, layout: str, tables: Mapping[str, TableFiles], left_out: tuple[Path, ...]
) -> Export:
    if TRANSACTIONS not in tables:
        raise BacktestError(
            f"{folder}: contains no transactions ({layout}). The features need each transaction's "
            f"sender: export transactions as well{_of_other_kinds(left_out)}"
        )
    transfers = tables.get(TRANSFERS) or tables.get(LOGS)
    if transfers is None:
        raise BacktestError(
            f"{folder}: contains transactions ({layout}) but no transfers or logs"
            f"{_of_other_kinds(left_out)}"
        )
    transactions, blocks = tables[TRANSACTIONS], tables.get(BLOCKS)
    if "block_timestamp" in transactions.columns:
        blocks = None
    elif blocks is None:
        raise BacktestError(
            f"{transactions.paths[0]}: lacks the column timestamp, and there are no blocks to take "
            "it from: export transactions with timestamp, or blocks as well"
        )
    return Export(folder, layout, transactions, transfers, blocks, left_out)


def _of_other_kinds(paths: tuple[Path, ...]) -> str:
    if not paths:
        return ""
    return f". Unknown tables: {paths[0].name}" + f" and {len(paths) - 1} more" * (len(paths) > 1)


def _files(folder: Path, *, recording: bool) -> list[Path]:
    if recording:
        parts = [part.path for part in find_parts(folder)]
        return [part / f"{name}.parquet" for part in parts for name in (TRANSACTIONS, LOGS)]
    return sorted(
        path
        for path in folder.rglob("*.parquet")
        if not any(piece.startswith((".", "_")) for piece in path.relative_to(folder).parts)
    )


def _match(path: Path) -> tuple[TableLayout, dict[str, str]] | None:
    """The table that a file is, and its columns by our names; None for another kind of file."""
    present = schema_of(path).names
    for table in LAYOUTS:
        if not table.telling.issubset(present):
            continue
        names, missing = _names(table, present)
        if missing:
            raise BacktestError(
                f"{path}: looks like {table.layout}'s {table.called} but lacks the column"
                f"{'s' * (len(missing) > 1)} {', '.join(missing)}; it has {', '.join(present)}"
            )
        return table, names
    return None


def _names(table: TableLayout, present: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    names: dict[str, str] = {}
    missing = []
    for ours, theirs in {**table.required, **table.optional}.items():
        name = next((name for name in theirs if name in present), None)
        if name is not None:
            names[ours] = name
        elif ours in table.required:
            missing.append(" or ".join(theirs))
    return names, missing


def schema_of(path: Path) -> pa.Schema:
    """The columns of a parquet file.

    Raises:
        BacktestError: it cannot be read.
    """
    try:
        with pq.ParquetFile(path) as file:
            return file.schema_arrow
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> BacktestError:
    """The error for an unreadable file."""
    return BacktestError(f"{path}: truncated, corrupt or not a parquet file: {reason(error)}")
