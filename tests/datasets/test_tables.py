"""What may be read as a table, and how one is written."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from src.datasets import tables
from src.datasets.tables import TableError, csv_text, read_table


def test_a_parquet_file_of_too_many_rows_is_refused_by_its_metadata(tmp_path, monkeypatch):
    path = tmp_path / "bomb.parquet"
    column = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), 10**6), ["0x"])
    pq.write_table(pa.table({"tx_hash": column}), path)
    monkeypatch.setattr(tables, "MAX_ROWS", 10**6 - 1)
    monkeypatch.setattr(pd, "read_parquet", lambda *_: pytest.fail("it was read"))
    with pytest.raises(TableError, match=r"1,000,000 rows, more than 999,999"):
        read_table(path)


@pytest.mark.parametrize("text", ["=cmd|'/C calc'!A1", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_of_a_csv_is_a_formula(text):
    table = pd.DataFrame({"tx_hash": [text, "0xab"], "score": [-0.5, 0.5]})
    assert csv_text(table).splitlines()[-1] == "0xab,0.5"
    cell = csv_text(table).split("\n", 1)[1]
    assert cell.removeprefix('"').startswith("'")
    assert ",-0.5" in cell
