"""What every operation of the API keeps to: queries, bodies, methods, conditional requests."""

import re
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import delete, select
from starlette.testclient import TestClient

from src.service.database.decisions import newest_decision, store_decision
from src.service.database.tables import decisions
from tests.service.chain import THEFT
from tests.support.waiting import wait_until

OTHER = "0x" + "5" * 64


@pytest.fixture(scope="module")
def decided(client: TestClient) -> str:
    assert client.post(f"/transactions/{THEFT}/decision").status_code == 200
    return THEFT


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/alerts"), ("GET", "/jobs"), ("GET", "/models"), ("GET", "/healthz"),
     ("POST", f"/transactions/{THEFT}/decision")],
)  # fmt: skip
def test_an_unknown_query_parameter_is_refused(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, path, params={"sevrity": "High", "limt\u202e": 5})
    assert answer.status_code == 422
    problem = answer.json()
    assert "sevrity" in problem["detail"]
    assert problem["errors"] == [
        {"where": ["query", "limt"], "problem": "unknown parameter"},
        {"where": ["query", "sevrity"], "problem": "unknown parameter"},
    ]


def test_a_repeated_query_parameter_is_refused_since_only_one_value_would_count(
    client: TestClient,
) -> None:
    answer = client.get("/alerts", params={"action": ["BLOCK", "REVIEW"], "limit": 5})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"where": ["query", "action"], "problem": "repeated"}]
    assert "repeated: action" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/screen", {"transactions": [{"from": 1, "to": 7, "value": {}}] * 6}),
        ("/decisions", {"logs": [{"address": "0x" + "1" * 200, "topics": "none"}] * 30}),
    ],
)
def test_a_long_problem_ends_after_a_word(
    client: TestClient, path: str, body: dict[str, Any]
) -> None:
    problem = client.post(path, json=body).json()
    whole = "; ".join(f"{'.'.join(one['where'])}: {one['problem']}" for one in problem["errors"])
    said, cut = problem["detail"].split(" …")
    assert cut == ""
    assert len(problem["detail"]) <= 1_000
    assert whole.startswith(f"{said} ")


@pytest.mark.parametrize("path", ["/anomaly_detection/", "/decisions", "/predict"])
@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "application", ";", "jsön"]
)
def test_a_body_that_is_not_called_json_is_refused(
    client: TestClient, path: str, media_type: str
) -> None:
    headers = {"Content-Type": media_type.encode("latin-1")}
    answer = client.post(path, content=b"{}", headers=headers)
    assert answer.status_code == 415
    assert answer.headers["accept"] == "application/json"
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("media_type", ["application/json", "application/ld+json; charset=utf-8"])
def test_a_body_that_is_called_json_is_read(client: TestClient, media_type: str) -> None:
    answer = client.post(
        "/decisions", content=b'{"logs": []}', headers={"Content-Type": media_type}
    )
    assert answer.status_code == 200


def test_the_examples_of_bodies_are_accepted(client: TestClient, decided: str) -> None:
    assert decided
    schema = client.get("/openapi.json").json()
    alert = str(client.get("/alerts", params={"limit": 1}).json()[0]["id"])
    tried = 0
    for path, methods in schema["paths"].items():
        body = methods.get("post", {}).get("requestBody")
        if body is None or path.startswith("/predict"):  # these need a model, see test_fraud.py
            continue
        name = body["content"]["application/json"]["schema"]["$ref"].split("/")[-1]
        for example in schema["components"]["schemas"][name]["examples"]:
            answer = client.post(path.replace("{alert}", alert), json=example)
            assert answer.status_code in (200, 202), (path, answer.text)
            tried += 1
    assert tried >= 5


