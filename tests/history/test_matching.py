"""Rows that are not those of one chain and one export are refused, or said."""

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from src.datasets.tables import TableError
from tests.backtest.data import write_cryo
from tests.history.imports import Tables, as_csv, as_logs, changed, imported, rows_of, write


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
    with pytest.raises(TableError, match=rf"parquet: {column} says .*: import one") as refused:
        imported(tmp_path)
    assert all(f"{column} says {value}" in str(refused.value) for value in values)


def test_folders_of_several_chains_are_refused(tmp_path, tables):
    for chain in ("ethereum", "base"):
        write(tmp_path / f"blockchain={chain}", tables)
    with pytest.raises(TableError, match=r"parquet: blockchain says .* import one chain alone"):
        imported(tmp_path)


def test_transactions_that_are_signed_for_any_chain_are_those_of_one(tmp_path, tables, expected):
    marked = tables[0].append_column("chain_id", halves(tables[0], None, 1.0))
    write(tmp_path / "date=1", (marked, tables[1]))
    write(tmp_path / "date=2", (tables[0].append_column("chain_id", halves(tables[0], 0, 1)),
                                tables[1]))  # fmt: skip
    assert rows_of(imported(tmp_path)) == expected


@pytest.mark.parametrize(
    ("chain", "chain_id"),
    [(56, 56), (1.0, 1), ("0x89", 137), ("BNB", 56), ("avalanche_c", 43114), ("zora", None)],
)
def test_the_store_knows_the_chain_that_a_column_says(tmp_path, tables, chain, chain_id):
    named = tables[0].append_column("Blockchain", pa.array([chain] * len(tables[0])))
    store = imported(write(tmp_path, (named, tables[1])))
    assert store.chain_id == chain_id
    said = f"transactions.parquet: Blockchain says {str(chain).lower()}"
    assert store.facts["chain"].endswith(said)
    noted = [note for note in store.facts["notes"] if "pass --chain with its id" in note]
    assert len(noted) == (chain_id is None)


@pytest.mark.parametrize("name", ["chain=bnb/", "ethereum__transactions"])
def test_the_store_knows_the_chain_that_a_name_says(tmp_path, tables, history, name):
    if name.endswith("/"):
        write(tmp_path / name, tables)
    else:
        write_cryo(tmp_path, history, logs=False)
    assert imported(tmp_path).chain_id == (56 if name.endswith("/") else 1)


def test_a_folder_and_a_column_of_different_chains_are_refused(tmp_path, tables):
    named = tables[0].append_column("chain_id", pa.array([1] * len(tables[0])))
    write(tmp_path / "chain=base", (named, tables[1]))
    with pytest.raises(TableError, match=r"parquet: chain says base, .*: chain_id says 1: import"):
        imported(tmp_path)


# Forks


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("has_blocks", [True, False])
def test_a_transaction_in_blocks_of_two_slices_is_refused(tmp_path, tables, ordered, has_blocks):
    hashes = tables[1]["transaction_hash"].to_pylist()
    again = [
        changed(part, block_number=pa.array([10**6] * len(part)))
        for table, name in zip(tables, ("hash", "transaction_hash"), strict=True)
        for part in [table.filter(pc.equal(table[name], hashes[0]))]
    ]
    forked = [pa.concat_tables(pair) for pair in zip(tables, again, strict=True)]
    if not ordered:
        forked = [table.take(pa.array(range(len(table) - 1, -1, -1))) for table in forked]
    if not has_blocks:
        forked[1] = forked[1].drop_columns("block_number")
    write_data_set(tmp_path, (forked[0], forked[1]))
    said = f"transactions.*{hashes[0]} is in .* 1000000.*: (leave one|export both)"
    with pytest.raises(TableError, match=said):
        imported(tmp_path, slice_transfers=100)


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


@pytest.mark.parametrize("beside", [True, False])
def test_logs_of_fewer_blocks_in_csv_are_refused_or_said(tmp_path, tables, beside):
    logs = as_logs(tables[1].slice(0, 9), ",".join)
    blocks = logs["block_number"].to_pylist()
    first, last = min(blocks), max(blocks)
    given = {"transactions": tables[0], "logs": logs, "token_transfers": tables[1]}
    for name, table in given.items():
        if beside or name != "token_transfers":
            (tmp_path / f"{name}.csv").write_text(as_csv(table))
    if beside:
        with pytest.raises(TableError, match=r"logs\.csv: the logs are of blocks .* export both"):
            imported(tmp_path)
        return
    notes = imported(tmp_path).facts["notes"]
    said = f"logs.csv: the logs are of blocks {first} to {last}, the transactions of {first} to "
    assert any(said in note for note in notes)


def test_logs_and_transfers_may_stand_side_by_side_with_columns(tmp_path, tables, expected):
    write_data_set(tmp_path, (tables[0], tables[1].slice(0, 3)))
    logs = as_logs(tables[1], list)
    for number in range(3):
        topics = pa.array([topic[number] for topic in logs["topics"].to_pylist()])
        logs = logs.append_column(f"topic{number}", topics)
    last = [(topic[3:] or [None])[0] for topic in logs["topics"].to_pylist()]
    logs = logs.append_column("topic3", pa.array(last, pa.string()))
    pq.write_table(logs, tmp_path / "logs.parquet")
    names = {"logs.tx_hash": "transaction_hash", "logs.token_address": "address"}
    assert rows_of(imported(tmp_path, columns={"amount": "value_raw", **names})) == expected


def test_logs_of_all_blocks_that_are_asked_for_are_taken(tmp_path, tables, expected):
    write(tmp_path, tables)
    moved = tables[1].filter(pc.less(tables[1]["block_number"], 10))
    pq.write_table(as_logs(moved, list), tmp_path / "logs.parquet")
    found = imported(tmp_path, blocks=(2, 9))
    assert rows_of(found) == [row for row in expected if 2 <= row["block_number"] <= 9]
    assert not any("blocks" in note for note in found.facts["notes"])


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


@pytest.mark.parametrize("standard", ["ERC20", "ERC-20", "bep20", "BEP-20", "trc_20", "", None])
def test_a_standard_may_be_spelt_otherwise_or_unknown(tmp_path, tables, expected, standard):
    column = pa.array([standard] * len(tables[1]), pa.string())
    tables = (tables[0], tables[1].append_column("token_std", column))
    assert rows_of(imported(write_data_set(tmp_path, tables))) == expected


def test_transfers_of_another_standard_are_said(tmp_path, tables):
    standards = pa.array(["erc721"] * 3 + ["BEP20"] * (len(tables[1]) - 3))
    store = imported(
        write_data_set(tmp_path, (tables[0], tables[1].append_column("token_std", standards)))
    )
    assert sum(len(row["transfers"]) for row in rows_of(store)) == len(tables[1]) - 3
    assert "3 rows of the standard erc721: left out" in store.facts["notes"]


@pytest.mark.parametrize("count", [0, 5])
def test_transfers_of_a_single_slice_without_blocks_are_counted(tmp_path, tables, count):
    tables = (tables[0].slice(0, count), tables[1].drop_columns("block_number"))
    store = imported(write_data_set(tmp_path, tables))
    known = sum(len(row["transfers"]) for row in rows_of(store))
    assert sum(part.orphans for part in store.slices) == len(tables[1]) - known > 0
