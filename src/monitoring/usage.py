"""Transfers the counters of caches and sources to the metrics.

Caches and sources count in plain integers, which costs a lookup nothing; every few seconds the
increase is added to the metrics.
"""

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

from src.chain.lookups.lookups import Lookups
from src.chain.lookups.sources import SourceUsage
from src.chain.networks import network
from src.decision.pipeline import Pipeline
from src.decision.result import Result
from src.monitoring import metrics
from src.monitoring.periodic import Periodic

INTERVAL_SECONDS = 5.0


class CacheInfo(Protocol):
    """A cache's counters, with the names of `functools.lru_cache`."""

    @property
    def hits(self) -> int:
        """Requests found in the cache."""

    @property
    def misses(self) -> int:
        """Requests not found in the cache."""

    @property
    def currsize(self) -> int:
        """Its entries."""


class UsageReporter:
    """Reports the changes since its last report.

    `caches` has `cache_info` by name. `lookups` is made to report its waits, too.
    """

    def __init__(self, lookups: Lookups, caches: Mapping[str, Callable[[], CacheInfo]]) -> None:
        self._lookups = lookups
        self._caches = dict(caches)
        self._asked: dict[str, tuple[int, int]] = {}
        self._used: dict[str, SourceUsage] = {}
        self._lock = threading.Lock()
        self._reporting = Periodic("metrics", INTERVAL_SECONDS, self.report)
        lookups.on_wait = lambda seconds: metrics.stage_took("lookup", seconds)

    def report(self) -> None:
        """Add the changes since the last report to the metrics."""
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
        self._reporting.start()

    def stop(self) -> None:
        """Report once more and stop."""
        self._reporting.stop()
        self.report()


def pipeline_in_use(pipeline: Pipeline) -> None:
    """Set the model, the policy and the chain in use."""
    metrics.chain_in_use(pipeline.chain_id, network(pipeline.chain_id).name)
    metrics.policy_in_use(hashlib.sha256(pipeline.policy.encode()).hexdigest())
    model, threshold = pipeline.model, pipeline.threshold
    metrics.model_in_use(
        version=model.version,
        sha256=model.manifest.sha256,
        sklearn_version=model.manifest.sklearn_version,
        threshold=threshold,
        expected_anomaly_rate=model.manifest.share_flagged(threshold),
    )
    attack = pipeline.attack.model
    metrics.attack_model_in_use((attack.version, attack.manifest.sha256) if attack else None)


def transaction_assessed(result: Result) -> None:
    """Count an assessed transaction: its score, or the reason why it has none."""
    if result.assessment is None:
        metrics.transaction_invalid("input")
        return
    metrics.transaction_scored(
        result.assessment.score,
        result.scoring_seconds,
        is_anomaly=result.is_anomaly,
        attack_score=result.attack.score if result.attack else None,
    )
