"""What the API answers when its node fails, lies or is slow: never a bare 500."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from starlette.testclient import TestClient
from werkzeug import Request, Response

from src.chain.recording.format import TokenAnswers
from src.service.analysis.batch import Cancelled, RangeRequest
from src.service.app import create_app
from src.service.embedded import embedded_node
from src.service.node import NodeReader
from tests.chain.recording.blocks import TOKEN, write_blocks
from tests.chain.replay.served import serve as replayed
from tests.service.chain import (
    BASE_URL,
    THEFT,
    common_settings,
    service_settings,
)
from tests.service.databases import migrated_url
from tests.support.fake_chain import serve
from tests.support.waiting import PATIENCE, wait_until

Change = Callable[[str, Any], Any]
RANGE = {"start_block": 380, "end_block": 385}
ALL = {"include_normal": True}


@pytest.fixture(scope="module")
def node_url() -> Iterator[str]:
    with embedded_node() as url:
        yield url


@contextmanager
def spoiled(node_url: str, change: Change) -> Iterator[str]:
    """The demo's node, with `change(method, answer)` in place of each answer."""

    def answer(request: Request) -> Response:
        body = request.get_json()
        honest = requests.post(node_url, json=body, timeout=PATIENCE).json()
        changed = change(body["method"], honest)
        if isinstance(changed, Response):
            return changed
        return Response(json.dumps(changed))

    with serve(answer) as url:
        yield url


