"""Databases to watch into."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from src.service.database.engine import Database
from tests.service.databases import KINDS, database_url


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    opened = Database(database_url(request.param, tmp_path))
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    opened = Database(database_url("sqlite", tmp_path))
    opened.migrate()
    yield opened
    opened.close()
