"""Looks up facts from several sources in order, several kinds at once, until a deadline.

The thread that needs the facts drives the inquiry and only waits on futures, so no source can make
it wait longer than the deadline.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from src.chain.clients.deadline import Deadline
from src.chain.errors import DeadlineExceeded, Failure, NotConfigured, NotFound, SourceError

T = TypeVar("T")

_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Stage(Generic[T]):
    """One source in the order of sources."""

    # Starts the requests; see `Source.ask`.
    ask: Callable[[Collection[str]], Mapping[str, Future[T]]]
    # Seconds after which the next stage starts although this one still runs (its answer counts if
    # it is the first); None to wait for all its answers.
    patience: float | None = None
    abandon_after: float | None = None  # seconds to wait for this source if no other source is left
    # The failures after which this source is useful; None for any.
    only_after: tuple[type[SourceError], ...] | None = None


class Inquiry(Generic[T]):
    """The search for one kind of fact about several addresses.

    Args:
        addresses: to look up.
        stages: sources, in order.
        clock: of the deadline, in seconds; also decides when a stage's patience ends.

    Attributes:
        found: address -> fact.
        failures: address -> why there is none, from the last source that said so.
    """

    def __init__(
        self,
        addresses: Collection[str],
        stages: Sequence[Stage[T]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self.found: dict[str, T] = {}
        self.failures: dict[str, Failure] = {}
        self._open = set(addresses)
        self._stages = list(stages)
        self._running: list[tuple[str, Future[T]]] = []
        self._next_stage_at = 0.0
        self._abandon_at = _NEVER

    @property
    def is_done(self) -> bool:
        """Whether nothing more will come, or nothing worth waiting for."""
        if self._stages:
            return not self._open
        return not (self._open and self._running) or self._clock() >= self._abandon_at

    @property
    def next_step_at(self) -> float:
        """The time at which the current stage's patience ends."""
        return self._next_stage_at if self._stages else self._abandon_at

    def running(self) -> set[Future[T]]:
        """The futures waited for."""
        return {future for _, future in self._running}

    def advance(self) -> None:
        """Collect results and start the next stage when it is due."""
        self._collect()
        while self._open and self._stages and self._stage_is_over():
            stage = self._stages.pop(0)
            self._next_stage_at = self._from_now(stage.patience)
            self._abandon_at = self._from_now(stage.abandon_after)
            self._running += stage.ask(self._open_to(stage)).items()
            self._collect()

    def give_up(self) -> None:
        """Record why there is no fact about the remaining addresses."""
        for address in self._open:
            if self._running:
                self.failures[address] = Failure(DeadlineExceeded, "look-up", "no answer in time")
            else:
                nobody = Failure(NotConfigured, "look-up", "no source to ask")
                self.failures.setdefault(address, nobody)

    def _open_to(self, stage: Stage[T]) -> list[str]:
        if stage.only_after is None:
            return sorted(self._open)
        failed = [a for a, failure in self.failures.items() if failure.is_a(*stage.only_after)]
        return sorted(self._open.intersection(failed))

    def _stage_is_over(self) -> bool:
        return not self._running or self._clock() >= self._next_stage_at

    def _from_now(self, seconds: float | None) -> float:
        return _NEVER if seconds is None else self._clock() + seconds

    def _collect(self) -> None:
        still_running = []
        for address, future in self._running:
            if address not in self._open:
                continue
            if not future.done():
                still_running.append((address, future))
                continue
            failure = future.exception()
            if failure is None:
                self.found[address] = future.result()
                self.failures.pop(address, None)
                self._open.discard(address)
            elif isinstance(failure, SourceError | NotFound):
                self.failures[address] = Failure.of(failure)
                if isinstance(failure, NotFound):  # a valid answer: no other source is needed
                    self._open.discard(address)
        self._running = still_running


def run(inquiries: Sequence[Inquiry[Any]], deadline: Deadline) -> None:
    """Drive all inquiries together until they are done or the deadline has passed."""
    while True:
        running: set[Future[Any]] = set()
        next_step_at = deadline.at
        for inquiry in inquiries:
            inquiry.advance()
            if not inquiry.is_done:
                running |= inquiry.running()
                next_step_at = min(next_step_at, inquiry.next_step_at)
        if not running or deadline.passed:
            break
        wait(running, max(0.0, next_step_at - deadline.clock()), FIRST_COMPLETED)
    for inquiry in inquiries:
        inquiry.give_up()
