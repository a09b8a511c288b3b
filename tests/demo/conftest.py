"""The contracts, and a chain on which every scenario was played."""

from collections.abc import Iterator

import pytest

from src.demo.anvil import anvil
from src.demo.contracts import Contract, compile_contracts
from src.demo.scenarios import SCENARIOS, Played, play
from src.demo.world import GENESIS, World, build


@pytest.fixture(scope="package")
def code() -> dict[str, Contract]:
    return compile_contracts()


@pytest.fixture(scope="package")
def stage(code: dict[str, Contract]) -> Iterator[tuple[World, list[Played]]]:
    with anvil(timestamp=GENESIS) as chain:
        world = build(chain, code)
        yield world, play(world, SCENARIOS)
