"""A history store is read like the data set that it was imported from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.datasets.store import MANIFEST, open_store, write_manifest
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


@pytest.mark.parametrize(
    "edited",
    [
        {"identity": None}, {"layout": 5}, {"chain_id": [1]}, {"chain": 1}, {"notes": None},
        {"left_out": ["a"]}, {"slices": [["a", "b", 1, 2]]}, {"slices": [[1, 2, 3.5, 0]]},
    ],
)  # fmt: skip
def test_a_manifest_that_was_edited_wrongly_is_named(tmp_path: Path, edited: Any) -> None:
    facts = {"identity": "a", "layout": "cryo", "notes": [], "left_out": {}}
    write_manifest(tmp_path, facts, [])
    path = tmp_path / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | edited))
    with pytest.raises(TableError, match=f"{path}: is no history store"):
        open_store(tmp_path)
