"""Every layout and form of file gives the same store, and what does not fit is told."""

import csv
import gzip
import shutil
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from src.datasets.store import read_slice
from src.datasets.tables import TableError
from src.history.__main__ import main
from src.history.layouts import column_name, table_name
from tests.backtest.data import write_cryo, write_dataset
from tests.history.imports import Tables, as_logs, changed, imported, rows_of, write
from tests.support.object_store import BUCKET, object_store, use_object_store

# Layouts


def test_the_data_set_and_cryo_give_the_same(tmp_path, history, expected):
    write_dataset(tmp_path / "data set", history)
    write_cryo(tmp_path / "cryo", history, logs=False)
    write_cryo(tmp_path / "cryo logs", history, logs=True)
    for folder in tmp_path.iterdir():
        assert rows_of(imported(folder)) == expected, folder


def test_approvals_and_nfts_of_cryo_are_left_out(tmp_path, history, expected):
    write_cryo(tmp_path, history, logs=False)
    path = next(tmp_path.glob("*erc20_transfers*"))
    shutil.copy(path, tmp_path / "ethereum__erc20_approvals__0_to_99.parquet")
    nfts = pq.read_table(path).drop_columns(["value_binary", "value_f64"])
    pq.write_table(nfts, tmp_path / "ethereum__erc721_transfers__0_to_99.parquet")
    store = imported(tmp_path)
    assert rows_of(store) == expected
    assert len(store.facts["left_out"]) == 2


def test_hex_of_cryo_is_taken(tmp_path, history, expected):
    write_cryo(tmp_path, history, logs=False)
    for path in tmp_path.iterdir():
        table = pq.read_table(path)
        for name in table.column_names:
            if pa.types.is_binary(table[name].type):
                texts = [None if b is None else "0x" + b.hex() for b in table[name].to_pylist()]
                table = changed(table, **{name: pa.array(texts, pa.large_string())})
        pq.write_table(table, path)
    assert rows_of(imported(tmp_path)) == expected


@pytest.mark.parametrize("topics", [list, ",".join], ids=["AWS", "ethereum-etl"])
def test_logs_tell_nfts_apart_where_they_stand_beside_transfers(tmp_path, tables, expected, topics):
    write(tmp_path, (tables[0], changed(tables[1], value=pa.array([1.5] * len(tables[1])))))
    pq.write_table(as_logs(tables[1], topics), tmp_path / "logs.parquet")
    assert rows_of(imported(tmp_path)) == expected


def test_all_tables_of_an_exporter_may_stand_in_the_folder(tmp_path, tables, expected):
    write(tmp_path, tables)
    for name in ("receipts", "contracts", "tokens", "traces"):
        pq.write_table(tables[0], tmp_path / f"{name}.parquet")
    block = {"number": [1], "hash": ["0x"], "nonce": ["0x"], "timestamp": [5]}
    pq.write_table(pa.table(block), tmp_path / "blocks.parquet")
    store = imported(tmp_path)
    assert rows_of(store) == expected
    assert len(store.facts["left_out"]) == 5


def test_times_come_from_blocks_where_transactions_have_none(tmp_path, tables, expected):
    times = tables[0].group_by("block_number").aggregate([("block_timestamp", "max")])
    write(tmp_path, (tables[0].drop_columns("block_timestamp"), tables[1]))
    blocks = times.rename_columns(["number", "timestamp"])
    pq.write_table(blocks, tmp_path / "blocks.parquet")
    assert rows_of(imported(tmp_path)) == expected


def test_dune_and_flipside_are_taken(tmp_path, tables, expected):
    new = {"block_timestamp": "block_time", "from_address": "from", "to_address": "to",
           "transaction_index": "index"}  # fmt: skip
    moved = {"transaction_hash": "evt_tx_hash", "block_number": "evt_block_number",
             "log_index": "evt_index", "token_address": "contract_address",
             "from_address": "from", "to_address": "to"}  # fmt: skip
    dune = tuple(t.rename_columns(n) for t, n in zip(tables, (new, moved), strict=True))
    assert (
        rows_of(imported(write(tmp_path / "dune", dune, ("ethereum.transactions", "b"))))
        == expected
    )
    new = {"hash": "TX_HASH", "transaction_index": "TX_POSITION"}
    moved = {"transaction_hash": "TX_HASH", "log_index": "EVENT_INDEX",
             "token_address": "CONTRACT_ADDRESS", "value": "RAW_AMOUNT_PRECISE"}  # fmt: skip
    flip = tuple(t.rename_columns(n) for t, n in zip(tables, (new, moved), strict=True))
    assert rows_of(imported(write(tmp_path / "flip", flip, ("a", "b")))) == expected


