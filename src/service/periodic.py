"""Work that a process does every so often beside its requests."""

import logging
import threading
from collections.abc import Callable

from src.monitoring import metrics

logger = logging.getLogger(__name__)

_STOP_SECONDS = 10.0


class Periodic:
    """Calls a function at once and then every so often, in a daemon thread, until stopped.

    Args:
        name: of the thread, for the log.
        seconds: from the end of one call to the next.
        work: what to do; an exception is logged and does not end the thread.
    """

    def __init__(self, name: str, seconds: float, work: Callable[[], object]) -> None:
        self._name = name
        self._seconds = seconds
        self._work = work
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Call no more; waits a while for a call under way."""
        self._stop.set()
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._work()
            # The thread must outlive a database or store that is away, and any fault of ours.
            except Exception as error:
                logger.exception("%s failed", self._name)
                metrics.error_occurred(error)
            self._stop.wait(self._seconds)
