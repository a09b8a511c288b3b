"""What clients and people get while PostgreSQL is away, takes no writes, or refuses a query."""

import logging
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from src.service.app import create_app
from src.service.database import cases
from src.service.database.tables import alerts
from tests.service.chain import BASE_URL, THEFT, common_settings, service_settings
from tests.service.databases import database_url

pytestmark = pytest.mark.integration

DECISION = f"/transactions/{THEFT}/decision"


class Server:
    """The database of a service, as its administrator has it."""

    def __init__(self, url: str) -> None:
        self.name = url.partition("?")[0].rpartition("/")[2]
        self._admin = url.replace(f"/{self.name}?", "/postgres?")

    def alter(self, change: str) -> None:
        """Change the database, and end all connections to it."""
        with psycopg.connect(self._admin, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {self.name} {change}".encode())
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                [self.name],
            )


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("gone")
    return database_url("postgresql", folder)


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[TestClient]:
    app = create_app(service_settings(url), common_settings())
    with TestClient(app, base_url=BASE_URL, raise_server_exceptions=False) as opened:
        assert opened.post(DECISION).status_code == 200
        yield opened


def test_while_it_is_away_everything_is_unavailable_and_the_log_says_why(
    client: TestClient, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(url)
    logging.getLogger("src").addHandler(caplog.handler)
    server.alter("ALLOW_CONNECTIONS false")
    try:
        answers = [client.post(DECISION), client.get("/alerts"), client.get("/ui/alerts")]
    finally:
        server.alter("ALLOW_CONNECTIONS true")
        logging.getLogger("src").removeHandler(caplog.handler)
    assert [(one.status_code, one.headers["retry-after"]) for one in answers] == [(503, "5")] * 3
    assert "text/html" in answers[-1].headers["content-type"]
    assert "The database is unavailable." in answers[-1].text
    for one in answers:
        assert f"request {one.headers['x-request-id']}: the database: " in caplog.text
    assert "is not currently accepting connections" in caplog.text
    assert client.post(DECISION).status_code == 200
    assert client.get("/ui/alerts").status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ui/analyses/%00", 422),
        ("/ui/analyses/%00.csv", 422),
        ("/ui/screenings/a%00", 422),
        ("/ui/jobs/%00", 404),
    ],
)
def test_an_id_that_it_takes_in_no_query_is_refused(
    client: TestClient, path: str, status: int
) -> None:
    assert client.get(path).status_code == status


def test_a_mistake_of_ours_is_a_page_where_a_page_was_asked_for(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("src").addHandler(caplog.handler)
    unheard_of = alerts.c.chain_id == text("no_such_column")
    monkeypatch.setattr(cases, "condition_of", lambda _: unheard_of)
    answer = client.get("/ui/alerts")
    logging.getLogger("src").removeHandler(caplog.handler)
    assert answer.status_code == 500
    assert "text/html" in answer.headers["content-type"]
    assert "no_such_column" not in answer.text
    assert f"request {answer.headers['x-request-id']} failed" in caplog.text
    assert "no_such_column" in caplog.text


def test_a_standby_answers_what_it_can(client: TestClient, url: str) -> None:
    server = Server(url)
    server.alter("SET default_transaction_read_only = on")
    try:
        assert client.get("/alerts").status_code == 200
        feedback = client.post("/alerts/1/feedback", json={"is_true_positive": True})
        assert (feedback.status_code, feedback.headers["retry-after"]) == (503, "5")
    finally:
        server.alter("SET default_transaction_read_only = off")
    assert client.post("/alerts/1/feedback", json={"is_true_positive": True}).status_code == 200
