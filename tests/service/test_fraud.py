"""`/predict_fraud` and `/predict` with a real supervised model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from starlette.testclient import TestClient

from src.service.app import create_app
from src.training.supervised.bundle import write_fraud_bundle
from src.training.supervised.candidates import candidates
from tests.service.chain import BASE_URL, common_settings, service_settings, sqlite_url

INPUTS = ("Time", *(f"V{number}" for number in range(1, 29)), "Amount")
USUAL: dict[str, Any] = dict.fromkeys(INPUTS, 0.0)
FRAUD = USUAL | {"V1": 9.0}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder: Path = tmp_path_factory.mktemp("fraud")
    rows = np.random.default_rng(0).normal(size=(400, len(INPUTS)))
    labels = (rows[:, 1] > 1.0).astype(int)
    candidate = next(one for one in candidates(0) if one.name == "LogisticRegression")
    write_fraud_bundle(
        folder / "fraud_model.npz",
        name="LogisticRegression",
        pipeline=clone(candidate.pipeline()).fit(rows, labels),
        inputs=INPUTS,
        label="Class",
        threshold=0.5,
        training_rows=rows,
        model_version=1_650_000_000,
        training={},
    )
    path = folder / "fraud_model.npz"
    settings = service_settings(sqlite_url(folder), fraud_model_path=path)
    with TestClient(create_app(settings, common_settings()), base_url=BASE_URL) as opened:
        yield opened


def test_a_prediction_is_0_or_1_and_a_probability(client: TestClient) -> None:
    assert client.post("/predict_fraud", json=USUAL).json() == {"prediction": 0}
    assert client.post("/predict_fraud", json=FRAUD).json() == {"prediction": 1}
    assert client.post("/predict", json=FRAUD).json()["fraud_probability"] > 0.5


def test_inputs_go_by_name(client: TestClient) -> None:
    backwards = dict(reversed(FRAUD.items()))
    answers = [client.post("/predict", json=body).json() for body in (FRAUD, backwards)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({name: 0 for name in INPUTS if name != "V7"}, "missing: V7"),
        (USUAL | {"V99": 1}, "not an input of the model: V99"),
        (USUAL | {"Amount": "12"}, "not a number: Amount"),
        (USUAL | {"Amount": True}, "not a number: Amount"),
        (USUAL | {"Amount": None}, "not a number: Amount"),
        (USUAL | {"Amount": 10**400}, "not finite: Amount"),
        ({}, "no inputs"),
        (None, "body"),
        ([], "body"),
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/predict_fraud"])
def test_wrong_inputs_are_named(client: TestClient, path: str, body: Any, words: str) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"1e999"])
def test_what_is_not_finite_is_refused(client: TestClient, number: bytes) -> None:
    members = [f'"{name}": 0'.encode() for name in INPUTS[:-1]] + [b'"Amount": ' + number]
    content = b"{" + b", ".join(members) + b"}"
    answer = client.post("/predict", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert "not finite: Amount" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["!*forta_finding*!:", "-!*initialize*!-", "\u202eV1", "a\r\nb"])
def test_names_of_strangers_come_back_harmless(client: TestClient, name: str) -> None:
    detail = client.post("/predict", json={name: 1}).json()["detail"]
    assert "not an input of the model" in detail
    assert name not in detail
    assert detail.isprintable()
    assert "*!" not in detail


def test_nothing_at_all_is_a_422(client: TestClient) -> None:
    assert client.post("/predict_fraud").status_code == 422


def test_the_share_of_fraud_is_a_metric(client: TestClient) -> None:
    client.post("/predict_fraud", json=FRAUD)
    text = client.get("/metrics").text
    (line,) = [line for line in text.splitlines() if line.startswith("fraud_rate ")]
    assert 0 < float(line.split()[1]) <= 1
    assert client.get("/models").json()["supervised"]["inputs"] == list(INPUTS)
