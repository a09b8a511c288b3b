"""Notifications queued in memory: those that are worth nothing after a restart.

What must not be lost is queued in the database instead; see `service.watch.notify`.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from src.monitoring.periodic import Periodic
from src.service.watch.notify import Channel, Notice, deliver

MAX_ATTEMPTS: Final = 5

_MAX_QUEUED: Final = 1_000

N = TypeVar("N", bound=Notice)


@dataclass(slots=True)
class _Queued(Generic[N]):
    notice: N
    channel: Channel
    due: float = 0.0
    attempts: int = 0


class Outbox(Generic[N]):
    """Sends notices in a background thread, until each is delivered or given up.

    `first_pause` is seconds before the second attempt, doubled for each further one.
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
        self._channels = channels
        self._first_pause = first_pause
        self._clock = clock
        self._queue: deque[_Queued[N]] = deque(maxlen=_MAX_QUEUED)
        self._lock = threading.Lock()
        self.sending = Periodic(name, poll_seconds, self.send_due)

    def put(self, notice: N) -> None:
        """Queue a notice for every receiver."""
        with self._lock:
            self._queue.extend(_Queued(notice, channel) for channel in self._channels)

    def send_due(self) -> None:
        """Send what is due."""
        with self._lock:
            queued, now = list(self._queue), self._clock()
            self._queue.clear()
        for one in queued:
            waits = one.due > now or self.sending.stopping.is_set()
            if waits or not self._send(one):
                with self._lock:
                    self._queue.append(one)

    def _send(self, one: _Queued[N]) -> bool:
        """Whether the notice is done with."""
        if not self._is_wanted(one.notice):
            return True
        one.attempts += 1
        is_last = one.attempts >= MAX_ATTEMPTS
        if deliver(one.channel, one.notice, is_last=is_last) is None:
            self._delivered(one.notice, one.channel)
            return True
        one.due = self._clock() + self._first_pause * 2 ** (one.attempts - 1)
        return is_last

    def _is_wanted(self, _notice: N) -> bool:
        """Whether a notice is still to be sent."""
        return True

    def _delivered(self, _notice: N, _channel: Channel) -> None:
        """Called after a delivery."""
