"""Every answer carries the headers that bind browsers."""

import pytest
from starlette.testclient import TestClient

from tests.service.http.asking import KEYED, asgi, check_headers
from tests.service.http.test_security import KEY


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ui/", 200),
        ("/alerts", 200),
        ("/docs", 200),
        ("/openapi.json", 200),
        ("/metrics", 200),
        ("/", 307),
        ("/ui/static/style.css", 200),
        ("/docs/assets/swagger-ui.css", 200),
        ("/ui/static/none", 404),
        ("/none", 404),
        ("/alerts?limit=x", 422),
        ("/ui/alerts?page=x", 400),
        ("/decisions", 405),
    ],
)
def test_every_answer_carries_the_headers(public: TestClient, path: str, status: int) -> None:
    answer = public.get(path, headers={"X-API-Key": KEY})
    assert answer.status_code == status
    check_headers(dict(answer.headers))


def test_answers_of_the_outermost_layer_carry_the_headers(public: TestClient) -> None:
    check_headers(dict(public.get("/alerts").headers))
    check_headers(dict(public.get("/alerts", headers={"X-API-Key": "wrong"}).headers))


def test_over_tls_browsers_are_told_to_stay_there(public: TestClient) -> None:
    secure = asgi(public, "/healthz", scheme="https")
    assert secure.headers["strict-transport-security"] == "max-age=31536000"
    assert "strict-transport-security" not in asgi(public, "/healthz").headers


@pytest.mark.parametrize("length", ["²", "-1", "1e9", "", "9" * 5_000])
def test_any_text_may_stand_for_the_length_of_a_body(public: TestClient, length: str) -> None:
    given = (b"content-length", length.encode("latin-1"))
    answer = asgi(public, "/screen", method="POST", headers=(*KEYED, given), body=b"{}")
    assert answer.status in {413, 415, 422}
