"""How the metrics are read: as text, over HTTP, summed over the workers of a service."""

import json
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from wsgiref.simple_server import WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest, start_http_server
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from src.monitoring import screening_metrics
from src.monitoring.metrics import MULTIPROCESS_VARIABLE, PREFIX

__all__ = ["screening_metrics"]  # declared with all others

_BEFORE_DRIFT_CHECKS = {
    f"{PREFIX}_drift_verdict": -1.0,
    f"{PREFIX}_drift_checked_timestamp_seconds": math.nan,
}


def render() -> tuple[bytes, str]:
    """The metrics of all workers, as text, and its content type."""
    return generate_latest(_exposed()), CONTENT_TYPE_LATEST


def serve(
    port: int, address: str = "127.0.0.1", problems: Callable[[], list[str]] | None = None
) -> tuple[WSGIServer, threading.Thread]:
    """Serve the metrics over HTTP from a daemon thread.

    Args:
        port: 0 for any free one.
        address: the interface; a container needs `0.0.0.0` to be scraped from outside.
        problems: why the process is not ready, for `/readyz`; without it that has the metrics too.

    Raises:
        OSError: the port is in use.
    """
    server, thread = start_http_server(port, address, registry=_exposed())
    app = server.get_app()
    if problems is not None and app is not None:
        server.set_app(_with_readiness(app, problems))
    return server, thread


def _with_readiness(app: WSGIApplication, problems: Callable[[], list[str]]) -> WSGIApplication:
    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != "/readyz":
            return app(environ, start_response)
        found = problems()
        status = "503 Service Unavailable" if found else "200 OK"
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps({"ready": not found, "problems": found}).encode()]

    return answer


class _WorkersCollector(MultiProcessCollector):
    """Sums the metrics of all workers; the gauges of a dead worker are removed.

    prometheus_client leaves that to the server's parent process, and uvicorn's has no hook for the
    end of a worker. A worker may also be killed, so that it cannot clean up itself.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(None, folder)  # type: ignore[no-untyped-call]
        self._folder = Path(folder)

    def collect(self) -> Iterable[Metric]:
        for file in self._folder.glob("gauge_live*.db"):
            if not _is_running(int(file.stem.rpartition("_")[2])):
                file.unlink(missing_ok=True)  # another worker may be collecting too
        metrics: Iterable[Metric] = super().collect()  # type: ignore[no-untyped-call]
        return metrics


class _Exposed(Collector):
    """The recorded metrics, completed by what can be said only of all workers together."""

    def __init__(self, recorded: Collector) -> None:
        self._recorded = recorded

    def collect(self) -> Iterator[Metric]:
        predictions = {"0": 0.0, "1": 0.0}
        recorded = list(self._recorded.collect())
        never_checked = not any(
            sample.value
            for metric in recorded
            if metric.name == f"{PREFIX}_drift_checked_timestamp_seconds"
            for sample in metric.samples
        )
        for metric in recorded:
            if never_checked and metric.name in _BEFORE_DRIFT_CHECKS:
                # A gauge that was never set is 0, which would be "ok", in 1970.
                value = _BEFORE_DRIFT_CHECKS[metric.name]
                metric.samples = [sample._replace(value=value) for sample in metric.samples]
            if metric.name == "fraud_predictions":
                for sample in metric.samples:
                    if sample.name.endswith("_total"):
                        predictions[sample.labels["prediction"]] = sample.value
            yield metric
        total = sum(predictions.values())
        yield GaugeMetricFamily(
            "fraud_rate",
            "Share of predictions that say fraud, since the start.",
            value=predictions["1"] / total if total else 0.0,
        )


def _exposed() -> CollectorRegistry:
    folder = os.environ.get(MULTIPROCESS_VARIABLE)
    exposed = CollectorRegistry(auto_describe=False)
    exposed.register(_Exposed(_WorkersCollector(folder) if folder else REGISTRY))
    return exposed


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs as another user
        pass
    return True
