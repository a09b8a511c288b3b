"""The groups of measurements that `npm run bench` makes."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import bridge, guard, handler, kernels, start_up
from benchmarks.report import Line

CORES = 0.2
"""What a scan node gives a bot."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure."""

    rounds: int
    round_seconds: float
    bridge_transactions: int
    screened: int


FULL = Effort(rounds=5, round_seconds=0.3, bridge_transactions=200, screened=2_000)
QUICK = Effort(rounds=3, round_seconds=0.05, bridge_transactions=30, screened=200)

Found = tuple[list[Line], list[str]]

_GROUPS: dict[str, Callable[[Effort], Found]] = {
    "kernels": lambda effort: (
        kernels.measure(rounds=effort.rounds, round_seconds=effort.round_seconds), []
    ),
    "handler": lambda effort: (
        [*handler.warm(rounds=effort.rounds, round_seconds=effort.round_seconds)], []
    ),
    "cold": lambda effort: ([*handler.cold(rounds=effort.rounds)], []),
    "start": lambda effort: ([*start_up.measure(rounds=effort.rounds, cores=CORES)], []),
    "bridge": lambda effort: bridge.measure(
        rounds=effort.rounds, transactions=effort.bridge_transactions, cores=CORES
    ),
    "guard": lambda effort: (
        guard.measure(samples=effort.screened // 10, burst=effort.screened), []
    ),
}  # fmt: skip


def measure(name: str, effort: Effort) -> Found:
    """The lines of a group, and why lines are missing from it."""
    return _GROUPS[name](effort)
