"""Timing on a machine that others use too: interleaved, in medians, as ratios."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Timing:
    """Time of one call, median over rounds, in seconds.

    Attributes:
        cpu: processor time of this process, all threads.
        wall: elapsed time.
    """

    cpu: float
    wall: float


def interleaved(
    calls: Mapping[str, Call], *, rounds: int, round_seconds: float
) -> dict[str, Timing]:
    """Time several calls alternately (A B A B), so that a busy moment hits all of them alike.

    Each is called once before it is timed. A round repeats a call until `round_seconds` have
    passed, and counts the mean of the round; the result is the median of the rounds.
    """
    for call in calls.values():
        call()
    taken: dict[str, list[Timing]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            taken[name].append(_round(call, round_seconds))
    return {name: median(timings) for name, timings in taken.items()}


def median(timings: list[Timing]) -> Timing:
    """Median processor time and median elapsed time, each on its own."""
    return Timing(
        cpu=statistics.median(timing.cpu for timing in timings),
        wall=statistics.median(timing.wall for timing in timings),
    )


def once(call: Call) -> Timing:
    """Time a single call."""
    return _round(call, 0.0)


def _round(call: Call, seconds: float) -> Timing:
    repeats = 0
    wall, cpu = time.perf_counter(), time.process_time()
    while True:
        call()
        repeats += 1
        elapsed = time.perf_counter() - wall
        if elapsed >= seconds:
            return Timing((time.process_time() - cpu) / repeats, elapsed / repeats)
