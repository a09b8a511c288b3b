"""Every endpoint over the embedded demo's chain, on SQLite and PostgreSQL."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from starlette.testclient import TestClient

from src.service.app import create_app
from src.settings import PROJECT_ROOT
from tests.conftest import transfer_log
from tests.service.chain import BASE_URL, HEAD, THEFT, common_settings, service_settings
from tests.service.databases import KINDS, database_url
from tests.support.waiting import wait_until

FIRST = 340
WHOLE = {"start_block": FIRST, "end_block": HEAD}
"""The last blocks of the demo, in which most happens; the others would only take time."""


@pytest.fixture(scope="module", params=KINDS)
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    with opened(request.param, tmp_path_factory.mktemp("service")) as client:
        yield client


def opened(kind: str, folder: Path) -> TestClient:
    """The service with an empty database, once it is entered."""
    settings = service_settings(database_url(kind, folder), contamination=0.05)
    return TestClient(create_app(settings, common_settings()), base_url=BASE_URL)


@pytest.fixture(scope="module")
def whole(client: TestClient) -> httpx.Response:
    """The answer about the whole chain, normal transactions included."""
    return detect(client, WHOLE, include_normal=True)


def detect(client: TestClient, body: Any, **query: Any) -> httpx.Response:
    return client.post("/anomaly_detection/", json=body, params=query)


def problem_of(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert document["request_id"] == answer.headers["x-request-id"]
    return str(document["detail"])


def finished(client: TestClient, answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 202

    def job() -> dict[str, Any]:
        return dict(client.get(answer.headers["location"]).json())

    wait_until(lambda: job()["status"] not in {"queued", "running"})
    return job()


@pytest.mark.parametrize("kind", KINDS)
def test_a_pre_trained_model_is_wanted_before_any_was_trained(kind: str, tmp_path: Path) -> None:
    # The range is beyond the head, so that the node's word would be another: it was not asked.
    wanted = {"start_block": 9_000, "end_block": 9_001, "use_pre_trained_model": True}
    with opened(kind, tmp_path) as client:
        assert problem_of(detect(client, wanted), 404) == (
            "No models found in the registry, train a model first to use a pre-trained one."
        )


def test_an_analysis_answers_one_entry_a_transaction_most_anomalous_first(
    whole: httpx.Response,
) -> None:
    assert whole.status_code == 200
    entries = whole.json()
    hashes = [entry["transaction_hash"] for entry in entries]
    assert len(hashes) == len(set(hashes)) == int(whole.headers["x-total-count"]) == 13
    scores = [float(entry["anomaly_score"]) for entry in entries]
    assert scores == sorted(scores, reverse=True)
    theft = next(entry for entry in entries if entry["transaction_hash"] == THEFT)
    assert set(theft) == {
        "transaction_hash",
        "token2value",
        "gas_cost",
        "anomaly_score",
        "etherscan_link",
    }
    assert theft["token2value"]["USDC"] == 28_649_991.662496
    assert theft["etherscan_link"] == f"https://etherscan.io/tx/{THEFT}"
    assert len(theft["gas_cost"].split(".")[1]) == 8
    assert len(theft["anomaly_score"].split(".")[1]) == 4


def test_without_further_ado_only_anomalies_are_answered(
    client: TestClient, whole: httpx.Response
) -> None:
    answer = detect(client, WHOLE).json()
    assert 0 < len(answer) < 5
    assert answer == whole.json()[: len(answer)]
    assert answer[0]["transaction_hash"] == THEFT  # the demo finds its theft, and first


def test_the_older_form_lists_the_rows_that_the_forest_flags(client: TestClient) -> None:
    """Not all rows of a transaction that has one: a contamination of 5% flags 5% of the rows."""
    every = detect(client, WHOLE, per_transfer=True, include_normal=True).json()
    flagged = detect(client, WHOLE, per_transfer=True).json()
    assert flagged == every[: len(flagged)]
    assert len(flagged) == pytest.approx(0.05 * len(every), abs=1)


def test_the_same_range_gives_the_same_answer(client: TestClient, whole: httpx.Response) -> None:
    assert detect(client, WHOLE, include_normal=True).content == whole.content


def test_the_older_form_has_one_entry_a_transaction_and_token(client: TestClient) -> None:
    entries = detect(client, WHOLE, per_transfer=True, include_normal=True).json()
    assert len(entries) > 13
    theft = [e for e in entries if e["transaction_hash"] == THEFT and e["token"] == "USDC"]
    assert [entry["value"] for entry in theft] == ["28,649,991.66"]
    assert all(isinstance(value, str) for entry in entries for value in entry.values())
    assert set(entries[0]) == {
        "transaction_hash",
        "value",
        "token",
        "gas_cost",
        "anomaly_score",
        "etherscan_link",
    }


def test_results_are_paged_by_transaction(client: TestClient, whole: httpx.Response) -> None:
    page = detect(client, WHOLE, include_normal=True, limit=5, offset=3).json()
    assert page == whole.json()[3:8]


def test_a_trained_model_serves_later_ranges(client: TestClient, whole: httpx.Response) -> None:
    before = client.get("/models").headers["x-total-count"]
    wanted = {"start_block": 380, "end_block": HEAD, "use_pre_trained_model": True}
    answer = detect(client, wanted, include_normal=True)
    assert answer.status_code == 200
    assert THEFT in [entry["transaction_hash"] for entry in answer.json()]
    assert client.get("/models").headers["x-total-count"] == before


def test_two_trainings_in_one_second_are_two_models(client: TestClient) -> None:
    before = int(client.get("/models").headers["x-total-count"])
    detect(client, WHOLE)
    detect(client, {"start_block": FIRST, "end_block": HEAD - 1})
    registry = client.get("/models", params={"limit": 2}).json()["registry"]
    assert int(client.get("/models").headers["x-total-count"]) == before + 2
    assert len({model["sha256"] for model in registry}) == 2


def test_an_interval_overrides_the_range_and_leaves_the_newest_block_out(
    client: TestClient,
) -> None:
    wanted = {"start_block": 9, "end_block": 3, "time_interval_in_seconds": 12 * 20}
    answer = client.post("/anomaly_detection/", json=wanted, headers={"Prefer": "respond-async"})
    job = answer.json()
    assert (job["start_block"], job["end_block"]) == (HEAD - 20, HEAD - 1)
    finished(client, answer)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"start_block": 5, "end_block": 1}, 400, "start_block 5 is after end_block 1"),
        ({}, 400, "Give start_block and end_block, or time_interval_in_seconds"),
        ({"start_block": 5}, 400, "Give start_block and end_block"),
        (None, 422, "body"),
        ({"start_block": -1, "end_block": 1}, 400, "start_block is -1"),
        ({"start_block": 0, "end_block": -2}, 400, "end_block is -2"),
        ({"time_interval_in_seconds": -3}, 400, "time_interval_in_seconds is -3"),
        ({"start_block": 0, "end_block": 10_000}, 400, "limit is 10000"),
        ({"time_interval_in_seconds": 10**9}, 400, "limit is 10000"),
        ({"start_block": 10**40, "end_block": 10**41}, 400, "larger than any block number"),
        ({"start_block": 380, "end_block": 386}, 400, "newest block is 385"),
        ({"start_block": 379, "end_block": 379}, 422, "Training needs at least 2"),
        ({"start_block": 0, "end_block": 1, "x\u202e": 1}, 422, "Extra inputs"),
        ({"start_block": "0", "end_block": 1}, 422, "start_block"),
        ({"start_block": True, "end_block": 1}, 422, "start_block"),
        ({"start_block": 0.5, "end_block": 1}, 422, "start_block"),
        ([], 422, "body"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    client: TestClient, body: Any, status: int, words: str
) -> None:
    assert words in problem_of(detect(client, body), status)


def test_a_range_without_transfers_gives_an_empty_list(client: TestClient) -> None:
    answer = detect(client, {"start_block": 0, "end_block": 1})
    assert (answer.status_code, answer.json()) == (200, [])
    assert answer.headers["X-Total-Count"] == "0"


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"start_block": NaN}', 422),
    ],
)
def test_a_body_that_is_no_json_is_the_callers_mistake(
    client: TestClient, content: bytes, status: int
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = client.post("/anomaly_detection/", content=content, headers=headers)
    problem_of(answer, status)


def test_a_job_runs_to_its_end_and_its_result_is_paged(
    client: TestClient, whole: httpx.Response
) -> None:
    answer = client.post("/anomaly_detection/", json=WHOLE, headers={"Prefer": "respond-async"})
    job = finished(client, answer)
    assert (job["status"], job["blocks_done"], job["blocks_total"]) == (
        "done",
        HEAD - FIRST + 1,
        HEAD - FIRST + 1,
    )
    page = client.get(job["result_url"], params={"include_normal": True, "limit": 3, "offset": 2})
    assert page.json() == whole.json()[2:5]
    assert job["id"] in [one["id"] for one in client.get("/jobs").json()]
    assert "already ended" in problem_of(client.delete(job["url"]), 409)


def test_a_job_that_fails_says_why(client: TestClient) -> None:
    answer = client.post(
        "/anomaly_detection/",
        json={"start_block": 0, "end_block": 1},
        headers={"Prefer": "respond-async"},
    )
    job = finished(client, answer)
    assert job["status"] == "failed"
    assert job["problem"]["status"] == 404
    assert "failed" in problem_of(client.get(job["result_url"]), 409)


def test_an_unknown_job_is_not_found(client: TestClient) -> None:
    assert "Job not found" in problem_of(client.get(f"/jobs/{'0' * 32}"), 404)


@pytest.mark.parametrize("path", ["/jobs/nothing", f"/jobs/{'F' * 32}", "/jobs/%00"])
def test_what_is_no_id_of_a_job_is_refused(client: TestClient, path: str) -> None:
    assert "path.job_id" in problem_of(client.get(path), 422)


def test_a_decision_is_an_action_with_reasons_and_no_score(client: TestClient) -> None:
    answer = client.post(f"/transactions/{THEFT}/decision").json()
    assert set(answer) == {"transaction_hash", "action", "reasons", "summary"}
    assert answer["action"] == "BLOCK"
    assert (
        "its own contract) gained 3,279 WETH, 4.32 M USDC, 998 k DAI and 1 more token"
        in (answer["summary"])
    )
    assert answer["reasons"][0]["detector"] == "isolation_forest"
    assert "score" not in json.dumps(answer)


def test_details_give_the_score_the_features_and_the_explanation(client: TestClient) -> None:
    url = f"/transactions/{THEFT.upper().replace('0X', '0x')}/decision"
    answer = client.post(url, params={"details": True}).json()
    assert answer["prediction"] == "ANOMALY"
    assert answer["anomaly_score"] > answer["anomaly_threshold"]
    assert answer["features"]["transfer_counts"] == 50
    assert len(answer["explanation"]) == 10
    again = client.post(url, params={"details": True}).json()
    assert again == answer  # decided once


def test_a_decision_about_raw_logs_needs_no_chain_and_stores_nothing(client: TestClient) -> None:
    event = {
        "transaction": {"hash": "0x" + "99" * 32, "from": "0x" + "a1" * 20},
        "block": {"number": "0x10", "timestamp": 1_700_000_000},
        "logs": [transfer_log(amount=10**6)],
    }
    plain = client.post("/decisions", json=event)
    assert plain.status_code == 200
    assert plain.json()["action"] in {"ALLOW", "REVIEW", "BLOCK"}
    detailed = client.post("/decisions", json=event, params={"details": True}).json()
    assert detailed["features"]["transfer_counts"] == 1
    assert "sent 1 USDC to" in detailed["summary"]
    problem_of(client.post(f"/transactions/0x{'99' * 32}/decision"), 404)


def test_an_event_without_transfers_is_allowed(client: TestClient) -> None:
    answer = client.post("/decisions", json={"logs": []}).json()
    assert (answer["action"], answer["reasons"]) == ("ALLOW", [])


def test_the_largest_amount_is_decided_about(client: TestClient) -> None:
    event = {"transaction": {"from": "0x" + "a1" * 20}, "logs": [transfer_log(amount=2**256 - 1)]}
    answer = client.post("/decisions", json=event, params={"details": True})
    assert answer.status_code == 200
    assert answer.json()["anomaly_score"] is not None


@pytest.mark.parametrize("tx_hash", ["0x12", "theft", "0x" + "g" * 64])
def test_what_is_no_hash_is_refused(client: TestClient, tx_hash: str) -> None:
    assert "tx_hash" in problem_of(client.post(f"/transactions/{tx_hash}/decision"), 422)


def test_alerts_are_listed_filtered_and_judged(client: TestClient) -> None:
    client.post(f"/transactions/{THEFT}/decision")
    answer = client.get("/alerts", params={"alert_id": "ANOMALOUS-TOKEN-TRANSFERS-TX"})
    alerts = [one for one in answer.json() if one["transaction_hash"] == THEFT]
    (alert,) = alerts
    assert (alert["severity"], alert["action"]) == ("Critical", "BLOCK")
    assert alert["anomaly_score"] is None
    detailed = client.get(f"/alerts/{alert['id']}", params={"details": True}).json()
    assert detailed["anomaly_score"] > 0.67
    note = "seen \u202e before\x00"
    judged = client.post(
        f"/alerts/{alert['id']}/feedback", json={"is_true_positive": True, "note": note}
    ).json()
    (said,) = judged["feedback"]
    assert (said["author"], said["is_true_positive"], said["note"]) == (
        "local",
        True,
        "seen before",
    )
    by_sender = {"sender": alert["from_address"], "severity": "Critical", "with_feedback": True}
    found = client.get("/alerts", params=by_sender)
    assert [one["id"] for one in found.json()] == [alert["id"]]
    assert found.headers["x-total-count"] == "1"
    assert client.get("/alerts", params={"until": 5}).json() == []
    assert client.get("/alerts", params={"action": "BLOCK", "limit": 1}).json() != []


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"token": "USDC"}, "token must be an address"),
        ({"sender": "0x1"}, "sender must be an address"),
        ({"action": "PANIC"}, "action"),
        ({"limit": 0}, "limit"),
        ({"since": -1}, "since"),
        ({"since": 2**64}, "since"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(
    client: TestClient, query: dict[str, Any], words: str
) -> None:
    assert words in problem_of(client.get("/alerts", params=query), 422)


def test_feedback_by_its_old_name_is_accepted_but_not_beside_the_new_one(
    client: TestClient,
) -> None:
    client.post(f"/transactions/{THEFT}/decision")
    alert = client.get("/alerts").json()[0]
    url = f"/alerts/{alert['id']}/feedback"
    (given,) = client.post(url, json={"is_true_alarm": True}).json()["feedback"]
    assert given["is_true_positive"] is True
    both = {"is_true_positive": True, "is_true_alarm": False}
    assert "is_true_alarm" in problem_of(client.post(url, json=both), 422)
    assert "is_true_positive" in problem_of(client.post(url, json={}), 422)


@pytest.mark.parametrize("number", [0, 10**18, 2**63, -1])
def test_feedback_on_no_alert_is_not_found(client: TestClient, number: int) -> None:
    answer = client.post(f"/alerts/{number}/feedback", json={"is_true_positive": True})
    assert "Alert not found" in problem_of(answer, 404)


@pytest.mark.parametrize("path", ["/predict", "/predict_fraud"])
def test_without_a_supervised_model_its_endpoints_say_so(client: TestClient, path: str) -> None:
    assert "train:fraud" in problem_of(client.post(path, json={"Time": 1}), 404)


def test_models_tell_what_decides(client: TestClient) -> None:
    models = client.get("/models").json()
    assert models["detection"]["detectors"]["isolation_forest"] == "on"
    assert models["supervised"] is None


def test_health_and_readiness(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    wait_until(lambda: client.get("/readyz").json() == {"ready": True, "problems": []})


def test_metrics_count_what_happened(client: TestClient) -> None:
    client.post("/decisions", json={"logs": [transfer_log()]})
    detect(client, {})
    text = client.get("/metrics").text
    for line in ("error_count", "prediction_latency_seconds", "fraud_rate"):
        assert line in text
    assert 'http_requests_total{method="POST",route="/decisions",status="200"}' in text


def test_the_documentation_needs_nothing_from_outside(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert "http" not in page.text.replace("http-equiv", "").replace("https://json", "")
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert client.get(f"/docs/assets/{asset}").status_code == 200
    assert "sha256-" in page.headers["content-security-policy"]
    description = client.get("/openapi.json").json()
    assert description["paths"]["/anomaly_detection/"]
    package = json.loads((PROJECT_ROOT / "package.json").read_text())
    assert description["info"]["version"] == package["version"]


def test_what_is_not_there_is_a_problem_too(client: TestClient) -> None:
    problem_of(client.get("/nothing"), 404)
    problem_of(client.put("/alerts"), 405)