def test_columns_of_another_kind_can_be_named(tmp_path, tables, expected):
    new = {"hash": "h", "block_timestamp": "at", "transaction_index": "i"}
    tables = (tables[0].rename_columns(new),
              tables[1].rename_columns({"transaction_hash": "t", "value": "wad"}))  # fmt: skip
    write(tmp_path, tables, ("transactions", "transfers"))
    with pytest.raises(TableError, match="--columns"):
        imported(tmp_path)
    names = {"transactions.tx_hash": "h", "block_timestamp": "at", "tx_index": "i",
             "transfers.tx_hash": "t", "amount": "wad"}  # fmt: skip
    assert rows_of(imported(tmp_path, columns=names)) == expected


# Forms of files


def write_csv(folder: Path, tables: Tables, *, suffix: str, compressed: bool) -> None:
    for name, table in zip(("transactions", "token_transfers"), tables, strict=True):
        path = folder / name / "start_block=0" / f"{name}_0_99{suffix}"
        path.parent.mkdir(parents=True)
        opened: Any = gzip.open if compressed else Path.open
        with opened(path, "wt", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(table.column_names)
            writer.writerows(zip(*table.to_pydict().values(), strict=True))


@pytest.mark.parametrize(("suffix", "compressed"), [(".csv", False), (".csv.gz", True), ("", True)])
def test_csv_is_taken(tmp_path, tables, expected, suffix, compressed):
    write_csv(tmp_path, tables, suffix=suffix, compressed=compressed)
    assert rows_of(imported(tmp_path)) == expected


def test_json_lines_are_taken_exactly(tmp_path, tables, expected):
    for name, table in zip(("transactions", "token_transfers"), tables, strict=True):
        import json

        lines = []
        for row in table.to_pylist():
            if "value" in row:
                row["value"] = int(row["value"])
            lines.append(json.dumps(row) + "\n")
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    assert rows_of(imported(tmp_path)) == expected


@pytest.mark.parametrize(
    "names",
    [
        ("transactions/000000000000", "token_transfers/000000000000"),
        ("transactions.PARQUET", "token_transfers.parq"),
        ("block_number=3/transactions.parquet", "block_number=3/token_transfers.parquet"),
        ("a[1]*/transactions.parquet", "a[1]*/token_transfers.parquet"),
        ("one.parquet", "two.parquet"),
    ],
    ids=str,
)
def test_files_may_have_any_name(tmp_path, tables, expected, names):
    assert rows_of(imported(write(tmp_path, tables, names))) == expected


def test_folders_may_be_links(tmp_path, etl, expected):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(etl)
    assert rows_of(imported(tmp_path / "data")) == expected


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(piece.title() for piece in rest)


@pytest.mark.parametrize("spelt", [str.upper, camel])
def test_columns_may_be_spelt_otherwise(tmp_path, tables, expected, spelt):
    tables = tuple(t.rename_columns(list(map(spelt, t.column_names))) for t in tables)
    assert rows_of(imported(write(tmp_path, tables))) == expected


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view()], ids=str)
def test_text_may_be_of_any_type(tmp_path, tables, expected, kind):
    texts = ("hash", "from_address", "to_address", "value", "token_address", "transaction_hash")
    tables = tuple(
        changed(t, **{n: t[n].cast(kind) for n in texts if n in t.column_names}) for t in tables
    )
    assert rows_of(imported(write(tmp_path, tables))) == expected


def test_text_and_bytes_may_stand_side_by_side(tmp_path, tables, expected):
    half = len(tables[1]) // 2
    write(tmp_path, (tables[0], tables[1].slice(0, half)))
    rest = tables[1].slice(half)

    def raw(name: str) -> pa.Array:
        return pa.array([bytes.fromhex(text[2:]) for text in rest[name].to_pylist()])

    amounts = [int(text).to_bytes(32, "big") for text in rest["value"].to_pylist()]
    names = ("token_address", "from_address", "to_address", "transaction_hash")
    rest = changed(rest, value=pa.array(amounts), **{name: raw(name) for name in names})
    pq.write_table(rest, tmp_path / "token_transfers-1.parquet")
    assert rows_of(imported(tmp_path)) == expected


def test_one_file_without_an_optional_column_is_unknown_there_alone(tmp_path, tables, expected):
    half = len(tables[0]) // 2
    write(tmp_path, (tables[0].slice(0, half), tables[1]))
    rest = tables[0].slice(half).drop_columns("nonce")
    pq.write_table(rest, tmp_path / "transactions-1.parquet")
    store = imported(tmp_path)
    found = rows_of(store)
    assert [{**row, "nonce": None} for row in found] == [{**row, "nonce": None} for row in expected]
    assert 0 < sum(row["nonce"] is None for row in found) < len(found)
    assert any("transactions-1.parquet without nonce" in note for note in store.facts["notes"])


# Order, slices and ranges


def test_slices_hold_whole_blocks_in_order_whatever_the_order_of_the_files(
    tmp_path, tables, expected
):
    shuffled = tuple(t.take(pa.array([(7 * i) % len(t) for i in range(len(t))])) for t in tables
                     if len(t) % 7)  # fmt: skip
    assert len(shuffled) == 2
    store = imported(write(tmp_path, shuffled), slice_transfers=100)
    assert len(store.slices) > 5
    assert rows_of(store) == expected
    for part in store.slices:
        blocks = read_slice(store.path(part))["block_number"].to_pylist()
        assert blocks[0] >= part.first
        assert blocks[-1] <= part.last


