"""Notices of screenings are sent once, and each receiver gets its own in time."""

import threading
from typing import Any

from src.detection.records import Action
from src.monitoring import metrics
from src.service.database.screenings import NewScreening
from src.service.screening.notices import Notices
from tests.support.waiting import FOR_EVER, FakeClock, wait_until


class Receiver:
    """A channel that fails so many times, and that may hang."""

    name = "receiver"

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.got: list[dict[str, Any]] = []
        self.answers = threading.Event()
        self.answers.set()

    def send(self, notice: Any) -> str | None:
        self.answers.wait(FOR_EVER)
        if self.failures:
            self.failures -= 1
            return "HTTP 503"
        self.got.append(notice.content | {"title": notice.title, "text": notice.text})
        return None


def screening(action: Action, **changes: Any) -> NewScreening:
    values: dict[str, Any] = {
        "uuid": "1", "source": "guard", "chain_id": 1, "tx_hash": "0x" + "12" * 32,
        "from_address": "0x" + "11" * 20, "screened_at": 1_000.0, "block_number": 7,
        "status": "success", "action": int(action), "reasons": [f"reason for {action.name}"],
        "summary": "a pays b.", "problem": "", "outcome": "blocked", "is_enforced": True,
        "client": "ann",
    }  # fmt: skip
    return NewScreening(**values | changes)


def notices(receiver: Receiver, clock: FakeClock, lowest: Action = Action.REVIEW) -> Notices:
    return Notices([receiver], lowest, "https://guard.example/", clock)


def notified(outcome: str) -> float:
    value: float = metrics.NOTIFICATIONS.labels(outcome)._value.get()
    return value


def test_a_notice_is_sent_once_with_its_reasons_and_its_page() -> None:
    receiver, clock = Receiver(), FakeClock()
    sending = notices(receiver, clock)
    sending.add(screening(Action.BLOCK))
    sending.add(screening(Action.ALLOW))
    sending.send_due()
    sending.send_due()
    (got,) = receiver.got
    assert got["title"] == "BLOCK: transaction blocked"
    assert got["reasons"] == ["reason for BLOCK"]
    assert "https://guard.example/ui/screenings/" in got["text"]
    assert "of ann on Ethereum" in got["text"]


def test_one_that_is_observed_or_unknown_says_so() -> None:
    receiver = Receiver()
    sending = notices(receiver, FakeClock())
    unknown = {"status": "unknown", "block_number": None, "problem": "no answer", "tx_hash": None}
    sending.add(screening(Action.REVIEW, is_enforced=False, outcome="unknown passed", **unknown))
    sending.send_due()
    (got,) = receiver.got
    assert got["title"] == "UNKNOWN: transaction observed, would be unknown passed"
    assert "no answer\nTransaction bundle of ann" in got["text"]


def test_a_failed_notice_is_tried_again_later_and_given_up_in_the_end() -> None:
    before = {outcome: notified(outcome) for outcome in ("delivered", "failed", "given_up")}
    receiver, clock = Receiver(failures=2), FakeClock()
    sending = notices(receiver, clock)
    sending.add(screening(Action.REVIEW))
    sending.send_due()
    sending.send_due()
    assert (receiver.failures, receiver.got) == (1, [])
    for _ in range(2):
        clock.now += 3_600
        sending.send_due()
    assert len(receiver.got) == 1

    receiver.failures = 100
    sending.add(screening(Action.REVIEW))
    for _ in range(20):
        clock.now += 3_600
        sending.send_due()
    assert receiver.failures == 95
    assert len(receiver.got) == 1
    after = {outcome: notified(outcome) - before[outcome] for outcome in before}
    assert after == {"delivered": 1, "failed": 6, "given_up": 1}


def test_the_lowest_action_is_a_setting() -> None:
    receiver = Receiver()
    sending = notices(receiver, FakeClock(), Action.BLOCK)
    sending.add(screening(Action.REVIEW))
    sending.send_due()
    assert receiver.got == []


def test_a_receiver_that_hangs_does_not_delay_the_others() -> None:
    hanging, sound = Receiver(), Receiver()
    hanging.answers.clear()

    def ids(receiver: Receiver) -> list[str]:
        return [got["decision"] for got in receiver.got]

    with Notices([hanging, sound], Action.REVIEW) as sending:
        sending.add(screening(Action.REVIEW, uuid="1"))
        wait_until(lambda: ids(sound) == ["1"])
        sending.add(screening(Action.REVIEW, uuid="2"))
        wait_until(lambda: ids(sound) == ["1", "2"])
        assert hanging.got == []
        hanging.answers.set()
        wait_until(lambda: ids(hanging) == ["1", "2"])
