"""What may be read as a table, and how one is written."""

import gzip
import hashlib

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from src.datasets import tables
from src.datasets.tables import TableError, TransactionSet, csv_text, fungible, read_table


def test_a_parquet_file_of_too_many_rows_is_refused_by_its_metadata(tmp_path, monkeypatch):
    path = tmp_path / "bomb.parquet"
    column = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), 10**6), ["0x"])
    pq.write_table(pa.table({"tx_hash": column}), path)
    monkeypatch.setattr(tables, "MAX_ROWS", 10**6 - 1)
    monkeypatch.setattr(pd, "read_parquet", lambda *_: pytest.fail("it was read"))
    with pytest.raises(TableError, match=r"1,000,000 rows, more than 999,999"):
        read_table(path)


def test_a_packed_file_that_unpacks_to_no_end_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"tx_hash\n" + b"0x\n" * 10**6))
    monkeypatch.setattr("src.files._MIN_BOMB_BYTES", 2**20)
    monkeypatch.setattr(pd, "read_csv", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(TableError, match="unpacks to more than 100 times"):
        read_table(path)


def test_a_packed_file_of_ordinary_rows_is_read(tmp_path, monkeypatch):
    path = tmp_path / "rows.csv.gz"
    rows = "".join(f"0x{hashlib.sha256(bytes([n])).hexdigest()},{n}\n" for n in range(200))
    path.write_bytes(gzip.compress(f"tx_hash,n\n{rows}".encode()))
    monkeypatch.setattr("src.files._MIN_BOMB_BYTES", 0)
    assert len(read_table(path)) == 200


@pytest.mark.parametrize("text", ["=cmd|'/C calc'!A1", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_of_a_csv_is_a_formula(text):
    table = pd.DataFrame({"tx_hash": [text, "0xab"], "score": [-0.5, 0.5]})
    assert csv_text(table).splitlines()[-1] == "0xab,0.5"
    cell = csv_text(table).split("\n", 1)[1]
    assert cell.removeprefix('"').startswith("'")
    assert ",-0.5" in cell


@pytest.mark.parametrize("standard", ["erc20", "ERC-20", "bep20", "", None])
def test_a_transfer_of_an_unknown_or_another_spelt_standard_is_one(standard):
    rows = pd.DataFrame({"log_index": [0, 1], "token_std": [standard, "erc721"]})
    assert fungible(rows)["log_index"].tolist() == [0]


@pytest.mark.parametrize("log_index", [float("nan"), "a"])
def test_transfers_without_the_number_of_their_log_are_named(log_index):
    transactions = pd.DataFrame({"tx_hash": ["0x1"], "from_address": ["0x2"]})
    names = ("token_address", "from_address", "to_address")
    row = {"tx_hash": "0x1", "log_index": log_index, "value_raw": "1"} | dict.fromkeys(names, "0x")
    with pytest.raises(TableError, match=r"transfers of data: .*log_index"):
        TransactionSet.from_tables(transactions, pd.DataFrame([row]), what="data")


def test_transfers_without_a_standard_are_all_taken():
    assert len(fungible(pd.DataFrame({"log_index": [0, 1]}))) == 2