@pytest.mark.parametrize("ordered", [True, False])
def test_a_range_is_imported_alone(tmp_path, etl, history, expected, ordered):
    if not ordered:
        write_dataset(tmp_path, history)
    store = imported(etl if ordered else tmp_path, blocks=(5, 9))
    assert rows_of(store) == [row for row in expected if 5 <= row["block_number"] <= 9]
    assert sum(part.orphans for part in store.slices) == 0


def test_transfers_without_a_transaction_are_counted_once(tmp_path, tables):
    write(tmp_path, (tables[0].slice(5), tables[1]))
    gone = tables[0].slice(0, 5)["hash"]
    lost = pc.sum(pc.is_in(tables[1]["transaction_hash"], gone)).as_py()
    assert sum(part.orphans for part in imported(tmp_path).slices) == lost > 0
    pq.write_table(tables[1], tmp_path / "token_transfers-again.parquet")
    assert sum(part.orphans for part in imported(tmp_path).slices) == lost


# What is refused


def test_a_second_row_that_differs_is_refused(tmp_path, tables):
    other = changed(tables[1], value=pa.array(["77"] * len(tables[1])))
    write(tmp_path, tables)
    pq.write_table(other, tmp_path / "token_transfers-again.parquet")
    with pytest.raises(TableError, match="is there twice with another amount"):
        imported(tmp_path)


@pytest.mark.parametrize(
    ("amounts", "said"),
    [
        (lambda n: pa.array([1.5] * n), "the column value is double"),
        (
            lambda n: pa.array([Decimal(5)] * n, pa.decimal256(76, 38)),
            "the column value is decimal",
        ),
        (lambda n: pa.array([bytes(16)] * n, pa.binary(16)), "value is not a uint256"),
        (lambda n: pa.array(["9.63e+20"] * n), "9.63e"),
    ],
)
def test_an_amount_that_is_not_exact_is_named(tmp_path, tables, amounts, said):
    write(tmp_path, (tables[0], changed(tables[1], value=amounts(len(tables[1])))))
    with pytest.raises(TableError, match=said) as refused:
        imported(tmp_path)
    assert "token_transfers.parquet" in str(refused.value)


def test_a_block_that_is_missing_is_named(tmp_path, tables):
    blocks = tables[1]["block_number"].to_pylist()
    blocks[3] = None
    write(tmp_path, (tables[0], changed(tables[1], block_number=pa.array(blocks))))
    with pytest.raises(TableError, match="block_number is not a whole number"):
        imported(tmp_path)


def test_a_folder_with_something_else_is_kept(tmp_path, etl):
    from src.history.importing import ImportOptions, import_history

    (tmp_path / "precious").touch()
    with pytest.raises(TableError, match="not empty"):
        import_history(str(etl), tmp_path, ImportOptions(), lambda _: print)
    assert [path.name for path in tmp_path.iterdir() if path.name[0] != "."] == ["precious"]


@pytest.mark.parametrize("name", ["a/_delta_log/00.json", "a/metadata/v1.metadata.json"])
def test_a_table_with_versions_is_refused(tmp_path, tables, name):
    write(tmp_path, tables)
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).touch()
    with pytest.raises(TableError, match=r"/a/.* table, .*export it with its engine as parquet"):
        imported(tmp_path)


# A bucket


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with object_store(tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


@pytest.mark.integration
def test_a_bucket_is_read_in_place(s3, etl, expected, monkeypatch):
    import s3fs

    use_object_store(monkeypatch, s3)
    files = s3fs.S3FileSystem()
    for path in etl.iterdir():
        files.put(str(path), f"{BUCKET}/etl/{path.name}")
    assert rows_of(imported(f"s3://{BUCKET}/etl")) == expected


def test_names_of_columns_and_tables_are_told():
    assert [column_name(n) for n in ("blockNumber", "BLOCK_NUMBER", "value_raw", "topic0")] == [
        "block_number", "block_number", "value_raw", "topic0",
    ]  # fmt: skip
    told = {
        "ethereum__erc20_transfers__1_to_2.parquet": "erc20_transfers",
        "ethereum__erc20_approvals__1_to_2.parquet": "erc20_approvals",
        "transactions/start_block=1/part-0.parquet": "transactions",
        "tokens.transfers.csv": "transfers",
        "ethereum.tokens.csv": "tokens",
        "poisoning_transfers.csv": None,
        "a/b.parquet": None,
    }
    assert {path: table_name(path) for path in told} == told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--columns", "amount=value,amount=log_index"], "names a column twice"),
        (["--from-block", "2", "--to-block", "1"], "--from-block is after --to-block"),
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(tmp_path, capsys, options, said):
    with pytest.raises(SystemExit) as stopped:
        main(["--data", str(tmp_path), "--out", str(tmp_path / "store"), *options])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
