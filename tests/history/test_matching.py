"""Rows that are not those of one chain and one export are refused, or said."""

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from src.datasets.tables import TableError
from tests.history.imports import Tables, as_logs, changed, imported, rows_of, write


def data_set(tables: Tables) -> Tables:
    """The tables with the columns of the data set."""
    names = {"hash": "tx_hash", "transaction_index": "tx_index"}
    moved = {"transaction_hash": "tx_hash", "value": "value_raw"}
    return tables[0].rename_columns(names), tables[1].rename_columns(moved)


def write_data_set(folder: Path, tables: Tables) -> Path:
    return write(folder, data_set(tables), ("transactions.parquet", "transfers.parquet"))


def halves(table: pa.Table, one: object, two: object) -> pa.Array:
    half = len(table) // 2
    return pa.array([one] * half + [two] * (len(table) - half))


# Several chains


@pytest.mark.parametrize(
    ("column", "values"),
    [("chain_id", (1, 137)), ("blockchain", ("ethereum", "base")), ("chainId", ("0x1", "0x89"))],
)
@pytest.mark.parametrize("position", [0, 1])
def test_rows_of_several_chains_are_refused(tmp_path, tables, column, values, position):
    table = tables[position].append_column(column, halves(tables[position], *values))
    write(tmp_path, (table, tables[1]) if position == 0 else (tables[0], table))
    with pytest.raises(TableError, match=f"parquet: {column} tells several chains .*{values[1]}"):
        imported(tmp_path)


def test_folders_of_several_chains_are_refused(tmp_path, tables):
    for chain in ("ethereum", "base"):
        write(tmp_path / f"blockchain={chain}", tables)
    with pytest.raises(TableError, match="blockchain tells several chains apart"):
        imported(tmp_path)


def test_transactions_that_are_signed_for_any_chain_are_those_of_one(tmp_path, tables, expected):
    marked = tables[0].append_column("chain_id", halves(tables[0], None, 1.0))
    write(tmp_path / "date=1", (marked, tables[1]))
    write(tmp_path / "date=2", (tables[0].append_column("chain_id", halves(tables[0], 0, 1)),
                                tables[1]))  # fmt: skip
    assert rows_of(imported(tmp_path)) == expected


# Forks


def test_two_blocks_at_a_height_are_refused(tmp_path, tables):
    blocks = tables[0]["block_number"].to_pylist()
    hashes = [f"0x{number:064x}" for number in blocks]
    sent = tables[0].append_column("block_hash", pa.array(hashes))
    assert len(imported(write(tmp_path / "one", (sent, tables[1]))).slices) == 1
    row = next(row for row in range(1, len(blocks)) if blocks[row] == blocks[row - 1])
    hashes[row] = f"0x{10**9:064x}"
    forked = changed(sent, block_hash=pa.array(hashes))
    with pytest.raises(TableError, match=r"transactions\.parquet .* of another fork"):
        imported(write(tmp_path / "two", (forked, tables[1])))


def test_transfers_in_another_block_than_their_transaction_are_refused(tmp_path, tables):
    blocks = [number + (number == 7) for number in tables[0]["block_number"].to_pylist()]
    moved = changed(tables[0], block_number=pa.array(blocks))
    with pytest.raises(TableError, match=r"parquet: transaction .* in block 8, its .* block 7: "):
        imported(write(tmp_path, (moved, tables[1])))


def test_a_transaction_that_differs_names_its_files(tmp_path, tables):
    write(tmp_path, tables)
    other = changed(tables[0], nonce=pa.array([77] * len(tables[0])))
    pq.write_table(other, tmp_path / "transactions-again.parquet")
    named = "transactions-again.parquet and .*transactions.parquet and .*another nonce"
    with pytest.raises(TableError, match=named):
        imported(tmp_path)


# Which table


def test_logs_without_rows_do_not_stand_for_transfers(tmp_path, tables, expected):
    write(tmp_path, tables)
    pq.write_table(as_logs(tables[1], list).slice(0, 0), tmp_path / "logs.parquet")
    assert rows_of(imported(tmp_path)) == expected


