"""Paths, bodies and faults lead nowhere and say nothing of the machine."""

import gzip
import logging
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.service.http.asking import KEYED, asgi, check_headers
from tests.service.http.test_security import KEY


@pytest.mark.parametrize("base", ["/ui/static/", "/docs/assets/"])
@pytest.mark.parametrize(
    "name",
    ["../pages.py", "../../../settings.py", "..\\pages.py", "/etc/passwd", "//etc/passwd", "..",
     "./../templates/base.html", "x\0.css", "a" * 5_000],
)  # fmt: skip
def test_no_path_leads_out_of_the_static_files(public: TestClient, base: str, name: str) -> None:
    answer = asgi(public, base + name, headers=KEYED)
    assert answer.status == 404
    assert b"import" not in answer.body


@pytest.mark.parametrize(
    "path",
    ["/jobs/../alerts", "/jobs/..%2f..", "/ui/analyses/../../x", "/ui/jobs/" + "/" * 50,
     "/alerts/1/../2", "/ui/transactions/" + "0x" + "g" * 64],
)  # fmt: skip
def test_no_id_is_a_path(public: TestClient, path: str) -> None:
    assert asgi(public, path, headers=KEYED).status in {404, 422}


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/ui/static/style.css", "GET, HEAD, OPTIONS"), ("/docs/assets/swagger-ui.css",
      "GET, HEAD, OPTIONS"), ("/ui/triage", "POST, OPTIONS"), ("/ui/ranges",
      "GET, POST, HEAD, OPTIONS")],
)  # fmt: skip
def test_the_methods_of_a_path_are_those_that_it_has(
    public: TestClient, path: str, methods: str
) -> None:
    answer = public.options(path, headers={"X-API-Key": KEY})
    assert (answer.status_code, answer.headers["allow"]) == (204, methods)
    answer = public.put(path, headers={"X-API-Key": KEY})
    assert (answer.status_code, answer.headers["allow"]) == (405, methods)


def test_a_compressed_body_is_not_unpacked(public: TestClient) -> None:
    bomb = gzip.compress(b'{"logs": [' + b" " * 50_000_000 + b"]}")
    headers = {"X-API-Key": KEY, "Content-Encoding": "gzip", "Content-Type": "application/json"}
    answer = public.post("/decisions", content=bomb, headers=headers)
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("path", ["/a\r\nERROR forged", "/ui/\x1b[2J", "/ui/\u202ex", "/\x00"])
def test_no_path_reaches_the_log_or_a_page_as_it_is(
    public: TestClient, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("src").addHandler(caplog.handler)
    try:
        answer = asgi(public, path, headers=(*KEYED, (b"x-request-id", b"x\r\nERROR forged")))
    finally:
        logging.getLogger("src").removeHandler(caplog.handler)
    assert answer.status == 404
    assert "forged" not in caplog.text
    assert path.rpartition("/")[2] not in answer.body.decode()


def test_a_mistake_of_ours_says_nothing_of_itself(
    public: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("planted-secret in an exception")

    monkeypatch.setattr("src.service.api.alerts.read_alerts", fail)
    answer = public.get("/alerts", headers={"X-API-Key": KEY})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "planted-secret" not in answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    check_headers(dict(answer.headers))
