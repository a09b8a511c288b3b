"""Client-side rate limits for sources.

The limit is a sliding window, not a token bucket: a bucket of three refilled three times a second
allows six requests in its first second, and explorers count exactly.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from src.chain.clients.deadline import Deadline


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `requests` in any window of `seconds`."""

    requests: int
    seconds: float


class RateLimit:
    """Enforces several rates at once, and pauses that a source asks for, for any number of threads.

    Memory is bounded by the largest `Rate.requests`: one timestamp each.

    Args:
        rates: limits of the source.
        clock: monotonic, in seconds.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        *rates: Rate,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._windows = [(rate.seconds, deque[float](maxlen=rate.requests)) for rate in rates]
        self._lock = threading.Lock()
        self._paused_until = 0.0
        self.waited_seconds = 0.0  # by all threads together, so far

    def pause(self, seconds: float) -> None:
        """Allow no request for this time: the source asked for it."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock() + seconds)

    def try_acquire(self) -> bool:
        """Acquire a permit for one request, or return False. Never waits."""
        return self._acquire() == 0.0

    def acquire(self, deadline: Deadline) -> bool:
        """Wait for a permit for one request; False if it would come after the deadline."""
        while (wait := self._acquire()) > 0.0:
            if wait > deadline.remaining:
                return False
            self._sleep(wait)
            with self._lock:
                self.waited_seconds += wait
        return True

    def _acquire(self) -> float:
        """Acquire a permit and return 0, or return the seconds until the next one."""
        with self._lock:
            now = self._clock()
            wait = max(
                (
                    taken[0] + seconds - now
                    for seconds, taken in self._windows
                    if len(taken) == taken.maxlen
                ),
                default=0.0,
            )
            wait = max(wait, self._paused_until - now)
            if wait > 0.0:
                return wait
            for _, taken in self._windows:
                taken.append(now)
            return 0.0