def test_logs_of_fewer_blocks_than_the_transfers_are_refused(tmp_path, tables):
    write(tmp_path, tables)
    pq.write_table(as_logs(tables[1].slice(0, 9), list), tmp_path / "logs.parquet")
    with pytest.raises(TableError, match=r"logs\.parquet: the logs are of blocks .* export both"):
        imported(tmp_path)


def test_tables_of_two_tools_are_named(tmp_path, tables):
    names = {"block_timestamp": "block_time", "from_address": "from"}
    write(tmp_path, (tables[0].rename_columns(names), tables[1]))
    with pytest.raises(TableError, match=r"those of Dune, the transfers those of ethereum-etl"):
        imported(tmp_path)


@pytest.mark.parametrize("kind", [pa.int64(), pa.null()], ids=str)
def test_times_come_from_blocks_where_transactions_have_a_column_without_any(
    tmp_path, tables, expected, kind
):
    times = tables[0].group_by("block_number").aggregate([("block_timestamp", "max")])
    without = changed(tables[0], block_timestamp=pa.nulls(len(tables[0]), kind))
    write(tmp_path, (without, tables[1]))
    pq.write_table(times.rename_columns(["number", "timestamp"]), tmp_path / "blocks.parquet")
    store = imported(tmp_path)
    assert rows_of(store) == expected
    assert not any("block_timestamp" in note for note in store.facts["notes"])


@pytest.mark.parametrize(
    ("column", "values"),
    [("hash", [1]), ("block_number", [True]), ("nonce", [[1]]), ("from_address", [{"a": "0x"}])],
)
def test_a_column_of_another_kind_is_named(tmp_path, tables, column, values):
    wrong = changed(tables[0], **{column: pa.array(values * len(tables[0]))})
    with pytest.raises(TableError, match=rf"transactions\.parquet: the column {column} is "):
        imported(write(tmp_path, (wrong, tables[1])))


def test_amounts_are_not_rounded_to_those_of_the_first_file(tmp_path, tables):
    count = len(tables[1])
    whole = pa.array([Decimal(5)] * count, pa.decimal128(38, 0))
    parts = pa.array([Decimal("5.25")] * count, pa.decimal128(38, 2))
    write(tmp_path, (tables[0], changed(tables[1], value=whole).slice(0, 9)))
    rest = changed(tables[1], value=parts).slice(9)
    pq.write_table(rest, tmp_path / "token_transfers_1.parquet")
    with pytest.raises(TableError, match=r"token_transfers_1\.parquet: value is not .*5\.25"):
        imported(tmp_path)


# What is unknown


def test_what_is_blank_in_some_rows_is_said(tmp_path, tables):
    nonces = [None if row % 2 else 5 for row in range(len(tables[0]))]
    store = imported(write(tmp_path, (changed(tables[0], nonce=pa.array(nonces)), tables[1])))
    unknown = sum(row["nonce"] is None for row in rows_of(store))
    assert f"{unknown:,} transactions without nonce: unknown" in store.facts["notes"]


@pytest.mark.parametrize("standard", ["ERC20", "ERC-20", "", None])
def test_a_standard_may_be_spelt_otherwise_or_unknown(tmp_path, tables, expected, standard):
    column = pa.array([standard] * len(tables[1]), pa.string())
    tables = (tables[0], tables[1].append_column("token_std", column))
    assert rows_of(imported(write_data_set(tmp_path, tables))) == expected


@pytest.mark.parametrize("count", [0, 5])
def test_transfers_of_a_single_slice_without_blocks_are_counted(tmp_path, tables, count):
    tables = (tables[0].slice(0, count), tables[1].drop_columns("block_number"))
    store = imported(write_data_set(tmp_path, tables))
    known = sum(len(row["transfers"]) for row in rows_of(store))
    assert sum(part.orphans for part in store.slices) == len(tables[1]) - known > 0
