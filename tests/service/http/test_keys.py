"""Every route asks for a key, but for the probes."""

import re
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from starlette.testclient import TestClient

from src.service.app import create_app
from src.service.http.security import OPEN_PATHS
from tests.service.chain import THEFT, common_settings, service_settings
from tests.service.http.asking import asgi

FILLED = {"{tx_hash}": THEFT, "{alert}": "1", "{path:path}": "x"}


def routes() -> list[tuple[str, str]]:
    """Method and path of all that the application answers, mounted files included."""
    guarded: Any = create_app(service_settings("sqlite:///unused.db"), common_settings())
    found = []
    for context in iter_route_contexts(guarded.app.routes):
        path = str(context.path)
        if context.methods is None:
            path = f"{path}/style.css"  # a folder of files
        for marker, value in FILLED.items():
            path = path.replace(marker, value)
        path = re.sub(r"{\w+}", "a" * 32, path)
        found += [(method, path) for method in sorted(context.methods or {"GET", "HEAD"})]
    return found


def test_the_list_of_routes_is_whole() -> None:
    paths = {path for _, path in routes()}
    assert {"/decisions", "/ui/", "/docs", "/metrics", "/openapi.json", "/healthz"} <= paths
    assert {"/ui/static/style.css", "/docs/assets/style.css"} <= paths
    assert len(routes()) >= 30


@pytest.mark.parametrize(("method", "path"), routes())
def test_every_route_asks_for_a_key_or_is_a_probe(
    public: TestClient, method: str, path: str
) -> None:
    answer = public.request(method, path)
    if path in OPEN_PATHS:
        assert answer.status_code == 200
        assert set(answer.json()) <= {"status", "ready", "problems"}
    else:
        assert answer.status_code == 401
        assert "script" not in answer.text


def test_no_more_is_open_than_the_probes() -> None:
    assert set(OPEN_PATHS) == {"/healthz", "/readyz"}


@pytest.mark.parametrize("path", ["/healthz/", "/HEALTHZ", "/healthz/../alerts", "//healthz"])
def test_what_only_looks_like_a_probe_asks_for_a_key(public: TestClient, path: str) -> None:
    assert asgi(public, path).status == 401
