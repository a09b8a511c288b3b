"""Finds the value that made an import fail, for an error that names file, column and value."""

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from src.datasets.tables import TableError
from src.files import reason
from src.history.canonical import TIMES, Damaged
from src.history.layouts import LOGS, TRANSACTIONS
from src.history.matching import Export
from src.history.sources import BYTES, Column, File, identifier, scan, unreadable
from src.history.sql import bytes_of, digits, is_odd, is_transaction, number, time, topic, views

_HEX = {"tx_hash": 32, "block_hash": 32} | dict.fromkeys(
    ("token_address", "from_address", "to_address", "tx_from", "tx_to"), 20
)
_WHAT = {32: "a hash", 20: "an address"}
_DIGITS = 78  # of the largest uint256
_NUMBERS = ("block_number", "log_index", "tx_index", "nonce")
_TOPICS = ("topics", "topic0", "topic1", "topic2")
_REMEDY = "the export is corrupt or of another layout (--columns names its columns)"


@contextmanager
def named(export: Export, engine: Any, remedy: str) -> Iterator[None]:
    """Name the file and the value that an engine or a check does not; a remedy for no memory."""
    try:
        yield
    except (duckdb.Error, Damaged, pa.ArrowException) as error:
        if scarce := _scarce(error, remedy):
            raise scarce from error
        with closing(engine.cursor()) as cursor:  # the other may be in the middle of something
            found = _find(export, cursor)
        raise found or unreadable(export.source, error) from error
    except TableError as error:
        with closing(engine.cursor()) as cursor:
            files = _files_of(export, cursor, str(error))
        if not files:
            raise
        raise TableError(f"{' and '.join(files)}: {error}") from error


@contextmanager
def explained(read: str, written: Path, remedy: str) -> Iterator[None]:
    """Name the file that an engine could not read, or write for want of room; as `named`."""
    try:
        yield
    except duckdb.Error as error:
        raise _scarce(error, remedy, str(written)) or unreadable(read, error) from error


def _scarce(error: Exception, remedy: str, written: str | None = None) -> Exception | None:
    """The error where room or memory was too small, None where it was not."""
    if "No space left on device" in str(error):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), written)
    if isinstance(error, duckdb.OutOfMemoryException):
        return TableError(
            f"not enough memory or room for temporary files: {remedy} ({reason(error)})"
        )
    return None


def _find(export: Export, connection: Any) -> TableError | None:
    """The first value that is none of its kind; None if there is none."""
    for table in export.tables:
        for view in views(table, table.table.kind):
            for ours in (*table.table.required, *table.table.optional):
                column = view.columns.get(ours)
                if column is None:
                    continue
                is_required = ours in table.table.required and not (
                    ours == "from_address" and table.table.kind == TRANSACTIONS
                )  # a sender may be unknown
                if table.table.kind == LOGS and ours in (*_TOPICS, "data"):
                    said: tuple[str, str] | None = _no_log(view.columns, ours)
                else:
                    said = _wrong(column, ours, is_required=is_required)
                if said is None:
                    continue
                condition, what = said
                for file in view.files:
                    rows = _first(connection, file, identifier(column.name), condition)
                    if rows:
                        value = repr(rows[0][0])[:100]
                        return TableError(
                            f"{file.path}: {column.name} is not {what}: {value}; {_REMEDY}"
                        )
    return None


def _files_of(export: Export, connection: Any, text: str) -> list[str]:
    """The files that hold the transaction that an error begins with."""
    found = []
    if named := re.match("transaction 0x([0-9a-f]{64}) ", text):
        for table in export.tables:
            for file, columns in table.files:
                if "tx_hash" in columns:
                    condition = is_transaction(columns, named[1])
                    found += [file.path] * len(_first(connection, file, "1", condition))
    return found


def _first(connection: Any, file: File, column: str, condition: str) -> list[tuple[Any, ...]]:
    """The first row for which a condition holds, if any; raises TableError for a broken file."""
    text = f"SELECT {column} FROM {scan([file])} WHERE {condition} LIMIT 1"
    try:
        rows: list[tuple[Any, ...]] = connection.execute(text).fetchall()
    except duckdb.Error as error:
        raise unreadable(file.path, error) from error
    return rows


def _no_log(columns: Mapping[str, Column], ours: str) -> tuple[str, str]:
    if ours == "data":
        return is_odd(digits(columns[ours])), "hex or bytes"
    numbers = range(3) if ours == "topics" else (int(ours[-1]),)
    wrong = (f"length({topic(columns, number)}) <> 64" for number in numbers)
    return " OR ".join(wrong), "of 32 bytes, or a list of such, or text of one with commas"


def _wrong(column: Column, ours: str, *, is_required: bool) -> tuple[str, str] | None:
    """The condition of a value that is not of its kind, and what it should be."""
    name = identifier(column.name)
    what, wrong = "a whole number", f"coalesce(TRY({number(column)}) < 0, true)"
    if ours in _HEX:
        length = _HEX[ours]
        what = _WHAT[length]
        wrong = f"octet_length(TRY({bytes_of(column, length)})) IS DISTINCT FROM {length}"
    elif ours == "amount" and (column.kind == BYTES or column.name.lower().endswith("_binary")):
        what = "a uint256 of 32 bytes"
        wrong = f"octet_length(TRY({bytes_of(column, 32)})) IS DISTINCT FROM 32"
    elif ours == "amount":
        what = "a uint256 (a whole number without a fraction or an exponent)"
        text = f"CAST({name} AS VARCHAR)"
        digits = f"lpad(ltrim(split_part({text}, '.', 1), '0'), {_DIGITS}, '0')"
        wrong = (
            f"NOT coalesce(regexp_full_match({text}, '0*[0-9]{{1,{_DIGITS}}}(\\.0*)?') "
            f"AND {digits} < '{2**256}', false)"
        )
    elif ours == "block_timestamp":
        what = "a time since 2015-07-30 (Unix seconds or parts of them, a timestamp or ISO text)"
        units = (
            f"{time(column)} BETWEEN {TIMES.start * unit} AND {TIMES.stop * unit - 1}"
            for unit in (1, 10**3, 10**6, 10**9)
        )
        wrong = f"NOT coalesce(TRY({' OR '.join(units)}), false)"
    elif ours not in _NUMBERS:
        return None
    blank = "" if is_required else f"coalesce(CAST({name} AS VARCHAR), '') <> '' AND "
    return f"{blank}{wrong}", what
