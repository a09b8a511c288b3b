"""Decisions in the database: none is lost, none waits, old ones are forgotten."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from src.detection.records import Action
from src.service.database import screenings
from src.service.database.engine import Page
from src.service.database.screenings import (
    NewScreening,
    ScreeningFilter,
    StoredScreening,
    forget_screenings,
    list_screenings,
)
from src.service.guard import decisions as module
from src.service.guard.decisions import HELD_SECONDS, Decisions
from tests.service.databases import sqlite_database
from tests.service.guard.guarding import RAW, screening
from tests.support.waiting import FakeClock


@pytest.fixture
def decisions() -> Iterator[Decisions]:
    with sqlite_database() as database:
        yield Decisions(database, 1, FakeClock())


def decided(number: int) -> NewScreening:
    found = replace(screening(Action.REVIEW, number=number), sentence="a pays b")
    return found.stored(1, 1_000.0 + number, source="guard", outcome="held", client="ann")


def stored(decisions: Decisions) -> list[StoredScreening]:
    with decisions.database.reading() as connection:
        return list_screenings(connection, ScreeningFilter(), Page(10_000))[0]


def test_a_stop_writes_what_is_queued_and_drops_what_is_held(decisions: Decisions) -> None:
    made = [decided(number) for number in range(2_500)]
    for one in made:
        decisions.add(one)
    assert decisions.hold(made[0].uuid, RAW)
    assert stored(decisions) == []
    decisions.close()
    found = stored(decisions)
    assert [one.uuid for one in found] == [one.uuid for one in reversed(made)]
    assert [one.outcome for one in found[-2:]] == ["held", "dropped"]
    assert (found[0].summary, found[0].client, found[0].state) == ("a pays b", "ann", "pending")
    assert not decisions.is_held(made[0].uuid)


def test_what_cannot_be_written_waits_and_comes_in_order(
    decisions: Decisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **_values: Any) -> None:
        raise OperationalError("insert", {}, Exception("locked"))

    first = decided(1)
    decisions.add(first)
    decisions.released(first.uuid, "0xanswer")
    monkeypatch.setattr(module, "change_screening", fail)
    with pytest.raises(OperationalError):
        decisions.flush()
    assert stored(decisions) == []
    monkeypatch.undo()
    decisions.add(decided(2))
    decisions.flush()
    decisions.flush()
    second, first_row = stored(decisions)
    assert (second.outcome, first_row.outcome, first_row.answer) == ("held", "passed", "0xanswer")


def test_the_queue_is_bounded(decisions: Decisions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_QUEUED", 3)
    for number in range(5):
        decisions.add(decided(number))
    decisions.flush()
    assert len(stored(decisions)) == 3


def test_a_held_transaction_is_dropped_in_time(decisions: Decisions) -> None:
    one = decided(1)
    decisions.add(one)
    assert decisions.hold(one.uuid, RAW)
    decisions._clock.now += HELD_SECONDS  # type: ignore[attr-defined]
    assert not decisions.is_held(one.uuid)
    assert decisions.hold(decided(2).uuid, RAW)
    assert decisions.take(one.uuid) is None
    decisions.flush()
    assert [found.outcome for found in stored(decisions)] == ["dropped"]


def test_what_is_held_is_bounded_in_bytes(
    decisions: Decisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_HELD_BYTES", 2 * len(RAW))
    held = [decisions.hold(decided(number).uuid, RAW) for number in range(3)]
    assert held == [True, True, False]


def test_what_nobody_releases_is_dropped_by_the_next_write(decisions: Decisions) -> None:
    one = decided(1)
    decisions.add(one)
    decisions.hold(one.uuid, RAW)
    decisions._clock.now += HELD_SECONDS  # type: ignore[attr-defined]
    decisions.flush()
    assert [found.outcome for found in stored(decisions)] == ["dropped"]
    assert not decisions._held, "nor does its raw transaction stay in memory"


def test_old_ones_and_too_many_are_forgotten(
    decisions: Decisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        decisions.add(decided(number))
    decisions.flush()
    monkeypatch.setattr(screenings, "MAX_KEPT", 4)
    with decisions.database.writing() as connection:
        forget_screenings(connection, 0.0)
    assert len(stored(decisions)) == 4
    with decisions.database.writing() as connection:
        forget_screenings(connection, 1_004.0)
    assert [one.screened_at for one in stored(decisions)] == [1_005.0, 1_004.0]
