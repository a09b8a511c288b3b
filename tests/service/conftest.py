"""Migrated databases without rows."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from src.service.database.engine import Database
from tests.service.databases import KINDS, migrated_url, sqlite_database


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    opened = Database(migrated_url(request.param, tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def sqlite() -> Iterator[Database]:
    with sqlite_database() as opened:
        yield opened
