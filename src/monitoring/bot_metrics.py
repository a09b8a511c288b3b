"""What the Forta bot tells of its work, when METRICS_PORT asks for it."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from src.chain.lookups import Lookups
from src.detection.model import Model
from src.monitoring import metrics
from src.monitoring.usage import CacheInfo, UsageReporter


class BotMetrics:
    """Serves the metrics over HTTP and records what the handlers did.

    Args:
        port: where; 0 for any free one, then see `port`.
        address: the interface.
        model: the one in use.
        threshold: score from which a transaction is an anomaly.
        policy: the policy's file, or None.
        lookups: reported on.
        caches: `cache_info` of caches, by name.

    Raises:
        OSError: the port is taken.
    """

    def __init__(
        self,
        port: int,
        address: str,
        *,
        model: Model,
        threshold: float,
        policy: Path | None,
        lookups: Lookups,
        caches: Mapping[str, CacheInfo],
    ) -> None:
        self._server, _ = metrics.serve(port, address)
        self.port = self._server.server_port
        manifest = model.manifest
        metrics.model_in_use(
            version=model.version,
            sha256=manifest.sha256,
            sklearn_version=manifest.sklearn_version,
            threshold=threshold,
            expected_anomaly_rate=1 - model.percentile(threshold) / 100,
        )
        if policy is not None and policy.is_file():
            metrics.policy_in_use(hashlib.sha256(policy.read_bytes()).hexdigest())
        self._usage = UsageReporter(lookups, caches)
        self._usage.start()

    def decoded(self, seconds: float, *, transfers: int) -> None:
        """A transaction's logs were decoded."""
        metrics.stage_took("decode", seconds)
        if not transfers:
            metrics.transaction_seen("none")

    def scored(
        self, score: float, *, is_anomaly: bool, feature_seconds: float, prediction_seconds: float
    ) -> None:
        """A transaction was scored."""
        metrics.transaction_scored(score, prediction_seconds, is_anomaly=is_anomaly)
        metrics.stage_took("features", feature_seconds)

    def invalid(self, reason: str) -> None:
        """A transaction could not be scored: `age`, `input` or `error`."""
        metrics.transaction_invalid(reason)

    def failed(self, kind: str) -> None:
        """The handler caught an exception of this class."""
        metrics.error_occurred(kind)
        metrics.transaction_invalid("error")

    def emitted(self, findings: Sequence[str], action: str, started: float) -> None:
        """Findings with these alert ids were emitted; `started` is `time.perf_counter()` then."""
        for alert_id in findings:
            metrics.finding_made(alert_id, action)
        metrics.stage_took("total", time.perf_counter() - started)

    def close(self) -> None:
        """Stop serving and reporting."""
        self._usage.stop()
        self._server.shutdown()
        self._server.server_close()
