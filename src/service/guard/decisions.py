"""The guard's decisions: written to the database in the background, and calls held for review.

A client never waits for the database. A raw transaction is never written: a held call is in memory
for as long as it is held, and dropped when the guard stops.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal

from src.monitoring import metrics
from src.monitoring.periodic import Periodic
from src.service.database.engine import Database
from src.service.database.screenings import NewScreening, add_screenings, change_screening

logger = logging.getLogger(__name__)

Outcome = Literal["passed", "blocked", "unknown passed", "unknown refused", "held", "dropped"]
"""What the guard did, or in observe mode would have done."""

HELD_SECONDS: Final = 3_600.0
MAX_HELD: Final = 500
MAX_HELD_BYTES: Final = 64 * 1024 * 1024
MAX_QUEUED: Final = 50_000

_WRITE_SECONDS: Final = 0.5
_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Change:
    uuid: str
    values: Mapping[str, Any]


class Decisions:
    """Stores decisions, in order, and holds calls. Thread-safe.

    Args:
        database: that has the screenings; closed by the caller.
        chain_id: of the node.
        clock: Unix seconds.

    Attributes:
        chain_id: as given.
        writing: writes in the background while it runs.
        released_at: when a held call was passed on last, Unix seconds.
    """

    def __init__(
        self, database: Database, chain_id: int, clock: Callable[[], float] = time.time
    ) -> None:
        self.database = database
        self.writing = Periodic("decisions", _WRITE_SECONDS, self.flush)
        self.released_at = -math.inf
        self.chain_id = chain_id
        self._clock = clock
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._queue: deque[NewScreening | _Change] = deque()
        # Texts of calls, until when each waits.
        self._held: dict[str, tuple[str, float]] = {}

    def add(self, one: NewScreening | _Change) -> None:
        """Store a decision soon, or a change of one."""
        with self._lock:
            is_full = len(self._queue) >= MAX_QUEUED  # the database has not answered for long
            if not is_full:
                self._queue.append(one)
        if is_full:
            metrics.error_occurred("DecisionNotStored")

    def flush(self) -> None:
        """Write what is queued. What cannot be written stays queued, and the error is raised."""
        self._expire()
        with self._flushing:
            while batch := self._first_queued():
                with self.database.writing() as connection:
                    new = [one for one in batch if isinstance(one, NewScreening)]
                    add_screenings(connection, new)
                    for one in batch:  # each after what it changes
                        if isinstance(one, _Change):
                            change_screening(connection, one.uuid, **one.values)
                with self._lock:
                    for _ in batch:
                        self._queue.popleft()

    def hold(self, identity: str, text: str) -> bool:
        """Hold a decision's call for review; False if too many are held."""
        self._expire()
        with self._lock:
            size = sum(len(held) for held, _ in self._held.values())
            if len(self._held) >= MAX_HELD or size + len(text) > MAX_HELD_BYTES:
                return False
            self._held[identity] = text, self._clock() + HELD_SECONDS
        return True

    def is_held(self, identity: str) -> bool:
        """Whether a decision's call still waits."""
        self._expire()
        return identity in self._held

    def take(self, identity: str) -> str | None:
        """The held call, once: nobody gets it a second time. None if it does not wait any more."""
        self._expire()
        with self._lock:
            text, _ = self._held.pop(identity, (None, 0.0))
        return text

    def released(self, identity: str, answer: str) -> None:
        """Record that a held call was passed on, with the node's answer."""
        self.released_at = self._clock()
        self.add(_Change(identity, {"outcome": "passed", "answer": answer}))

    def drop(self, identity: str) -> None:
        """Hold a call no longer, and record that it was dropped."""
        with self._lock:
            self._held.pop(identity, None)
        self.add(_Change(identity, {"outcome": "dropped"}))

    def close(self) -> None:
        """Drop what is held and write what is queued; what cannot be written now is lost."""
        self.writing.stop()
        for identity in list(self._held):
            self.drop(identity)
        try:
            self.flush()
        except Exception as error:
            metrics.error_occurred(error)
            logger.exception("%d decisions could not be stored", len(self._queue))

    def _expire(self) -> None:
        """Drop what nobody has released in time."""
        now = self._clock()
        with self._lock:
            old = [identity for identity, (_, until) in self._held.items() if until <= now]
        for identity in old:
            self.drop(identity)

    def _first_queued(self) -> list[NewScreening | _Change]:
        with self._lock:
            return list(islice(self._queue, _AT_ONCE))
