"""Lists are read to their end by following `Link`, whatever is added meanwhile."""

import base64
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from src.service.api.paging import decode_cursor, encode_cursor
from src.service.app import create_app
from src.service.database.alerts import store_alerts
from src.service.database.chain import store_transactions
from src.service.database.engine import Database
from src.service.database.jobs import add_job
from src.service.http.problems import Problem
from tests.service.chain import BASE_URL, HEAD, common_settings, service_settings
from tests.service.database.rows import alert, transaction
from tests.service.databases import KINDS, database_url

SEVERITIES = ("Info", "Low", "Medium", "High", "Critical")


def store(database: Database, number: int, chain_id: int = 10, **changes: Any) -> int:
    """Store one of few distinct alerts, so that places differ by id alone; some values unknown."""
    values = {
        "severity": SEVERITIES[number % 5],
        "action": number % 3,
        "score": None if number % 4 == 0 else number % 3 / 7,
        "block_timestamp": None if number % 5 == 0 else 1_700_000_000 + number % 2,
    } | changes
    moved = transaction(tx_hash=f"0x{number:064x}")
    raised = alert(chain_id=chain_id, tx_hash=moved.tx_hash, **values)
    with database.writing() as connection:
        store_transactions(connection, chain_id, [moved], now=1.0)
        return store_alerts(connection, [raised], now=2.0)[0]


@pytest.fixture(scope="module", params=KINDS)
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TestClient, Database]]:
    folder: Path = tmp_path_factory.mktemp("paging")
    url = database_url(request.param, folder)
    database = Database(url)
    database.migrate()
    for number in range(23):
        store(database, number)
    store(database, 99, chain_id=11)
    app = create_app(service_settings(url), common_settings())
    with TestClient(app, base_url=BASE_URL) as client:
        yield client, database
    database.close()


def pages(client: TestClient, path: str, **query: Any) -> Iterator[list[Any]]:
    answer = client.get(path, params=query)
    while True:
        assert answer.status_code == 200, answer.text
        content = answer.json()
        yield content["registry"] if path == "/models" else content
        if "link" not in answer.headers:
            return
        answer = client.get(answer.links["next"]["url"])


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", ["time", "score", "severity", "action"])
def test_following_the_links_gives_every_alert_once_and_in_order(
    opened: tuple[TestClient, Database], sort: str, order: str
) -> None:
    client, _ = opened
    query = {"sort": sort, "order": order, "chain_id": 10}
    whole = client.get("/alerts", params=query | {"limit": 1_000}).json()
    read = list(pages(client, "/alerts", **query, limit=4))
    assert [len(page) for page in read] == [4, 4, 4, 4, 4, 3]
    assert [one["id"] for page in read for one in page] == [one["id"] for one in whole]
    assert {one["chain_id"] for one in whole} == {10}


def test_alerts_are_filtered_by_chain(opened: tuple[TestClient, Database]) -> None:
    client, _ = opened
    (only,) = client.get("/alerts", params={"chain_id": 11}).json()
    assert only["chain_id"] == 11
    assert client.get("/alerts", params={"chain_id": 12}).json() == []
    assert client.get("/alerts", params={"chain_id": -1}).status_code == 422


def test_a_new_alert_shifts_no_page(opened: tuple[TestClient, Database]) -> None:
    client, database = opened
    query = {"sort": "time", "chain_id": 10, "limit": 10}
    first = client.get("/alerts", params=query)
    added = store(database, 1_000, block_timestamp=1_800_000_000)
    second = client.get(first.links["next"]["url"]).json()
    seen = [one["id"] for one in first.json()]
    assert not {one["id"] for one in second} & {*seen, added}


def test_jobs_are_paged(opened: tuple[TestClient, Database]) -> None:
    client, database = opened
    request = {"start_block": 0, "end_block": 1, "use_pre_trained_model": False}
    with database.writing() as connection:
        for number in range(5):
            add_job(connection, f"{number:032x}", 1, request, 2, 1_000.0)
    read = [one["id"] for page in pages(client, "/jobs", limit=2) for one in page]
    assert read == [f"{number:032x}" for number in (4, 3, 2, 1, 0)]
    assert client.get("/jobs", params={"limit": 1}).headers["x-total-count"] == "5"


def test_a_job_of_another_chain_is_not_found(opened: tuple[TestClient, Database]) -> None:
    client, database = opened
    request = {"start_block": 0, "end_block": 1, "use_pre_trained_model": False}
    with database.writing() as connection:
        add_job(connection, "f" * 32, 10, request, 2, 1_000.0)
    for method, path in (("GET", ""), ("GET", "/result"), ("DELETE", "")):
        assert client.request(method, f"/jobs/{'f' * 32}{path}").status_code == 404
    assert client.get(f"/ui/jobs/{'f' * 32}").status_code == 404


def test_models_of_the_registry_are_paged(opened: tuple[TestClient, Database]) -> None:
    client, _ = opened
    for first in (371, 372, 373):
        client.post("/anomaly_detection/", json={"start_block": first, "end_block": HEAD})
    read = [one["id"] for page in pages(client, "/models", limit=2) for one in page]
    assert len(read) == 3
    assert read == sorted(read, reverse=True)


def test_a_result_is_paged(opened: tuple[TestClient, Database]) -> None:
    client, _ = opened
    path = "/anomaly_detection/"
    answer = client.post(
        path,
        json={"start_block": 340, "end_block": HEAD},
        params={"include_normal": True, "limit": 7},
    )
    assert answer.links["next"]["url"] == f"{path}?include_normal=true&limit=7&offset=7"


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "=", "W10", "ä", "[" * 400, encode_cursor("score", "desc", 1, 2),
     encode_cursor("time", "asc", 1, 2), encode_cursor("time", "desc", "1", 2),
     encode_cursor("time", "desc", 10**30, 2), encode_cursor("time", "desc", 1, float("inf"))],
)  # fmt: skip
def test_a_cursor_of_another_list_is_refused(
    opened: tuple[TestClient, Database], cursor: str
) -> None:
    client, _ = opened
    answer = client.get("/alerts", params={"cursor": cursor})
    assert answer.status_code == 422
    assert "cursor" in answer.json()["detail"]


def test_a_cursor_excludes_an_offset(opened: tuple[TestClient, Database]) -> None:
    client, _ = opened
    cursor = encode_cursor("time", "desc", 1, 2)
    answer = client.get("/alerts", params={"cursor": cursor, "offset": 3})
    assert answer.status_code == 422
    assert "not both" in answer.json()["detail"]


@given(parts=st.tuples(st.none() | st.floats(-1e15, 1e15) | st.integers(-(2**53), 2**53)))
def test_a_cursor_gives_back_its_parts(parts: tuple[Any, ...]) -> None:
    assert decode_cursor(encode_cursor("time", *parts), "time", float) == ["time", *parts]


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(content=_JSON.map(lambda one: json.dumps(one).encode()) | st.binary())
def test_a_made_up_cursor_is_refused_or_harmless(content: bytes) -> None:
    cursor = base64.urlsafe_b64encode(content).decode()
    with contextlib.suppress(Problem):
        (number,) = decode_cursor(cursor, float)
        assert number is None or abs(number) < 2**63
