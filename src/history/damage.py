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
from src.history.canonical import TIMES, Damaged
from src.history.layouts import TRANSACTIONS, Table
from src.history.matching import Export
from src.history.sources import BYTES, Column, File, identifier, scan, unreadable
from src.history.sql import bytes_of, digits, is_odd, is_transaction, number, time, topic

_HEX = {"tx_hash": 32, "block_hash": 32} | dict.fromkeys(
    ("token_address", "from_address", "to_address", "tx_from", "tx_to"), 20
)
_WHAT = {32: "a hash", 20: "an address"}
_DIGITS = 78  # of the largest uint256
_NUMBERS = ("block_number", "log_index", "tx_index", "nonce")
_REMEDY = "the export is corrupt or of another layout (--columns names its columns)"


@contextmanager
def named(export: Export, engine: Any, remedy: str) -> Iterator[None]:
    """Name the file and the value that an engine or a check does not; a remedy for no memory."""
    try:
        yield
    except (duckdb.Error, Damaged, pa.ArrowException, UnicodeDecodeError) as error:
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
    for full in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        if os.strerror(full) in str(error):
            return OSError(full, os.strerror(full), written)
    if isinstance(error, duckdb.OutOfMemoryException):
        what = str(error).partition("\n")[0]  # without the engine's advice on its own settings
        return TableError(f"not enough memory or room for temporary files: {remedy} ({what})")
    return None


def _find(export: Export, connection: Any) -> TableError | None:
    """The first value that is none of its kind; None if there is none."""
    for files in export.tables:
        table = files.table
        for file, columns in files.files:
            for ours in (*table.required, *table.optional):
                if ours not in columns or not (said := _wrong(columns, ours, table)):
                    continue
                condition, what = said
                name = columns[ours].name
                for (value,) in _first(connection, file, identifier(name), condition):
                    return TableError(
                        f"{file.path}: {name} is not {what}: {repr(value)[:100]}; {_REMEDY}"
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


def _wrong(names: Mapping[str, Column], ours: str, table: Table) -> tuple[str, str] | None:
    """The condition of a value that is not of its kind, and what it should be."""
    column = names[ours]
    name = identifier(column.name)
    if ours == "data":
        return is_odd(digits(column)), "hex or bytes"
    if ours.startswith("topic"):
        numbers = range(3) if ours == "topics" else (int(ours[-1]),)
        lengths = (f"length({topic(names, number)}) <> 64" for number in numbers)
        return " OR ".join(lengths), "of 32 bytes, or a list of such, or text of one with commas"
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
        whole = f"lpad(ltrim(split_part({text}, '.', 1), '0'), {_DIGITS}, '0')"
        wrong = (
            f"NOT coalesce(regexp_full_match({text}, '0*[0-9]{{1,{_DIGITS}}}(\\.0*)?') "
            f"AND {whole} < '{2**256}', false)"
        )
    elif ours == "block_timestamp":
        what = "a time since 2015-07-30 (Unix seconds or parts of them, a timestamp or ISO text)"
        units = (
            f"{time(column)} BETWEEN {TIMES.start * unit} AND {TIMES.stop * unit - 1}"
            for unit in (1, 10**3, 10**6, 10**9)
        )
        wrong = f"NOT coalesce(TRY({' OR '.join(units)}), false)"
    elif ours in _NUMBERS:
        what, wrong = "a whole number", f"coalesce(TRY({number(column)}) < 0, true)"
    else:
        return None
    if ours in table.required and (ours, table.kind) != ("from_address", TRANSACTIONS):
        return wrong, what
    return f"coalesce(CAST({name} AS VARCHAR), '') <> '' AND {wrong}", what  # unknown where blank
