"""A world of sources for every file here."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.chain.lookups.world import World


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def world(stack: ExitStack) -> World:
    return World(stack)
