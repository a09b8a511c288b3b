from collections.abc import Iterator

import pytest

from tests.service.guard.guarding import Guarded, Node, guard, node


@pytest.fixture
def upstream() -> Iterator[Node]:
    with node() as running:
        yield running


@pytest.fixture
def guarded(upstream: Node) -> Iterator[Guarded]:
    with guard(upstream.url) as running:
        yield running
