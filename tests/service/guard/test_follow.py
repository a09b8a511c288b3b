"""Screened transactions are compared with what they did in their block."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import pytest

from src.detection.records import Action
from src.monitoring import screening_metrics
from src.service.database.screenings import NewScreening, StoredScreening, screening_of
from src.service.decider import Decider
from src.service.embedded import embedded_node
from src.service.guard.decisions import HELD_SECONDS, Decisions
from src.service.guard.follow import PATIENCE_SECONDS, Follower
from src.service.node import NodeReader
from tests.service.chain import THEFT, common_settings
from tests.service.databases import sqlite_database
from tests.service.guard.guarding import screening
from tests.support.waiting import FakeClock


def decided(
    tx_hash: str | None, action: Action = Action.ALLOW, status: Any = "success", **changes: Any
) -> NewScreening:
    found = replace(screening(action, status=status, number=1), tx_hash=tx_hash)
    stored = found.stored(1, FakeClock().now, source="guard", outcome="passed", is_enforced=True)
    return replace(stored, **changes)


def compared(kind: str) -> float:
    value: float = screening_metrics.GUARD_MINED.labels(kind)._value.get()
    return value


Chain = tuple[NodeReader, Decider]


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    """The embedded demo's node, with the theft in one of its blocks."""
    with ExitStack() as opened:
        url = opened.enter_context(embedded_node())
        node = opened.enter_context(
            closing(NodeReader(url, requests_per_second=1_000, verify=True, patience=1.0))
        )
        yield node, opened.enter_context(closing(Decider(common_settings(url))))


@pytest.fixture
def decisions() -> Iterator[Decisions]:
    with sqlite_database() as database:
        yield Decisions(database, 1, FakeClock())


def stored(decisions: Decisions, one: NewScreening) -> StoredScreening:
    with decisions.database.reading() as connection:
        found = screening_of(connection, one.uuid)
    assert found is not None
    return found


def follower(decisions: Decisions, chain: Chain) -> Follower:
    return Follower(decisions, *chain, decisions._clock)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("screened", "kind"),
    [
        (decided(THEFT), "another action"),
        (decided(THEFT, Action.BLOCK, outcome="blocked"), "same"),
        (decided(THEFT, Action.BLOCK, "reverts", is_enforced=False), "another status"),
        (decided(THEFT, Action.REVIEW, "unknown", outcome="unknown passed"), "not comparable"),
    ],
)
def test_a_mined_transaction_is_compared_with_its_screening(
    decisions: Decisions, chain: Chain, screened: NewScreening, kind: str
) -> None:
    """One that was refused, too: it may have been sent another way. Two guards count it once."""
    before = compared(kind)
    decisions.add(screened)
    for one in (follower(decisions, chain), follower(decisions, chain)):
        one.look()
        one.look()
    assert compared(kind) == before + 1
    found = stored(decisions, screened)
    assert (found.state, found.mined_action, found.is_reverted) == ("mined", Action.BLOCK, False)
    assert found.differs is kind.startswith("another")


@pytest.mark.integration
def test_after_a_restart_one_without_a_block_hides_no_other(
    decisions: Decisions, chain: Chain
) -> None:
    """The oldest one could not be simulated: blocks are read from that of the next one on."""
    oldest = decided("0x" + "12" * 32, status="unknown")
    earlier = chain[0].head() - 3
    screened = decided(chain[0].transaction_hashes(range(earlier, earlier + 1))[0][0])
    before = {"block_number": None, "uuid": "2", "screened_at": oldest.screened_at - 1}
    decisions.add(replace(oldest, **before))
    decisions.add(screened)
    following = follower(decisions, chain)
    following.look()
    following.look()
    assert stored(decisions, screened).state == "mined"


@pytest.mark.integration
def test_only_blocks_with_a_screened_transaction_are_read(
    decisions: Decisions, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receipts of a block are large and verified, while other transactions are screened."""
    node = chain[0]
    read: list[int] = []
    blocks = node.blocks
    monkeypatch.setattr(node, "blocks", lambda numbers: read.extend(numbers) or blocks(numbers))
    screened = decided(THEFT, Action.BLOCK)
    decisions.add(screened)
    following = follower(decisions, chain)
    following.look()
    following.look()
    assert read == [stored(decisions, screened).mined_block]


@pytest.mark.integration
def test_what_is_released_late_is_found_in_its_block(
    decisions: Decisions, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may wait for a person for longer than a transaction waits for its block."""
    node = chain[0]
    mined = node.transaction(THEFT)
    assert mined is not None
    held = decided(THEFT, Action.REVIEW, outcome="held")
    decisions.add(held)
    decisions._clock.now += 2 * PATIENCE_SECONDS  # type: ignore[attr-defined]
    following = follower(decisions, chain)
    with monkeypatch.context() as before:
        before.setattr(node, "head", lambda: mined.block_number - 1)
        following.look()
    decisions.released(held.uuid, "0xanswer")
    following.look()
    found = stored(decisions, held)
    assert (found.state, found.mined_block) == ("mined", mined.block_number)


@pytest.mark.integration
def test_what_a_guard_held_when_it_was_killed_is_dropped(
    decisions: Decisions, chain: Chain
) -> None:
    """Only its memory had the transaction; another guard may hold what is younger."""
    held = decided("0x" + "12" * 32, Action.REVIEW, outcome="held", uuid="1")
    observed = decided("0x" + "13" * 32, Action.REVIEW, outcome="held", is_enforced=False)
    for one in (held, observed):
        decisions.add(one)
    following = follower(decisions, chain)
    following.look()
    assert stored(decisions, held).outcome == "held"
    decisions._clock.now += 2 * HELD_SECONDS  # type: ignore[attr-defined]
    following.look()
    assert [stored(decisions, one).outcome for one in (held, observed)] == ["dropped", "held"]


@pytest.mark.integration
def test_what_is_in_no_block_is_dropped_in_the_end(decisions: Decisions, chain: Chain) -> None:
    screened = decided("0x" + "12" * 32)
    decisions.add(screened)
    following = follower(decisions, chain)
    following.look()
    assert stored(decisions, screened).state == "pending"
    clock = decisions._clock
    clock.now += 10 * PATIENCE_SECONDS  # type: ignore[attr-defined]
    following._clean = lambda: None  # type: ignore[method-assign]
    following.look()
    del following._clean
    clock.now -= 8 * PATIENCE_SECONDS  # type: ignore[attr-defined]  # the clock is set back
    following.look()
    assert stored(decisions, screened).state == "dropped"
