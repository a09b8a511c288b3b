"""The Forta bot's metrics, if METRICS_PORT is set."""

import time
from collections.abc import Callable, Sequence

from src.chain.lookups.lookups import Lookups
from src.decision.pipeline import Pipeline
from src.decision.result import Result
from src.monitoring import exposition, metrics
from src.monitoring.usage import CacheInfo, UsageReporter, pipeline_in_use, transaction_assessed


class BotMetrics:
    """Serves the metrics over HTTP and records what the handlers did.

    Port 0 is any free one, then see `port`. None for one that another bot of the process serves:
    they are the process's, summed over its chains.

    Raises:
        OSError: the port is in use.
    """

    def __init__(
        self, port: int | None, address: str, *, pipeline: Pipeline, lookups: Lookups
    ) -> None:
        self._server = None if port is None else exposition.serve(port, address)[0]
        self.port = self._server.server_port if self._server else None
        pipeline_in_use(pipeline)
        caches: dict[str, Callable[[], CacheInfo]] = {**lookups.caches}
        caches["assessments"] = pipeline.assessor.cache_info
        self._usage = UsageReporter(lookups, caches)
        self._usage.start()

    def decoded(self, seconds: float, *, transfers: int) -> None:
        """A transaction's logs were decoded."""
        metrics.stage_took("decode", seconds)
        if not transfers:
            metrics.transaction_seen("none")

    def assessed(self, result: Result, feature_seconds: float) -> None:
        """A transaction was assessed; `feature_seconds` include waiting for sources."""
        transaction_assessed(result)
        if result.assessment is not None:
            metrics.stage_took("features", feature_seconds)

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
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
