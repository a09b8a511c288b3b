"""`/predict_fraud` and `/predict` with a real supervised model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from src.service.api.fraud import MAX_BATCH
from src.service.app import create_app
from tests.service.card_model import INPUTS, write_card_model
from tests.service.chain import BASE_URL, common_settings, service_settings, sqlite_url

USUAL: dict[str, Any] = dict.fromkeys(INPUTS, 0.0)
FRAUD = USUAL | {"V1": 9.0}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder: Path = tmp_path_factory.mktemp("fraud")
    path = write_card_model(folder)
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


def errors(client: TestClient) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(one.split()[-1]) for one in lines if one.startswith("error_count_total{"))


@pytest.mark.parametrize("content", [b"{}", b"", b"[]", b"[1]", b'{"V1": "x"}', b'"text"'])
@pytest.mark.parametrize("path", ["/predict", "/predict_fraud"])
def test_every_422_is_counted(client: TestClient, path: str, content: bytes) -> None:
    before = errors(client)
    answer = client.post(path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert errors(client) == before + 1


def test_a_problem_lists_names_by_what_is_wrong(client: TestClient) -> None:
    body = {name: 0 for name in INPUTS if name != "V7"} | {"V8": "x", "V9": 10**400, "V99": 1}
    problem = client.post("/predict", json=body).json()
    assert problem["missing"] == ["V7"]
    assert problem["unknown"] == ["V99"]
    assert problem["not_numeric"] == ["V8"]
    assert problem["not_finite"] == ["V9"]


def test_a_batch_gives_a_probability_for_each(client: TestClient) -> None:
    single = [client.post("/predict", json=one).json() for one in (USUAL, FRAUD)]
    assert client.post("/predict", json=[USUAL, FRAUD]).json() == single
    answer = client.post("/predict", json=[USUAL, USUAL | {"V1": None}])
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("entry 1: not a number: V1")


def predicted(client: TestClient) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(one.split()[-1]) for one in lines if one.startswith("fraud_predictions_total"))


def test_a_refused_batch_counts_no_predictions(client: TestClient) -> None:
    """Nobody was told them: `fraud_rate` is of the answers."""
    client.post("/predict", json=USUAL)
    before = predicted(client)
    client.post("/predict", json=[USUAL, USUAL | {"V1": None}])
    assert predicted(client) == before
    client.post("/predict", json=[USUAL, USUAL])
    assert predicted(client) == before + 2


@pytest.mark.parametrize(
    ("body", "where", "words"),
    [
        ([USUAL] * (MAX_BATCH + 1), ["body", "list"], "at most 1000 items"),
        ([], ["body", "list"], "at least 1 item"),
        ([USUAL, 1], ["body", "list", "1"], "dictionary"),
        ("text", ["body", "inputs"], "dictionary"),
    ],
)
def test_an_error_is_said_once_of_what_was_sent(
    client: TestClient, body: Any, where: list[str], words: str
) -> None:
    answer = client.post("/predict", json=body)
    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["where"]) == (422, where)
    assert words in error["problem"]


@pytest.mark.parametrize("path", ["/predict", "/predict_fraud"])
def test_the_documented_example_is_accepted(client: TestClient, path: str) -> None:
    body = client.get("/openapi.json").json()["paths"][path]["post"]["requestBody"]
    (example,) = body["content"]["application/json"]["schema"]["examples"]
    assert set(example) == set(INPUTS)
    assert client.post(path, json=example).status_code == 200


def test_the_model_comes_with_its_card(client: TestClient) -> None:
    card = client.get("/models/fraud").json()
    assert card["card"] == "# The report"
    assert (card["classifier"], card["label"]) == ("LogisticRegression", "Class")
    assert card["training"] == {"data": {"rows": 400}}
    metrics = client.get("/metrics").text
    assert f'sha256="{card["sha256"]}"' in metrics


def test_nothing_at_all_is_a_422(client: TestClient) -> None:
    assert client.post("/predict_fraud").status_code == 422


def test_the_share_of_fraud_is_a_metric(client: TestClient) -> None:
    client.post("/predict_fraud", json=FRAUD)
    text = client.get("/metrics").text
    (line,) = [line for line in text.splitlines() if line.startswith("fraud_rate ")]
    assert 0 < float(line.split()[1]) <= 1
    assert client.get("/models").json()["supervised"]["inputs"] == list(INPUTS)
