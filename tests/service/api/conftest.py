"""The service on the embedded demo's chain, with a fresh SQLite database for each module."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from src.service.app import create_app
from tests.service.chain import BASE_URL, common_settings, service_settings, sqlite_url


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = service_settings(sqlite_url(tmp_path_factory.mktemp("service")))
    app = create_app(settings, common_settings())
    with TestClient(app, base_url=BASE_URL) as opened:
        yield opened