@pytest.mark.parametrize("number", [True, 1.0, "1"])
def test_only_whole_numbers_are_ids_of_alerts(client: TestClient, number: Any) -> None:
    answer = client.post("/alerts/triage", json={"alerts": [number], "state": "done"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["where"] == ["body", "alerts", "0"]


def test_a_body_that_is_nested_too_deeply_is_a_bad_request(client: TestClient) -> None:
    headers = {"Content-Type": "application/json"}
    for content, status in ((b"[" * 33, 400), (b'{"logs": ["' + b"[" * 99 + b'"]}', 422)):
        answer = client.post("/decisions", content=content, headers=headers)
        assert answer.status_code == status
        assert ("nested" in answer.json()["detail"]) == (status == 400)


def test_malformed_json_is_a_bad_request(client: TestClient) -> None:
    headers = {"Content-Type": "application/json"}
    answer = client.post("/predict", content=b'{"Time": ', headers=headers)
    assert (answer.status_code, answer.json()["detail"]) == (400, "The body is not JSON.")


@pytest.mark.parametrize("value", [True, False, 1.5, [], {}])
@pytest.mark.parametrize("part", ["block.timestamp", "transaction.nonce", "transaction.value"])
def test_what_is_no_number_is_not_taken_for_one(client: TestClient, part: str, value: Any) -> None:
    outer, inner = part.split(".")
    answer = client.post("/decisions", json={"logs": [], outer: {inner: value}})
    assert answer.status_code == 422
    assert inner in answer.json()["detail"]


@pytest.mark.parametrize(
    "path",
    ["/alerts?until=5", "/healthz", "/metrics", "/openapi.json", "/ui/static/style.css", "/x"],
)
def test_head_answers_like_get_without_a_body(client: TestClient, path: str) -> None:
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    if path != "/metrics":  # each answer is longer than the one before
        assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/alerts", "GET, HEAD, OPTIONS"),
        (f"/jobs/{'0' * 32}", "GET, DELETE, HEAD, OPTIONS"),
        (f"/transactions/{THEFT}/decision", "GET, POST, HEAD, OPTIONS"),
        ("/predict", "POST, OPTIONS"),
    ],
)
def test_allow_names_every_method_of_a_path(client: TestClient, path: str, allowed: str) -> None:
    refused = client.put(path)
    assert (refused.status_code, refused.headers["allow"]) == (405, allowed)
    options = client.options(path)
    assert (options.status_code, options.headers["allow"]) == (204, allowed)


def test_an_answer_that_has_not_changed_is_not_sent_again(client: TestClient, decided: str) -> None:
    first = client.get("/alerts", params={"limit": 1})
    tag = first.headers["etag"]
    again = client.get("/alerts", params={"limit": 1}, headers={"If-None-Match": f'"x", W/{tag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == tag
    assert again.headers["x-total-count"] == first.headers["x-total-count"]
    alert = first.json()[0]["id"]
    client.post(f"/alerts/{alert}/feedback", json={"is_true_positive": True})
    changed = client.get("/alerts", params={"limit": 1}, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.json()[0]["feedback"]


def test_no_answer_but_of_get_and_no_error_has_a_tag(client: TestClient, decided: str) -> None:
    assert "etag" not in client.post(f"/transactions/{decided}/decision").headers
    assert "etag" not in client.get(f"/transactions/{OTHER}/decision").headers
    assert client.get("/nothing", headers={"If-None-Match": "*"}).status_code == 404


def test_looking_a_decision_up_makes_none(client: TestClient) -> None:
    path = f"/transactions/{THEFT}/decision"
    # The demo decides on everything by itself; the theft is in its last block.
    wait_until(lambda: client.get(path).status_code == 200)
    application: Any = client.app
    database = application.app.state.service.database
    with database.writing() as connection:
        connection.execute(delete(decisions).where(decisions.c.tx_hash == THEFT))
    for _ in range(2):
        answer = client.get(path)
        assert answer.status_code == 404
        assert answer.json()["detail"].startswith("There is no decision")
    with database.reading() as connection:
        mine = select(decisions).where(decisions.c.tx_hash == THEFT)
        assert connection.execute(mine).first() is None
    assert client.post(path).status_code == client.get(path).status_code == 200


def test_a_stored_decision_can_be_looked_up(client: TestClient, decided: str) -> None:
    path = f"/transactions/{decided}/decision"
    for query in ({}, {"details": True}):
        answer: Any = client.get(path, params=query)
        assert answer.json() == client.post(path, params=query).json()


def test_a_page_shows_what_the_api_answers_also_after_another_model_was_tried(
    client: TestClient, decided: str
) -> None:
    application: Any = client.app
    database = application.app.state.service.database
    with database.reading() as connection:
        own = newest_decision(connection, 1, decided)
    assert own is not None
    tried = replace(own, decider="tried", action=0, summary="It is harmless.")
    with database.writing() as connection:
        store_decision(connection, tried, {})
    page = client.get(f"/ui/transactions/{decided}").text
    assert client.get(f"/transactions/{decided}/decision").json()["action"] == "BLOCK"
    assert "It is harmless." not in page
    assert '<p class="lead-action"><span class="tag BLOCK">' in page
    with database.writing() as connection:
        connection.execute(delete(decisions).where(decisions.c.decider == "tried"))


def test_times_are_given_twice(client: TestClient, decided: str) -> None:
    path = f"/transactions/{decided}/decision"
    decision = client.get(path, params={"details": True}).json()
    alert = client.get("/alerts", params={"limit": 1}).json()[0]
    for answer, name in ((decision, "decided_at"), (alert, "created_at"),
                         (alert, "block_timestamp")):  # fmt: skip
        text = answer[f"{name}_rfc3339"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", text)
        assert datetime.fromisoformat(text).timestamp() == pytest.approx(answer[name], abs=1e-3)