@pytest.fixture(scope="module")
def honest(node_url: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The analysis of the range by a node that never fails."""
    with client_of(node_url, tmp_path_factory.mktemp("honest")) as client:
        found = client.post("/anomaly_detection/", json=RANGE, params=ALL).json()
    assert found
    return found


@contextmanager
def client_of(url: str, folder: Path, **changes: Any) -> Iterator[TestClient]:
    folder.mkdir(exist_ok=True)
    settings = service_settings(migrated_url("sqlite", folder), **changes)
    app = create_app(settings, common_settings(url, is_chain_set=True))
    with TestClient(app, base_url=BASE_URL) as client:
        yield client


def on(method: str, put: Callable[[Any], Any]) -> Change:
    return lambda called, honest: put(honest) if called == method else honest


def without_last_receipt(honest: Any) -> Any:
    return honest | {"result": honest["result"][:-1]}


def null_receipts(honest: Any) -> Any:
    return honest | {"result": [None for _ in honest["result"]]}


def without_result(honest: Any) -> Any:
    return honest | {"result": None}


def forged_log(honest: Any) -> Any:
    forged = json.loads(json.dumps(honest))
    result = forged["result"]
    for receipt in result if isinstance(result, list) else [result]:
        receipt["logs"] = receipt["logs"][1:]
    return forged


def on_receipts(put: Callable[[Any], Any]) -> Change:
    return lambda called, honest: put(honest) if "Receipt" in called else honest


def error_in_a_200(honest: Any) -> Any:
    return {"jsonrpc": "2.0", "id": honest["id"], "error": {"code": -32000, "message": "oops"}}


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        (on("eth_getBlockByNumber", error_in_a_200), 502, "JSON-RPC error -32000: oops"),
        (on("eth_blockNumber", error_in_a_200), 502, "oops"),
        (on("eth_blockNumber", lambda honest: honest | {"result": "many"}), 502, "quantity"),
        (on_receipts(without_result), 502, "receipts are not available"),
        (on_receipts(forged_log), 502, "logs are missing or wrong"),
        (
            on("eth_getBlockByNumber", lambda honest: honest | {"result": None}),
            502,
            "returned null",
        ),
        (on("eth_getBlockByNumber", lambda _: Response("<html>", 200)), 502, "not JSON"),
        (on("eth_blockNumber", lambda _: Response("", 503)), 502, "HTTP 503"),
        (on("eth_blockNumber", lambda _: Response("", 429)), 503, "HTTP 429"),
    ],
)
def test_a_failing_node_is_named_and_its_failure_told(
    node_url: str, tmp_path: Path, change: Change, status: int, words: str
) -> None:
    with spoiled(node_url, change) as url, client_of(url, tmp_path) as client:
        answer = client.post("/anomaly_detection/", json=RANGE)
        assert answer.status_code == status, answer.text
        assert words in answer.json()["detail"]
        assert url not in answer.text
        assert client.get("/models").headers["x-total-count"] == "0"


@pytest.mark.parametrize("put", [without_last_receipt, null_receipts, forged_log])
def test_a_block_s_receipts_that_do_not_verify_are_requested_one_by_one(
    node_url: str, tmp_path: Path, put: Callable[[Any], Any]
) -> None:
    change = on("eth_getBlockReceipts", put)
    with spoiled(node_url, change) as url, client_of(url, tmp_path) as client:
        assert client.post("/anomaly_detection/", json=RANGE).status_code == 200


def first_times(method: str, many: int, put: Callable[[Any], Any]) -> Change:
    """Spoil only the first `many` answers to a method."""
    left = [many]

    def change(called: str, honest: Any) -> Any:
        if called != method or not left[0]:
            return honest
        left[0] -= 1
        return put(honest)

    return change


def busy_backend(honest: Any) -> Any:
    words = "no backend is currently healthy to serve traffic"
    return {"jsonrpc": "2.0", "id": honest["id"], "error": {"code": -32011, "message": words}}


@pytest.mark.parametrize(
    ("method", "put"),
    [
        ("eth_getBlockByNumber", busy_backend),
        ("eth_blockNumber", busy_backend),
        ("eth_call", busy_backend),
        ("eth_call", lambda _: Response("<!DOCTYPE html><title>Just a moment...</title>")),
        ("eth_call", lambda _: Response("", 429)),
    ],
)
def test_what_fails_for_a_moment_is_requested_again(
    node_url: str, honest: Any, tmp_path: Path, method: str, put: Callable[[Any], Any]
) -> None:
    with (
        spoiled(node_url, first_times(method, 2, put)) as url,
        client_of(url, tmp_path, node_patience=PATIENCE) as client,
    ):
        answer = client.post("/anomaly_detection/", json=RANGE, params=ALL)
        assert answer.status_code == 200, answer.text
    assert answer.json() == honest


@pytest.mark.parametrize(
    "put",
    [busy_backend, lambda _: Response("<html>"), lambda _: Response("", 403)],
    ids=["error", "html", "403"],
)
def test_a_refused_look_up_of_a_token_is_an_error_not_a_number(
    node_url: str, tmp_path: Path, put: Callable[[Any], Any]
) -> None:
    with spoiled(node_url, on("eth_call", put)) as url, client_of(url, tmp_path) as client:
        assert client.post("/anomaly_detection/", json=RANGE).status_code in {502, 503}
        assert client.get("/models").headers["x-total-count"] == "0"


@pytest.mark.parametrize("method", ["eth_getTransactionReceipt", "eth_getBlockByNumber"])
def test_a_transaction_is_requested_again_too(node_url: str, tmp_path: Path, method: str) -> None:
    change = first_times(method, 2, busy_backend)
    with (
        spoiled(node_url, change) as url,
        client_of(url, tmp_path, node_patience=PATIENCE) as client,
    ):
        answer = client.post(f"/transactions/{THEFT}/decision")
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("method", ["eth_getBlockByNumber", "eth_getTransactionByHash"])
def test_what_a_lagging_backend_does_not_have_is_requested_again(
    node_url: str, method: str
) -> None:
    found = []
    for change in (lambda _, a: a, first_times(method, 1, without_result)):
        with spoiled(node_url, change) as url:
            reader = NodeReader(url, requests_per_second=1_000, verify=True, patience=PATIENCE)
            found.append(reader.transaction(THEFT))
            reader.close()
    assert found[0] == found[1]
    assert found[0] is not None


def test_a_pending_transaction_is_in_no_block_yet(node_url: str) -> None:
    """Some nodes have a receipt of it, without a block."""
    nowhere = {"blockNumber": None, "blockHash": None}

    def pending(honest: Any) -> Any:
        return honest | {"result": honest["result"] | nowhere}

    with spoiled(node_url, on("eth_getTransactionReceipt", pending)) as url:
        reader = NodeReader(url, requests_per_second=1_000, verify=True, patience=0.0)
        assert reader.transaction(THEFT) is None
        reader.close()


def test_a_node_that_is_away_is_a_502_and_not_ready(tmp_path: Path) -> None:
    with client_of("http://127.0.0.1:1", tmp_path) as client:
        assert client.post("/anomaly_detection/", json=RANGE).status_code == 502
        assert client.post(f"/transactions/{THEFT}/decision").status_code == 502
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["problems"]) == (
            503,
            ["the node does not answer"],
        )
        assert client.get("/healthz").status_code == 200


def test_a_node_of_another_chain_is_not_ready(node_url: str, tmp_path: Path) -> None:
    chain_ids = ["0x1"]
    other = on("eth_chainId", lambda honest: honest | {"result": chain_ids[-1]})
    with spoiled(node_url, other) as url, client_of(url, tmp_path) as client:
        chain_ids.append("0x89")
        problems = ["the node serves chain 137, not 1"]
        wait_until(lambda: client.get("/readyz").json()["problems"] == problems)


def test_strangers_who_ask_whether_it_is_ready_do_not_spend_the_nodes_limit(
    node_url: str, tmp_path: Path
) -> None:
    asked = []

    def count(honest: Any) -> Any:
        asked.append(honest)
        return honest

    with (
        spoiled(node_url, on("eth_chainId", count)) as url,
        client_of(url, tmp_path) as client,
    ):
        wait_until(lambda: client.get("/readyz").status_code == 200)
        before = len(asked)
        for _ in range(20):
            client.get("/readyz")
        assert len(asked) < before + 20


def test_an_analysis_is_cancelled_while_it_reads_supplies(node_url: str, tmp_path: Path) -> None:
    range_ = RangeRequest(380, 385, use_pre_trained_model=False)
    loaded = 0

    def cancel(done: int) -> None:
        nonlocal loaded
        loaded += done == range_.total  # after the last block, the tokens and each supply
        if loaded == 5:
            raise Cancelled

    def with_supplies(honest: Any) -> Any:  # the recording has none
        unrecorded = {"jsonrpc": "2.0", "id": honest["id"], "result": f"0x{10**24:064x}"}
        return honest if "result" in honest else unrecorded

    with (
        spoiled(node_url, on("eth_call", with_supplies)) as url,
        client_of(url, tmp_path, features=("value", "supply_share")) as client,
    ):
        service = client.app.app.state.service  # type: ignore[attr-defined]
        with pytest.raises(Cancelled):
            service.analyst.analyse(range_, cancel)


def test_blocks_in_another_order_of_receipts_are_refused_or_the_same(
    node_url: str, honest: Any, tmp_path: Path
) -> None:
    def reversed_logs(honest: Any) -> Any:
        receipts = json.loads(json.dumps(honest["result"]))
        for receipt in receipts:
            receipt["logs"].reverse()
        return honest | {"result": receipts}

    with (
        spoiled(node_url, on("eth_getBlockReceipts", reversed_logs)) as url,
        client_of(url, tmp_path, verify_blocks=False) as client,
    ):
        answer = client.post("/anomaly_detection/", json=RANGE, params=ALL)
    assert answer.json() == honest


def test_a_range_that_takes_too_long_is_a_504(node_url: str, tmp_path: Path) -> None:
    with client_of(node_url, tmp_path, request_seconds=0.0) as client:
        answer = client.post("/anomaly_detection/", json=RANGE)
        assert answer.status_code == 504
        assert "respond-async" in answer.json()["detail"]


def test_a_large_range_becomes_a_job_and_too_many_are_refused(
    node_url: str, tmp_path: Path
) -> None:
    with client_of(node_url, tmp_path, direct_blocks=3, max_jobs=1) as client:
        first = client.post("/anomaly_detection/", json={"start_block": 0, "end_block": 385})
        assert first.status_code == 202
        statuses = [client.post("/anomaly_detection/", json=RANGE).status_code for _ in range(3)]
        assert set(statuses) <= {202, 503}
        assert 503 in statuses


def test_a_job_can_be_cancelled(node_url: str, tmp_path: Path) -> None:
    import threading

    gate = threading.Event()

    def wait(method: str, honest: Any) -> Any:
        if method == "eth_getBlockReceipts":
            gate.wait(PATIENCE)
        return honest

    with spoiled(node_url, wait) as url, client_of(url, tmp_path, direct_blocks=0) as client:
        job = client.post("/anomaly_detection/", json=RANGE).json()
        assert client.delete(job["url"]).status_code == 200
        gate.set()
        wait_until(lambda: client.get(job["url"]).json()["status"] == "cancelled")


def test_the_total_supply_is_a_feature_for_those_who_want_it(node_url: str, tmp_path: Path) -> None:
    def supply(method: str, honest: Any) -> Any:
        if method != "eth_call" or "error" not in honest:
            return honest
        return {"jsonrpc": "2.0", "id": honest["id"], "result": f"0x{10**30:064x}"}

    # The replay knows no totalSupply: it is played.
    features = ("value", "gas_cost", "supply_share")
    with spoiled(node_url, supply) as url, client_of(url, tmp_path, features=features) as client:
        assert client.post("/anomaly_detection/", json=RANGE).status_code == 200
        (model,) = client.get("/models").json()["registry"]
        assert model["inputs"] == list(features)


def test_blocks_without_a_receipts_root_are_served_unverified_and_the_error_says_how(
    tmp_path: Path,
) -> None:
    token = TokenAnswers(TOKEN, None, None, f"0x{6:064x}")
    write_blocks(tmp_path / "recording", 11, tokens=[token])
    blocks = {"start_block": 11, "end_block": 11}
    with replayed(tmp_path / "recording") as url:
        with client_of(url, tmp_path, max_blocks=10) as client:
            answer = client.post("/anomaly_detection/", json=blocks)
            assert answer.status_code == 502
            assert "states no receipts root" in answer.json()["detail"]
            assert "VERIFY_BLOCKS=false" in answer.json()["detail"]
        with client_of(url, tmp_path, verify_blocks=False) as client:
            answer = client.post("/anomaly_detection/", json=blocks)
            assert answer.status_code == 422, answer.text
            assert "have 1" in answer.json()["detail"]
