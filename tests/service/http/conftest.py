"""The service as the internet reaches it: on every address, with keys."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from src.service.app import create_app
from tests.service.chain import BASE_URL, common_settings, service_settings, sqlite_url
from tests.service.http.test_security import keyed


@pytest.fixture(scope="package")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("hardening")
    settings = service_settings(
        sqlite_url(folder), host="0.0.0.0", api_keys=keyed(), max_body_bytes=100_000
    )
    app = create_app(settings, common_settings())
    with TestClient(app, base_url=BASE_URL, follow_redirects=False) as opened:
        yield opened
