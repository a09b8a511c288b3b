"""Work that a process does every so often beside everything else."""

import logging
import threading
from collections.abc import Callable
from typing import Self

from src.monitoring import metrics

logger = logging.getLogger(__name__)

_STOP_SECONDS = 15.0


class Periodic:
    """Calls a function immediately and then periodically, in a daemon thread, until stopped.

    `seconds` is the time from the end of one call to the next; an exception is logged and does not
    end the thread. As a context manager it starts and stops.

    Attributes:
        stopping: set as soon as it is to stop, for work that takes long.
    """

    def __init__(self, name: str, seconds: float, work: Callable[[], object]) -> None:
        self.stopping = threading.Event()
        self._seconds = seconds
        self._work = work
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def wake(self) -> None:
        """Call again now, or as soon as the call under way ends."""
        self._wake.set()

    def stop(self, *_: object) -> None:
        """Stop; waits for a limited time for a call in progress."""
        self.stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    __enter__ = start
    __exit__ = stop

    def _run(self) -> None:
        while not self.stopping.is_set():
            self._wake.clear()
            try:
                self._work()
            # The thread must survive an unavailable database or store, and any bug.
            except Exception as error:
                logger.exception("%s failed", self._thread.name)
                metrics.error_occurred(error)
            if not self.stopping.is_set():
                self._wake.wait(self._seconds)
