"""Carries what caches and sources count by themselves over to the metrics.

They count in plain integers, which costs a look-up nothing; here the growth since the last time is
added to the metrics, every few seconds and not for every transaction.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from functools import _CacheInfo
from typing import TypeAlias

from src.chain.lookups import Lookups, SourceUsage
from src.monitoring import metrics

CacheInfo: TypeAlias = Callable[[], _CacheInfo]

INTERVAL_SECONDS = 5.0


class UsageReporter:
    """Reports what has happened since it last did.

    Args:
        lookups: whose sources are reported; also told where to report waits.
        caches: `cache_info` of caches, by name.
    """

    def __init__(self, lookups: Lookups, caches: Mapping[str, CacheInfo]) -> None:
        self._lookups = lookups
        self._caches = dict(caches)
        self._asked: dict[str, tuple[int, int]] = {}
        self._used: dict[str, SourceUsage] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        lookups.on_wait = lambda seconds: metrics.stage_took("lookup", seconds)

    def report(self) -> None:
        """Add what happened since the last report to the metrics."""
        with self._lock:
            for name, info in self._caches.items():
                now = info()
                hits, misses = self._asked.get(name, (0, 0))
                if now.hits < hits or now.misses < misses:  # it was cleared
                    hits = misses = 0
                metrics.cache_asked(
                    name, hits=now.hits - hits, misses=now.misses - misses, entries=now.currsize
                )
                self._asked[name] = (now.hits, now.misses)
            for name, usage in self._lookups.usage().items():
                before = self._used.get(name, SourceUsage())
                metrics.source_used(
                    name,
                    Counter(usage.outcomes) - before.outcomes,
                    seconds=max(0.0, usage.seconds - before.seconds),
                    waited_seconds=max(0.0, usage.waited_seconds - before.waited_seconds),
                    circuit_open=usage.circuit_open,
                )
                self._used[name] = usage

    def start(self) -> None:
        """Report every `INTERVAL_SECONDS`, in a daemon thread."""
        threading.Thread(target=self._run, name="metrics", daemon=True).start()

    def stop(self) -> None:
        """Report a last time and no more."""
        self._stopped.set()
        self.report()

    def _run(self) -> None:
        while not self._stopped.wait(INTERVAL_SECONDS):
            self.report()
