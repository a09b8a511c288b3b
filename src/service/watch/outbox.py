"""Notifications queued in memory: those that are worth nothing after a restart.

What must not be lost is queued in the database instead; see `service.watch.notify`.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, Self, TypeVar

from src.monitoring.periodic import Periodic
from src.service.watch.notify import Channel, Notice, deliver

MAX_ATTEMPTS: Final = 5

_MAX_QUEUED: Final = 1_000

N = TypeVar("N", bound=Notice)


@dataclass(slots=True)
class _Queued(Generic[N]):
    notice: N
    due: float = 0.0
    attempts: int = 0


class Outbox(Generic[N]):
    """Sends notices in the background, until each is delivered or given up.

    Each receiver has a queue and a thread of its own, so that one that hangs does not delay the
    others. `first_pause` is seconds before the second attempt, doubled for each further one. As a
    context manager it starts and stops.
    """

    def __init__(
        self,
        name: str,
        channels: Sequence[Channel],
        *,
        poll_seconds: float,
        first_pause: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first_pause = first_pause
        self._clock = clock
        self._queues = [(one, deque[_Queued[N]](maxlen=_MAX_QUEUED)) for one in channels]
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._sending = [
            Periodic(name, poll_seconds, partial(self._send_due_to, *one)) for one in self._queues
        ]

    def __enter__(self) -> Self:
        for sending in self._sending:
            sending.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for sending in self._sending:
            sending.stop()

    def put(self, notice: N) -> None:
        """Queue a notice for every receiver."""
        with self._lock:
            for _, queue in self._queues:
                queue.append(_Queued(notice))

    def send_due(self) -> None:
        """Send what is due."""
        for channel, queue in self._queues:
            self._send_due_to(channel, queue)

    def _send_due_to(self, channel: Channel, queue: deque[_Queued[N]]) -> None:
        with self._lock:
            queued, now = list(queue), self._clock()
            queue.clear()
        for one in queued:
            waits = one.due > now or self._stopping.is_set()
            if waits or not self._send(one, channel):
                with self._lock:
                    queue.append(one)

    def _send(self, one: _Queued[N], channel: Channel) -> bool:
        """Whether the notice is done with."""
        if not self._is_wanted(one.notice):
            return True
        one.attempts += 1
        is_last = one.attempts >= MAX_ATTEMPTS
        if deliver(channel, one.notice, is_last=is_last) is None:
            self._delivered(one.notice, channel)
            return True
        one.due = self._clock() + self._first_pause * 2 ** (one.attempts - 1)
        return is_last

    def _is_wanted(self, _notice: N) -> bool:
        """Whether a notice is still to be sent."""
        return True

    def _delivered(self, _notice: N, _channel: Channel) -> None:
        """Called after a delivery."""
