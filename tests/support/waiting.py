"""How tests wait: for conditions rather than durations, and with a clock of their own for time.

A test that passes never waits for a limit below, so the limits are for a machine that is many times
too busy. `pyproject.toml` ends a test that hangs for longer still.
"""

import subprocess
import time
from collections.abc import Callable
from typing import Any

FOR_EVER = 3600.0
"""Seconds. Longer than any test may run, so that a wait of this length ends for another reason."""

PATIENCE = 600.0
"""Seconds for what will happen: a server starts, a process ends, an answer comes."""

_MIN_POLL_SECONDS, _MAX_POLL_SECONDS = 0.02, 0.5


def wait_until(
    condition: Callable[[], object], process: "subprocess.Popen[Any] | None" = None
) -> None:
    """Poll until `condition()` holds; fail at once when the process that is to meet it ends.

    The longer it takes the less often it is polled: polls take time from what they wait for.
    """
    start = time.monotonic()
    while not condition():
        ended = None if process is None else process.poll()
        assert ended is None, f"the process ended with {ended}"
        waited = time.monotonic() - start
        assert waited < PATIENCE, "the condition was not met"
        time.sleep(min(max(_MIN_POLL_SECONDS, waited / 20), _MAX_POLL_SECONDS))


class FakeClock:
    """A clock, in seconds, that only the test moves; `sleep` moves it by as much."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
