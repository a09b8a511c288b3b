"""Notices queued in memory: each receiver gets its own in time."""

import threading
from dataclasses import dataclass
from typing import Any

from src.service.watch.notify import Notice
from src.service.watch.outbox import Outbox
from tests.support.waiting import FOR_EVER, wait_until


@dataclass
class Words:
    """A notice that says nothing but its title."""

    title: str
    uuid: str = "1"
    text: str = ""
    level: str = "info"

    def as_json(self) -> dict[str, Any]:
        return {}


class Receiver:
    """Keeps the titles of what it got, as soon as it answers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.answers = threading.Event()
        self.got: list[str] = []

    def send(self, message: Notice) -> str | None:
        self.answers.wait(FOR_EVER)
        self.got.append(message.title)
        return None


def test_a_receiver_that_hangs_does_not_delay_the_others() -> None:
    hanging, sound = Receiver("hanging"), Receiver("sound")
    sound.answers.set()
    outbox: Outbox[Words] = Outbox("test", [hanging, sound], poll_seconds=0.01, first_pause=1.0)
    with outbox:
        outbox.put(Words("first"))
        wait_until(lambda: sound.got == ["first"])
        outbox.put(Words("second"))
        wait_until(lambda: sound.got == ["first", "second"])
        assert hanging.got == []
        hanging.answers.set()
        wait_until(lambda: hanging.got == ["first", "second"])
