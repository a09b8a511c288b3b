"""Kinds of bundles, and data sets, on a folder and on a real S3 server."""

import hashlib
import json
import os
import re
from pathlib import Path

import pandas as pd
import pytest

from notebooks.sample import write_sample
from src.datasets.columns import Columns
from src.datasets.tables import TableError
from src.detection.supervised.model import load_fraud_model
from src.registry import __main__ as models
from src.registry.data_sets import DataSets, table_of
from src.registry.records import DataEntry, DataStep
from src.registry.store import Store


def test_each_kind_has_its_own_champion(url, bundles, fraud_bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("STORE_URL", url)

    def run(*arguments):
        code = models.main(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    assert run("add", str(bundles[0]), "--promote")[0] == 0
    first = "npm run models -- add fraud_model --kind fraud --promote"
    assert f"holds no fraud models yet: {first}\n" in run("list", "--kind", "fraud")[1]
    code, said = run("show", "--kind", "fraud")
    assert (code, f"there is no champion of kind fraud in {Store(url).name}: {first}" in said) == (
        1,
        True,
    )
    assert run("add", str(fraud_bundle), "--kind", "fraud")[1].endswith("--kind fraud\n")
    assert run("--kind", "fraud", "promote", "challenger")[0] == 0
    for kind, version in (
        ("forest", "1700000000"),
        ("attack", "1700000000"),
        ("fraud", "1700000009"),
    ):
        (listed,) = run("list", "--kind", kind)[1].splitlines()[1:]
        assert listed.startswith(version)
        assert listed.endswith("champion")
    shown = json.loads(run("show", "--kind", "fraud")[1])
    assert (shown["classifier"], shown["threshold"]) == ("LogisticRegression", 0.5)
    code, said = run("pull", "--kind", "fraud", "--to", str(tmp_path / "models"))
    assert code == 0
    path = said.strip().split("FRAUD_MODEL_PATH=")[1]
    assert load_fraud_model(Path(path)).version == "1700000009"
    assert "lacks fraud_model.npz" in run("add", str(bundles[0]), "--kind", "fraud")[1]


def test_a_withdrawn_data_set_stays_and_is_not_trained_on(url, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("STORE_URL", url)
    write_sample(tmp_path / "one", blocks=2, per_block=3, attacks=1)
    pd.DataFrame({"V1": [0.5, 1.0, 2.0], "Class": [0, 1, 0]}).to_csv(
        tmp_path / "table.csv", index=False
    )

    def run(*arguments):
        code = models.main(["data", *arguments])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    data_id = run("add", str(tmp_path / "one"))[1].split()[0]
    said = run("add", str(tmp_path / "table.csv"), "--label", "Class")[1]
    assert "3 rows, 1 of them fraud (33.33%)" in said
    table_id = said.split()[0]
    code, said = run("add", str(tmp_path / "table.csv"))
    assert (code, "state --label COLUMN" in said) == (1, True)
    assert re.search(rf"{table_id} +labelled +Class +table.csv", run("list")[1])
    code, said = run("add", str(tmp_path / "table.csv"), "--label", "Klasse")
    assert (code, "lacks the column Klasse" in said) == (1, True)
    assert run("withdraw", data_id[:6], "--reason", "wrong labels")[0] == 0
    assert "withdrawn: wrong labels" in run("list")[1]
    stored = DataSets(Store(url))
    assert stored.fetch("transactions", tmp_path / "fetched") == {}
    ((folder, entry),) = stored.fetch("labelled", tmp_path / "fetched").items()
    assert folder.name == table_id
    assert entry.columns == Columns("Class")
    assert table_of(folder, entry).read_bytes() == (tmp_path / "table.csv").read_bytes()
    assert run("add", str(tmp_path / "one"))[0] == 0
    assert "withdrawn" not in run("list")[1]
    assert len(stored.fetch("transactions", tmp_path / "fetched")) == 1
    assert "npm run models -- data list" in run("withdraw", "xyz")[1]


def test_a_damaged_data_set_can_be_withdrawn(tmp_path, capsys):
    """Nothing is deleted, so it would end every later retraining."""
    store = str(tmp_path / "store")
    write_sample(tmp_path / "one", blocks=2, per_block=5, attacks=1)
    assert models.main(["--store", store, "data", "add", str(tmp_path / "one")]) == 0
    data_id = capsys.readouterr().out.split()[0]
    entry = tmp_path / "store/data" / data_id / "entry.json"
    entry.write_bytes(entry.read_bytes() + b" ")
    for size in (entry.stat().st_size, 2**40):
        os.truncate(entry, size)
        assert models.main(["--store", store, "data", "list"]) == 1
        assert "restore or withdraw it" in capsys.readouterr().err
    assert models.main(["--store", store, "data", "withdraw", ""]) == 1  # an unset variable
    assert models.main(["--store", store, "data", "withdraw", data_id]) == 0
    assert DataSets(Store(store)).fetch("transactions", tmp_path / "fetched") == {}


def test_a_withdrawal_is_not_hidden_by_a_step_far_ahead(tmp_path, capsys):
    store = str(tmp_path / "store")
    write_sample(tmp_path / "one", blocks=2, per_block=5, attacks=1)
    assert models.main(["--store", store, "data", "add", str(tmp_path / "one")]) == 0
    data_id = capsys.readouterr().out.split()[0]
    planted = f"data/{data_id}/steps/999999999999.json"
    Store(store).create(planted, DataStep(withdrawn=False, reason="", at=0).to_bytes())
    assert models.main(["--store", store, "data", "withdraw", data_id]) == 1
    assert "restore the missing step" in capsys.readouterr().err


def test_an_entry_of_data_chooses_no_place_on_the_disk(tmp_path):
    store = Store(str(tmp_path / "store"))
    entry = DataEntry(files={"../../elsewhere": "0" * 64}).to_bytes()
    data_id = hashlib.sha256(entry).hexdigest()[:16]
    store.create(f"data/{data_id}/entry.json", entry)
    store.create("data/elsewhere", b"x")
    with pytest.raises(TableError, match="its list of files"):
        DataSets(store).fetch("transactions", tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()
