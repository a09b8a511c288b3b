"""The page of models: figures on unseen attacks first, the challenger, drift with its dates."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from src.detection.bundle_files import DRIFT_FILE
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import load_model
from src.detection.supervised.model import load_fraud_model
from src.monitoring.drift.drift_report import as_json, to_json
from src.monitoring.drift.inputs import sample_of_predictions
from src.monitoring.drift.sample import read_sample
from src.monitoring.drift.verdict import compare
from src.registry.bundle import EVALUATION_FILE, FOREST_FILES
from src.service.app import create_app
from src.service.database.engine import Database
from src.service.database.scheduled_tasks import claim_task, finish_task
from src.service.drift_check import FRAUD_CHORE
from src.service.web.evaluation import EVALUATION_PATH
from src.settings import DEFAULT_MODEL_PATH
from tests.service.card_model import INPUTS, write_card_model
from tests.service.chain import BASE_URL, common_settings, service_settings, sqlite_url

CHECK = {"name": "recall <b>", "passed": False, "champion": "0.9", "challenger": "0.8"}


@contextmanager
def page_of(
    folder: Path, fraud_model: Path | None = None, **settings: object
) -> Iterator[TestClient]:
    service = service_settings(sqlite_url(folder), fraud_model_path=fraud_model)
    app = create_app(service, common_settings(**settings))
    with TestClient(app, base_url=BASE_URL) as client:
        yield client


def part(page: str, name: str) -> str:
    (found,) = re.findall(rf'aria-labelledby="{name}">(.*?)</section>', page, re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", found).split())


def challenger_in(folder: Path) -> Path:
    for name in FOREST_FILES:
        if (source := DEFAULT_MODEL_PATH.with_name(name)).is_file():
            shutil.copy(source, folder / name)
    return folder / DEFAULT_MODEL_PATH.name


@pytest.mark.integration
def test_figures_on_unseen_attacks_come_first(tmp_path: Path) -> None:
    recorded = json.loads(EVALUATION_PATH.read_text())["unseen"]["sets"]["replays, mainnet"]
    share = recorded["detectors"]["attack score"]["recall_0.4%"]["rows"]
    with page_of(tmp_path) as client:
        page = client.get("/ui/models").text
    unseen = part(page, "unseen")
    assert page.index('id="unseen"') < page.index('id="champion"')
    assert f"replays, mainnet {recorded['attacks']} " in unseen
    assert f"{share * 100:.1f} %" in unseen
    assert unseen.index("replays, mainnet") < unseen.index("older exploits, mainnet")
    assert "Challenger" not in unseen
    assert "No check of this model yet" in part(page, "drift")


@pytest.mark.integration
def test_a_challenger_is_compared_as_far_as_its_folder_says(tmp_path: Path) -> None:
    path = challenger_in(tmp_path)
    evaluation = tmp_path / EVALUATION_FILE
    evaluation.write_text(json.dumps({"checks": [CHECK]}))
    with page_of(tmp_path, challenger_model_path=path) as client:
        page = client.get("/ui/models").text
        shutil.copy(EVALUATION_PATH, evaluation)  # evaluated later
        later = client.get("/ui/models").text
    assert "The challenger was not evaluated on them" in part(page, "unseen")
    assert "recall &lt;b&gt; 0.9 0.8 failed" in part(page, "challenger")
    row = re.search(r"replays, mainnet \d+ (.*?) replays", part(later, "unseen"))
    assert row is not None
    assert row[1].count("at 0.1 %") == 3  # champion, attack score, challenger


@pytest.mark.integration
def test_drift_is_dated(tmp_path: Path) -> None:
    model = load_model(DEFAULT_MODEL_PATH, available_inputs=FEATURE_NAMES)
    sample = read_sample(DEFAULT_MODEL_PATH.with_name(DRIFT_FILE), model, as_reference=True)
    traffic = replace(sample, dates=("2024-05-01", "2024-05-30"))
    outcome = json.loads(to_json(compare(sample, traffic)))
    path = write_card_model(tmp_path)
    fraud = load_fraud_model(path)
    drawn = np.random.default_rng(1).normal(size=(1_000, len(INPUTS)))
    inputs = sample_of_predictions(fraud, drawn, as_reference=True)
    days = np.array([1_700_000_000, *[1_700_200_000] * 999])
    moved = sample_of_predictions(fraud, drawn + 3.0, times=days)
    with page_of(tmp_path, path) as client:
        database = Database(sqlite_url(tmp_path))
        unknown = part(client.get("/ui/models").text, "fraud-drift")
        with database.writing() as connection:
            claim_task(connection, "drift-1", 1.0, 60.0)
            finish_task(connection, "drift-1", 1_700_000_000.0, outcome)
            claim_task(connection, FRAUD_CHORE, 1.0, 60.0)
            finish_task(connection, FRAUD_CHORE, 1_700_000_000.0, as_json(compare(inputs, moved)))
        database.close()
        page = client.get("/ui/models").text
    drift, of_fraud = part(page, "drift"), part(page, "fraud-drift")
    assert "As in training , checked 2023-11-14 22:13 UTC" in drift
    assert f"training 2017-06-09 to 2025-08-28 {sample.size:,}" in drift
    assert f"traffic 2024-05-01 to 2024-05-30 {sample.size:,}" in drift
    assert re.search(r"score \d\.\d{3} \d\.\d{3}|hops \d\.\d{3} \d\.\d{3}", drift)
    assert unknown.endswith("there is nothing to compare with.")
    assert "Retrain , checked 2023-11-14 22:13 UTC" in of_fraud
    assert "retrain: fraud_probability: stability index" in of_fraud
    assert "training unknown 1,000" in of_fraud
    assert "traffic 2023-11-14 to 2023-11-17 1,000" in of_fraud
    assert "Of one worker" in of_fraud
