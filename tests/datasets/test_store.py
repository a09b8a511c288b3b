"""A history store is read like the data set that it was imported from."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.datasets.tables import TableError
from src.datasets.training_set import data_identity, load_background
from src.history.importing import ImportOptions, import_history
from tests.backtest.data import hostile_history, write_dataset


def test_training_reads_a_store_as_it_reads_the_data_set(tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "store"
    write_dataset(data, hostile_history(seed=2))
    table = pd.read_parquet(data / "transactions.parquet")
    table = table.assign(full_block=True, all_logs=True, source="data set", block_hash="")
    table.to_parquet(data / "transactions.parquet")
    exploit = sorted(table["tx_hash"])[0]
    listed = pd.DataFrame({"tx_hash": [exploit], "label": ["exploit"]})
    listed.to_csv(data / "exploit_transactions.csv.gz", index=False)
    options = ImportOptions(slice_transfers=100)
    import_history(str(data), folder, options, lambda _total: lambda _done: None)
    assert len(list(folder.glob("*.parquet"))) > 3
    expected, found = load_background(data), load_background(folder)
    assert exploit not in set(found.table["tx_hash"])
    assert found.table["tx_hash"].tolist() == expected.table["tx_hash"].tolist()
    assert found.table["from_address"].equals(expected.table["from_address"])
    for name in ("offsets", "token", "sender", "recipient", "amount", "origin"):
        assert (getattr(found.batch, name) == getattr(expected.batch, name)).all()
    rows = np.arange(len(found))
    assert data_identity(found, rows) == data_identity(expected, rows)


def test_a_folder_of_another_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="nor a history store"):
        load_background(tmp_path)
