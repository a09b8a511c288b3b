"""From the rows of an import to the store's form: checked, in order, each transfer once."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from src.datasets.fixed_bytes import words_of
from src.datasets.store import ADDRESS, GENESIS, HASH, SCHEMA, TRANSFER, StoredSlice, write_slice
from src.datasets.tables import TableError

_SECONDS = 10**11
"""A larger time counts milliseconds, or microseconds, or nanoseconds."""
TIMES = range(GENESIS, 2**32)
"""Unix seconds that are plausible: a date as digits, such as 20231114, is none."""
_DIGITS = 76
_OF_TRANSACTION = ("block_timestamp", "nonce", "from_address", "to_address")
_OF_TRANSFER = ("log_index", "token_address", "payer", "payee", "amount")
_WHOLE = r"^[0-9]+(\.0*)?$"


class Damaged(ValueError):
    """A value is none of its kind; `damage.find` says which."""


def canonical(rows: pa.Table) -> tuple[pa.Table, int]:
    """Bring the rows of `sql.statement` into the store's form.

    Returns:
        A table of `SCHEMA`, and the number of transfers whose transaction is not in the data.

    Raises:
        Damaged: a value is none of its kind.
        TableError: rows of the same transfer or transaction differ.
    """
    known, orphans = rows["is_known"], 0
    if not pc.all(known).as_py():
        lost = rows.filter(pc.invert(known)).group_by(["tx_hash", "log_index"])
        orphans, rows = lost.aggregate([]).num_rows, rows.filter(known)
    rows = rows.combine_chunks()
    tx_hash = _fixed(rows["tx_hash"], HASH)
    row = pc.index(pc.not_equal(rows["block_number"], rows["moved_in"]), value=True).as_py()
    if row >= 0:
        raise TableError(
            f"transaction 0x{tx_hash[row].as_py().hex()} is in block {rows['block_number'][row]}, "
            f"its transfers in block {rows['moved_in'][row]}: export both again, of one fork"
        )
    columns = {
        "block_number": _natural(rows["block_number"]),
        "tx_index": _natural(rows["tx_index"]),
        "tx_hash": tx_hash,
        "log_index": _natural(rows["log_index"], required=True),
        "block_timestamp": _seconds(rows["block_timestamp"]),
        "nonce": _natural(rows["nonce"]),
        "from_address": _fixed(rows["from_address"], ADDRESS, required=False),
        "to_address": _fixed(rows["to_address"], ADDRESS, required=False),
        "token_address": _fixed(rows["token_address"], ADDRESS),
        "payer": _fixed(rows["payer"], ADDRESS),
        "payee": _fixed(rows["payee"], ADDRESS),
        "amount": _amounts(rows["amount"], rows["word"]),
        "block_hash": _fixed(rows["block_hash"], HASH, required=False),
    }
    ordered = pa.table(columns)
    ordered = ordered.take(_order(ordered, "block_number", "tx_index", "tx_hash", "log_index"))
    _check_forks(ordered)
    return _nested(*_once(ordered)), orphans


def write_rows(rows: pa.Table | None, out: Path, first: int, last: int) -> StoredSlice:
    """Write the slice of these blocks into a store's folder, from the rows of its transfers.

    Args:
        rows: as `canonical` takes them; None where there are none.
        out: the folder.
        first: block, included.
        last: block, included.

    Raises:
        Damaged, TableError: see `canonical`.
        OSError: the disk failed.
    """
    table, orphans = (SCHEMA.empty_table(), 0) if rows is None else canonical(rows)
    transfers = pc.sum(pc.list_value_length(table["transfers"])).as_py() or 0
    part = StoredSlice(first, last, transfers, orphans)
    facts = {"transfers": str(part.transfers), "orphans": str(orphans)}
    write_slice(out / f"{part.name}.parquet", table.replace_schema_metadata(facts))
    return part


def _order(table: pa.Table, *names: str) -> pa.Array:
    """The rows by these columns; what is unknown comes first."""
    return pc.sort_indices(table, sort_keys=[(name, "ascending", "at_start") for name in names])


def _once(table: pa.Table) -> tuple[pa.Table, NDArray[np.int64]]:
    """Rows that are there twice once, and where transactions begin.

    Raises:
        TableError: they differ in something, or rows of a transaction in what is its own.
    """
    words, log_index = words_of(table["tx_hash"].combine_chunks()), table["log_index"].to_numpy()
    is_next = _repeats(words)  # of the same transaction as the row before
    is_again = is_next.copy()
    is_again[1:] &= log_index[1:] == log_index[:-1]
    first = words[~is_next, 0]
    if len(np.unique(first)) < len(first):  # others between them: sorted by position before hash
        order = _order(table, "tx_hash", "log_index")
        _check(table.take(order), _repeats(words[order]), ("block_number", "tx_index"))
    _check(table, is_next, _OF_TRANSACTION)
    if is_again.any():
        _check(table, is_again, _OF_TRANSFER)
        table, is_next = table.filter(pa.array(~is_again)), is_next[~is_again]
    return table, np.flatnonzero(~is_next)


def _repeats(rows: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether each row equals the one before."""
    found = np.zeros(len(rows), np.bool_)
    found[1:] = (rows[1:] == rows[:-1]).all(axis=1)
    return found


