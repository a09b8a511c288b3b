"""Finds the value that made an import fail, for an error that names file, column and value."""

from typing import Any

import duckdb

from src.datasets.tables import TableError
from src.history.layouts import LOGS, TRANSACTIONS
from src.history.matching import Export
from src.history.sources import BYTES, TEXT, Column, quoted, scan, unreadable
from src.history.sql import views

_HEX = {"tx_hash": 32} | dict.fromkeys(
    ("token_address", "from_address", "to_address", "tx_from", "tx_to"), 20
)
_WHAT = {32: "a hash", 20: "an address"}
_NUMBERS = ("block_number", "log_index", "tx_index", "nonce")
_REMEDY = "the export is corrupt or of another layout (--columns names its columns)"


def find(export: Export, connection: Any) -> TableError | None:
    """The first value that is none of its kind; None if there is none."""
    for table in export.tables:
        if table.table.kind == LOGS:
            checked = {"tx_hash": table.table.required["tx_hash"]}
        else:
            checked = {**table.table.required, **table.table.optional}
        for view in views(table, table.table.kind):
            for ours in checked:
                column = view.columns.get(ours)
                if column is None:
                    continue
                is_required = ours in table.table.required and not (
                    ours == "from_address" and table.table.kind == TRANSACTIONS
                )  # a sender may be unknown
                said = _wrong(column, ours, is_required=is_required)
                if said is None:
                    continue
                condition, what = said
                for file in view.files:
                    try:
                        rows = connection.execute(
                            f'SELECT "{column.name}" FROM {scan([file])} WHERE {condition} LIMIT 1'
                        ).fetchall()
                    except duckdb.Error as error:
                        return unreadable(file.path, error)
                    if rows:
                        value = repr(rows[0][0])[:100]
                        return TableError(
                            f"{file.path}: {column.name} is not {what}: {value}; {_REMEDY}"
                        )
    return None


def _wrong(column: Column, ours: str, *, is_required: bool) -> tuple[str, str] | None:
    """The condition of a value that is not of its kind, and what it should be."""
    name = f'"{column.name}"'
    null = f"{name} IS NULL" if is_required else "false"
    if ours in _HEX:
        length = _HEX[ours]
        if column.kind == BYTES:
            return f"{null} OR octet_length({name}) <> {length}", _WHAT[length]
        pattern = quoted(f"(0[xX])?[0-9a-fA-F]{{{2 * length}}}")
        return (
            f"{null} OR ({name} <> '' AND NOT regexp_full_match({name}, {pattern}))",
            _WHAT[length],
        )
    if ours == "amount":
        if column.kind == BYTES:
            return f"{null} OR octet_length({name}) <> 32", "a uint256 of 32 bytes"
        pattern = r"[0-9]+(\.0*)?"
        if column.name.lower().endswith("_binary"):
            pattern = "(0[xX])?[0-9a-fA-F]{64}"
        text = f"CAST({name} AS VARCHAR)"
        digits = f"length(ltrim(split_part({text}, '.', 1), '0'))"
        return (
            f"{null} OR NOT regexp_full_match({text}, '{pattern}') OR {digits} > 78 OR ({digits} = "
            f"78 AND ltrim(split_part({text}, '.', 1), '0') >= '{2**256}')",
            "a uint256 (a whole number without a fraction or an exponent)",
        )
    if ours in _NUMBERS:
        if column.kind == TEXT:
            return (
                f"{null} OR ({name} <> '' AND NOT regexp_full_match({name}, '[0-9]+'))",
                "a whole number",
            )
        return (
            f"{null} OR TRY_CAST({name} AS BIGINT) IS NULL AND {name} IS NOT NULL OR {name} < 0",
            ("a whole number"),
        )
    if ours == "block_timestamp" and column.kind == TEXT:
        return (
            f"{name} IS NOT NULL AND NOT regexp_full_match({name}, '[0-9]+') "
            f"AND TRY_CAST({name} AS TIMESTAMPTZ) IS NULL",
            "a time",
        )
    return None
