"""Data that is missing, damaged or of the wrong kind is named, never taken for whole."""

import re
import resource
import shutil
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from src.datasets.store import MANIFEST, open_store
from src.datasets.tables import TableError
from src.history.damage import explained
from src.history.importing import ImportOptions, import_history
from src.history.sources import connect
from tests.backtest.data import (
    Transaction,
    write_cryo,
    write_dataset,
    write_etl,
)
from tests.backtest.runs import content_of, run
from tests.history.imports import changed, imported, rows_of, write


def test_a_missing_column_is_named(tmp_path, history):
    write_etl(tmp_path, history)
    path = tmp_path / "token_transfers.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["value", "log_index"]), path)
    with pytest.raises(TableError, match="token_transfers but lacks the columns log_index, val"):
        imported(tmp_path)


def test_missing_transactions_are_named(tmp_path, history):
    write_etl(tmp_path, history)
    (tmp_path / "transactions.parquet").unlink()
    with pytest.raises(TableError, match="contains no transactions"):
        imported(tmp_path)


def test_cryo_without_any_time_says_what_to_export(tmp_path, history):
    write_cryo(tmp_path, history, logs=False)
    next(tmp_path.glob("*blocks*")).unlink()
    with pytest.raises(TableError, match="lacks the column timestamp"):
        imported(tmp_path)