def _check(table: pa.Table, is_next: NDArray[np.bool_], names: Iterable[str]) -> None:
    """Raise TableError if one of these rows, which are as the one before, differs from it."""
    for name in names:
        column = table[name].combine_chunks()
        differs = pc.not_equal(column[:-1], column[1:])
        if column.null_count:
            null = column.is_null()
            differs = pc.coalesce(differs, pc.xor(null[:-1], null[1:]))
        for row in np.flatnonzero(is_next[1:] & np.asarray(differs))[:1].tolist():
            raise TableError(
                f"transaction 0x{table['tx_hash'][row].as_py().hex()} is there twice with another "
                f"{name} (log {table['log_index'][row]}): leave one of the two exports out"
            )


def _check_forks(table: pa.Table) -> None:
    """Raise TableError if blocks with the same number have different hashes, where known."""
    known = table.select(["block_number", "block_hash", "tx_hash"])
    known = known.filter(known["block_hash"].is_valid()).combine_chunks()
    block, block_hash = (known[name].combine_chunks() for name in ("block_number", "block_hash"))
    differs = pc.not_equal(block_hash[1:], block_hash[:-1])
    row = pc.index(pc.and_(pc.equal(block[1:], block[:-1]), differs), value=True).as_py()
    if row >= 0:
        raise TableError(
            f"transaction 0x{known['tx_hash'][row + 1].as_py().hex()} is in another block "
            f"{block[row]} than those before it, of another fork: leave one of the two out"
        )


def _nested(table: pa.Table, starts: NDArray[np.int64]) -> pa.Table:
    offsets = np.append(starts, table.num_rows).astype(np.int32)
    struct = pa.StructArray.from_arrays(
        [table[name].combine_chunks() for name in _OF_TRANSFER], fields=list(TRANSFER)
    )
    transfers = pa.ListArray.from_arrays(pa.array(offsets), struct, type=SCHEMA.field(7).type)
    each = table.take(pa.array(starts))
    columns = [each[name] for name in ("block_number", "tx_index", "tx_hash")]
    columns += [each[name] for name in ("block_timestamp", "nonce", "from_address", "to_address")]
    nested = pa.table([*columns, transfers], schema=SCHEMA)
    if nested["tx_index"].null_count:  # then the first log tells the order within a block
        nested = nested.take(_order(each, "block_number", "tx_index", "log_index"))
    return nested


def _fixed(column: pa.ChunkedArray, kind: pa.DataType, *, required: bool = True) -> Any:
    if required and column.null_count:
        raise Damaged
    try:
        return column.cast(kind)
    except pa.ArrowException:
        raise Damaged from None


def _natural(column: pa.ChunkedArray, *, required: bool = False) -> pa.ChunkedArray:
    if (required and column.null_count) or (pc.min(column).as_py() or 0) < 0:
        raise Damaged
    return column


def _seconds(column: pa.ChunkedArray) -> pa.ChunkedArray:
    for _ in range(3):
        highest = pc.max(column).as_py()
        if highest is None or highest < _SECONDS:
            break
        column = pc.if_else(pc.less(column, _SECONDS), column, pc.divide(column, 1000))
    if column.null_count < len(column):
        earliest, latest = pc.min_max(column).as_py().values()
        if earliest < TIMES.start or latest >= TIMES.stop:
            raise Damaged
    return column


def _amounts(texts: pa.ChunkedArray, words: pa.ChunkedArray) -> pa.Array:
    """32 bytes each, from decimal text, exactly; or the bytes that are there."""
    if not words.null_count:
        return _fixed(words, HASH).combine_chunks()
    text = texts.combine_chunks()
    if words.null_count < len(words):
        given = _fixed(words, HASH, required=False).combine_chunks()
        rest = _amounts_of(text.filter(pc.is_null(given)))
        return pc.replace_with_mask(given, pc.is_null(given), rest)
    return _amounts_of(text)


def _amounts_of(texts: pa.Array) -> pa.Array:
    if texts.null_count or not pc.all(pc.match_substring_regex(texts, _WHOLE)).as_py():
        raise Damaged
    short = texts
    long = pc.greater(pc.binary_length(texts), _DIGITS)
    has_long = pc.any(long).as_py()
    if has_long:
        short = pc.if_else(long, "0", texts)
    numbers = short.cast(pa.decimal256(_DIGITS, 0))
    content = np.frombuffer(numbers.buffers()[1], np.uint8).reshape(-1, 32)
    content = content[numbers.offset : numbers.offset + len(numbers), ::-1]
    content = np.ascontiguousarray(content)
    if has_long:
        for row in np.flatnonzero(long.to_numpy(zero_copy_only=False)).tolist():
            number = int(texts[row].as_py().partition(".")[0])
            if number >= 2**256:
                raise Damaged
            content[row] = np.frombuffer(number.to_bytes(32, "big"), np.uint8)
    return pa.FixedSizeBinaryArray.from_buffers(HASH, len(texts), [None, pa.py_buffer(content)])
