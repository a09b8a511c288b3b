"""The same sender, contract and alert within a window give one finding with a count."""

import logging
import math

from hypothesis import given
from hypothesis import strategies as st

from src.decision.deduplication import FILE_NAME, Deduplicator
from src.detection.records import Action
from tests.conftest import ALICE, BOB, USDC


def count(
    repeats,
    timestamp,
    alert_id="DRAINED-ACCOUNT",
    sender=ALICE,
    contract=BOB,
    action=Action.REVIEW,
    usd=0.0,
):
    return repeats.count(alert_id, sender, contract, timestamp, action=action, usd=usd)


def test_repeats_within_the_window_are_counted_in_the_next_finding():
    repeats = Deduplicator(600)
    assert [count(repeats, t) for t in (1000, 1000, 1300, 1599)] == [1, None, None, None]
    assert count(repeats, 1600) == 4
    assert count(repeats, 9000) == 1


def test_another_sender_contract_or_alert_is_not_a_repeat():
    repeats = Deduplicator(600)
    assert count(repeats, 1000) == 1
    assert count(repeats, 1000, sender=BOB) == 1
    assert count(repeats, 1000, contract=USDC) == 1
    assert count(repeats, 1000, contract=None) == 1
    assert count(repeats, 1000, alert_id="FLASH-LOAN-PROFIT") == 1


def test_a_more_drastic_action_is_not_a_repeat():
    repeats = Deduplicator(600)
    assert count(repeats, 1000) == 1
    assert count(repeats, 1010) is None
    assert count(repeats, 1020, action=Action.BLOCK) == 2
    assert count(repeats, 1030) is None
    assert count(repeats, 1040, action=Action.BLOCK) is None


def test_much_more_money_is_not_a_repeat(tmp_path):
    repeats = Deduplicator(600, folder=tmp_path)
    stakes = (0.0, 9_000.0, 50.0, 11_000.0, 100_000.0, 5e6, math.inf, 5e6)
    assert [count(repeats, 1000, usd=usd) for usd in stakes] == [
        1, None, None, 3, None, 2, 1, None,
    ]  # fmt: skip
    repeats.close()
    again = Deduplicator(600, folder=tmp_path)
    assert count(again, 1000, usd=5e6) is None
    again.close()


def test_without_a_window_or_a_time_nothing_is_held_back():
    assert [count(Deduplicator(0), 1000) for _ in range(3)] == [1, 1, 1]
    assert [count(Deduplicator(600), None) for _ in range(3)] == [1, 1, 1]


def test_what_was_emitted_survives_a_restart(tmp_path):
    first = Deduplicator(600, folder=tmp_path)
    assert [count(first, 1000), count(first, 1001)] == [1, None]
    first.close()
    second = Deduplicator(600, folder=tmp_path)
    assert count(second, 1002) is None
    assert count(second, 1700) == 3
    second.close()


def test_chains_do_not_mix(tmp_path):
    for chain_id in (1, 56):
        repeats = Deduplicator(600, folder=tmp_path, chain_id=chain_id)
        assert count(repeats, 1000) == 1
        repeats.close()


def test_a_damaged_file_costs_a_warning_and_the_memory_works(tmp_path, caplog):
    (tmp_path / FILE_NAME).write_bytes(b"not a database, but long enough to be taken for one" * 50)
    with caplog.at_level(logging.WARNING):
        repeats = Deduplicator(600, folder=tmp_path)
    assert [count(repeats, 1000), count(repeats, 1001)] == [1, None]
    assert "counted in memory only" in caplog.text


@given(st.lists(st.integers(0, 50), max_size=60))
def test_memory_is_bounded_and_the_newest_stay(senders):
    repeats = Deduplicator(600, remembered=5)
    for sender in senders:
        count(repeats, 1000, sender=str(sender))
        assert len(repeats) <= 5
        assert count(repeats, 1000, sender=str(sender)) is None


def test_the_file_is_bounded_too(tmp_path):
    repeats = Deduplicator(600, folder=tmp_path, remembered=3)
    for sender in range(10):
        count(repeats, 1000, sender=str(sender))
    repeats.close()
    again = Deduplicator(600, folder=tmp_path, remembered=100)
    assert len(again) == 3
    assert count(again, 1000, sender="9") is None
    again.close()
