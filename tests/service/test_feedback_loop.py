"""From an analyst's verdict in the pages to a new model on the page, all of it real."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

from src.datasets.columns import Columns
from src.datasets.labelled import load_labelled
from src.detection.features.definitions import FEATURE_NAMES
from src.registry.bundle import FRAUD
from src.registry.data_sets import DataSets, checked
from src.registry.registry import Registry
from src.registry.store import Store
from src.service.app import create_app
from src.training.retraining.__main__ import main as retrain
from src.training.supervised.run import Options, train
from tests.service.chain import BASE_URL, THEFT, common_settings, service_settings, sqlite_url
from tests.support.waiting import wait_until


def labelled(seed: int, shift: float) -> pd.DataFrame:
    """Transactions' features, of which one is higher by `shift` in frauds."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(1200, len(FEATURE_NAMES)))
    is_fraud = random.random(len(rows)) < 0.2
    rows[:, 0] += shift * is_fraud
    return pd.DataFrame(rows, columns=list(FEATURE_NAMES)).assign(Class=is_fraud.astype(int))


@pytest.mark.integration
def test_a_verdict_leads_to_a_new_model_on_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, database = str(tmp_path / "store"), sqlite_url(tmp_path)
    columns = Columns("Class")
    for name, shift in (("wrong", -3.0), ("right", 3.0)):
        labelled(0, shift).to_csv(tmp_path / f"{name}.csv", index=False)
    source = {"file": "wrong.csv", "label": "Class", "group": None}
    train(
        load_labelled(tmp_path / "wrong.csv", columns), tmp_path / "first", source,
        created_at=11, options=Options(folds=2, classifiers=("LogisticRegression",)),
    )  # fmt: skip
    registry = Registry(Store(store), FRAUD)
    registry.promote(registry.add(tmp_path / "first", code_version="abc").id)
    DataSets(registry.store).add(checked(tmp_path / "right.csv", columns))
    settings = service_settings(database, store_url=store, model_refresh_seconds=0.1)
    with TestClient(create_app(settings, common_settings()), base_url=BASE_URL) as client:
        assert "Version 11, LogisticRegression" in client.get("/ui/models").text
        client.post(f"/transactions/{THEFT}/decision").raise_for_status()
        alerts = client.get("/alerts", params={"action": "BLOCK"}).json()
        alert = next(one["id"] for one in alerts if one["transaction_hash"] == THEFT)
        page = client.get("/ui/alerts").text
        (token, *_) = re.findall(r'name="csrf" value="([^"]+)"', page)
        said = client.post(f"/ui/alerts/{alert}/feedback", data={"verdict": "true", "csrf": token})
        assert said.status_code == 200, said.text
        arguments = ["--kind", "fraud", "--store", store, "--feedback", database]
        quick = ["--keep-classifier", "--folds", "2", "--created-at", "12"]
        assert retrain([*arguments, *quick]) == 0
        report = capsys.readouterr().out
        assert "Promoted: 12-" in report
        assert "1 transactions with feedback are rows of the table" in report
        wait_until(lambda: "Version 12, LogisticRegression" in client.get("/ui/models").text)
    assert registry.entry("champion").data["rows"] == 1201