def test_two_layouts_in_one_folder_are_refused(tmp_path, history):
    write_etl(tmp_path / "a", history)
    write_dataset(tmp_path / "b", history)
    with pytest.raises(TableError, match="several layouts"):
        imported(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_named(tmp_path, history, capsys, share):
    write_etl(tmp_path / "data", history)
    path = tmp_path / "data" / "token_transfers.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert run(tmp_path / "data", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert "token_transfers.parquet" in error
    assert "truncated" in error


def test_damage_inside_a_file_is_named_and_nothing_is_taken_for_whole(tmp_path, history, capsys):
    write_etl(tmp_path / "data", history)
    path = tmp_path / "data" / "token_transfers.parquet"
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    path.write_bytes(content)
    assert run(tmp_path / "data", tmp_path / "out") == 1
    assert "token_transfers.parquet" in capsys.readouterr().err
    assert not (tmp_path / "out" / "summary.json").exists()


@pytest.mark.parametrize(
    ("column", "value"),
    [("value", "-1"), ("value", "1e3"), ("to_address", "0x12"), ("transaction_hash", "nonsense")],
)
def test_a_damaged_value_is_shown(tmp_path, history, capsys, column, value):
    write_etl(tmp_path / "data", history)
    path = tmp_path / "data" / "token_transfers.parquet"
    table = pq.read_table(path).to_pandas()
    table.loc[3, column] = value
    table.to_parquet(path)
    assert run(tmp_path / "data", tmp_path / "out") == 1
    assert value in capsys.readouterr().err


@pytest.mark.parametrize("column", ["log_index", "block_number"])
@pytest.mark.parametrize(
    "value", ["1.79E+07", "2e3", "3.5", "1.0.5", "1e5.0", "1,000", 3.5, Decimal("3.5")]
)
def test_a_number_that_an_engine_would_round_is_shown(tmp_path, tables, column, value):
    transactions, table = tables
    numbers = [value if row == 3 else type(value)(n.as_py()) for row, n in enumerate(table[column])]
    write(tmp_path, (transactions, changed(table, **{column: pa.array(numbers)})))
    with pytest.raises(TableError, match=re.escape(f"{column} is not a whole number: {value!r}")):
        imported(tmp_path)


@pytest.mark.parametrize("column", ["nonce", "transaction_index", "block_number"])
def test_a_negative_number_is_shown(tmp_path, tables, column):
    write(
        tmp_path,
        tuple(
            changed(table, **{column: pc.subtract(-1, table[column])})
            if column in table.column_names
            else table
            for table in tables
        ),
    )
    with pytest.raises(TableError, match=f"{column} is not a whole number: -"):
        imported(tmp_path)


@pytest.mark.parametrize("value", ["0xab", "nonsense", "0x" + "zz" * 32, b"ab"])
def test_a_hash_of_a_block_that_is_none_is_shown(tmp_path, tables, value):
    hashes = pa.array([value] * len(tables[0]))
    write(tmp_path, (tables[0].append_column("block_hash", hashes), tables[1]))
    with pytest.raises(TableError, match="block_hash is not a hash: "):
        imported(tmp_path)


@pytest.mark.parametrize(("first", "last"), [(39, 10**9), (1_000, 2_000)])
def test_blocks_beyond_the_data_are_refused(tmp_path, etl, capsys, first, last):
    with pytest.raises(TableError, match="are of blocks 0 to 38, none of them between --from-b"):
        imported(etl, blocks=(first, last))
    store = imported(etl).folder
    assert run(store, tmp_path / "out", "--from-block", first, "--to-block", last) == 1
    assert "are of blocks 0 to 38, none of them between --from-b" in capsys.readouterr().err


def test_a_file_truncated_during_the_import_is_named(tmp_path, history):
    write_dataset(tmp_path / "data", history)
    path = tmp_path / "data" / "transfers.parquet"
    table = pq.read_table(path)
    last = next(t.tx_hash for t in reversed(history) if t.transfers)
    twice = table.filter(pc.equal(table["tx_hash"], last)).slice(0, 1)
    other = changed(twice, value_raw=pa.array(["123"]))
    pq.write_table(pa.concat_tables([table, other]), path)

    def truncate(_done: int) -> None:  # when all is read, and one slice of several is written
        path.write_bytes(path.read_bytes()[:-100])

    options = ImportOptions(slice_transfers=60)
    with pytest.raises(TableError, match=r"transfers\.parquet: truncated"):
        import_history(str(path.parent), tmp_path / "store", options, lambda _: truncate)


@pytest.mark.parametrize("foreign", [b"PAR1", None], ids=["corrupt", "another table"])
def test_a_foreign_file_under_the_name_of_a_slice_is_named(tmp_path, etl, foreign):
    out = tmp_path / "store"
    store = import_history(str(etl), out, ImportOptions(), lambda _: lambda _: None)
    path = store.path(store.slices[0])
    (out / MANIFEST).unlink()  # as if it had been interrupted
    path.write_bytes(foreign or (etl / "transactions.parquet").read_bytes())
    with pytest.raises(TableError, match=rf"{path}: is no slice of this store"):
        import_history(str(etl), out, ImportOptions(), lambda _: lambda _: None)


@pytest.mark.parametrize("kind", [float, str])
def test_a_fraction_of_a_second_is_cut_off(tmp_path, tables, expected, kind):
    seconds = tables[0]["block_timestamp"].cast(pa.timestamp("s")).cast(pa.int64()).to_pylist()
    times = pa.array([kind(second + 0.9) for second in seconds])
    write(tmp_path, (changed(tables[0], block_timestamp=times), tables[1]))
    assert rows_of(imported(tmp_path)) == expected


def test_a_name_in_columns_that_no_file_has_is_refused(tmp_path, tables):
    write(tmp_path, tables)
    names = {"transactions.tx_hash": "hash", "transfers.tx_hash": "transaction_hash"}
    with pytest.raises(
        TableError, match="no file has the column standrd, in --columns for token_std"
    ):
        imported(tmp_path, columns={**names, "amount": "value", "token_std": "standrd"})


@pytest.mark.parametrize("kind", [str, float, Decimal, "{}.00".format])
def test_a_whole_number_may_be_text_or_have_an_empty_fraction(tmp_path, tables, expected, kind):
    numbers = pa.array([kind(number) for number in tables[1]["log_index"].to_pylist()])
    write(tmp_path, (tables[0], changed(tables[1], log_index=numbers)))
    assert rows_of(imported(tmp_path)) == expected


@pytest.mark.parametrize("name", ["transactions.parquet", "token_transfers.parquet"])
def test_a_file_truncated_between_two_runs_is_not_gone_on_with(
    tmp_path: Path, etl: Path, capfd, name: str
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(etl, data)
    assert run(data, out, "--slice-transfers", "60") == 0
    before = content_of(out)
    entry = sorted((out / "journal").iterdir())[2]
    entry.unlink()
    content = (data / name).read_bytes()
    (data / name).write_bytes(content[: len(content) // 2])
    assert run(data, out, "--slice-transfers", "60") == 1
    assert name in capfd.readouterr().err
    (data / name).write_bytes(content)
    assert run(data, out, "--slice-transfers", "60") == 0
    assert content_of(out) == before


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_rows_that_are_there_twice_count_once(
    tmp_path: Path, etl: Path, history: list[Transaction], ordered: bool
) -> None:
    once, twice = tmp_path / "once", tmp_path / "twice"
    if ordered:
        shutil.copytree(etl, once)
    else:
        write_dataset(once, history)
    twice.mkdir()
    for path in once.iterdir():
        table = pq.read_table(path)
        if ordered:  # each row follows its double
            rows = pa.array([row for row in range(len(table)) for _ in range(2)])
            pq.write_table(table.take(rows), twice / path.name, row_group_size=64)
        else:  # two exports that overlap
            pq.write_table(table, twice / path.name)
            pq.write_table(table.slice(len(table) // 3), twice / f"again-{path.name}")
    assert run(once, tmp_path / "out-once") == 0
    assert run(twice, tmp_path / "out-twice") == 0
    stores = [open_store(Path(f"{tmp_path}/out-{name}.store")) for name in ("once", "twice")]
    transfers = [sum(part.transfers for part in store.slices) for store in stores]
    assert transfers[0] == transfers[1] > 0
    found = [content_of(tmp_path / f"out-{name}") for name in ("once", "twice")]
    tables = [{k: v for k, v in one.items() if k.endswith(".parquet")} for one in found]
    assert tables[0] == tables[1] != {}


@pytest.mark.parametrize("table", ["transactions", "token_transfers"])
def test_each_missing_column_is_named(tmp_path: Path, etl: Path, table: str) -> None:
    names = pq.read_schema(etl / f"{table}.parquet").names
    optional = {"to_address", "nonce", "transaction_index"} if table == "transactions" else set()
    for name in sorted(set(names) - optional):
        data = tmp_path / name
        shutil.copytree(etl, data)
        path = data / f"{table}.parquet"
        pq.write_table(pq.read_table(path).drop_columns([name]), path)
        with pytest.raises(TableError, match=name):
            imported(data)


def test_a_file_that_may_not_grow_is_named_and_not_the_data(tmp_path):
    """A quota is reported alike."""
    path = tmp_path / "scores.parquet"

    def write():
        with connect() as engine, explained("data.csv", path, "make room"):
            engine.sql(f"COPY (FROM range(100_000)) TO '{path}'")

    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert caught.value.filename == str(path)
