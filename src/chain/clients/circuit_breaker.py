"""A circuit breaker: stops requests to a failing source, with occasional trial requests.

The common package, pybreaker, holds a lock during the guarded call, which would serialise requests
to a source; here only the counting is locked.
"""

import threading
import time
from collections.abc import Callable

DEFAULT_PAUSE_SECONDS = 30.0


class CircuitBreaker:
    """Opens after `threshold` failures in a row; allows one trial every `pause` seconds.

    Callers call `allow` before a request and exactly one of `succeeded`, `failed` or `abandoned`
    after it.
    """

    def __init__(
        self,
        *,
        threshold: int = 5,
        pause: float = DEFAULT_PAUSE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threshold = threshold
        self._pause = pause
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._on_trial = False
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether the circuit is open (a trial request may be in flight)."""
        return self._opened_at is not None

    def allow(self) -> bool:
        """Whether a request may be sent now."""
        with self._lock:
            if self._opened_at is None:
                return True
            if self._on_trial or self._clock() - self._opened_at < self._pause:
                return False
            self._on_trial = True
            return True

    def succeeded(self) -> None:
        """The source answered, possibly with an error."""
        with self._lock:
            self._failures = 0
            self._opened_at = None
            self._on_trial = False

    def failed(self) -> None:
        """The source did not answer, or rate-limited the request."""
        with self._lock:
            self._failures += 1
            self._on_trial = False
            if self._failures >= self._threshold:
                self._opened_at = self._clock()

    def abandoned(self) -> None:
        """The request was not sent."""
        with self._lock:
            self._on_trial = False
