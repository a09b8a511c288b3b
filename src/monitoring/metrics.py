"""Every metric of the bot, the service and watch mode: declared here, recorded through here.

If `PROMETHEUS_MULTIPROC_DIR` names a folder shared by the workers of a service before this module
is imported, `exposition.render` returns the sum over all workers in any of them.

Label values come from small closed sets: never an address, a hash, a message or other untrusted
text.

docs/monitoring.md lists the metrics for operators.
"""

import math
import threading
import time
from collections.abc import Mapping

from prometheus_client import (
    Counter,
    Gauge,
    Histogram,
)

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
PREFIX = "token_transfers"
"""Of the names of our own metrics."""

# From 50 microseconds (a warm transaction) to 30 seconds (the documented limit for one).
LATENCY_BUCKETS = (
    5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
_SCORE_BUCKETS = (
    0.3, 0.325, 0.35, 0.375, 0.4, 0.425, 0.45, 0.475, 0.5,
    0.55, 0.6, 0.65, 0.67, 0.7, 0.75, 0.8, 0.9, 1.0,
)  # fmt: skip
_ATTACK_SCORE_BUCKETS = (0.5, 0.9, 0.95, 0.99, 0.996, 0.998, 0.999, 0.9999)

TRANSACTIONS = Counter(
    f"{PREFIX}_transactions",
    "Transactions seen, by kind: none (no ERC-20 transfer), normal, anomalous, invalid.",
    ["kind"],
)
FINDINGS = Counter(
    f"{PREFIX}_findings", "Findings, by alert id and action of the policy.", ["alert_id", "action"]
)
INVALID_INPUTS = Counter(
    f"{PREFIX}_invalid_inputs",
    "Transactions that could not be scored: input, error.",
    ["reason"],
)
ERRORS = Counter("error_count", "Errors, by kind (the class of the exception).", ["kind"])
SCORES = Histogram(f"{PREFIX}_anomaly_score", "Anomaly scores, 0 to 1.", buckets=_SCORE_BUCKETS)
ATTACK_SCORES = Histogram(
    f"{PREFIX}_attack_score",
    "Attack scores: share of ordinary transactions that rank lower, 0 to 1.",
    buckets=_ATTACK_SCORE_BUCKETS,
)
PREDICTION_LATENCY = Histogram(
    "prediction_latency_seconds",
    "Scoring and explaining one input, by model: isolation_forest, fraud.",
    ["model"],
    buckets=LATENCY_BUCKETS,
)
STAGE_LATENCY = Histogram(
    f"{PREFIX}_stage_latency_seconds",
    "Stages of one transaction: decode, features (with lookup), lookup, score (with explaining), "
    "total.",
    ["stage"],
    buckets=LATENCY_BUCKETS,
)
CACHE_REQUESTS = Counter(
    f"{PREFIX}_cache_requests", "Cache requests, by cache and result: hit, miss.",
    ["cache", "result"],
)  # fmt: skip
CACHE_ENTRIES = Gauge(
    f"{PREFIX}_cache_entries", "Entries in a cache, summed over workers.", ["cache"],
    multiprocess_mode="livesum",
)  # fmt: skip
SOURCE_REQUESTS = Counter(
    f"{PREFIX}_source_requests",
    "Requests to an external source, by outcome: ok, not_found, failed; not sent: rate_limited, "
    "refused (circuit open).",
    ["source", "outcome"],
)
SOURCE_SECONDS = Counter(
    f"{PREFIX}_source_seconds", "Seconds spent waiting for a source's responses.", ["source"]
)
RATE_LIMIT_WAITS = Counter(
    f"{PREFIX}_rate_limit_wait_seconds",
    "Seconds that requests waited for our own rate limit, by source.",
    ["source"],
)
CIRCUIT_OPEN = Gauge(
    f"{PREFIX}_circuit_open",
    "1 while a source's circuit breaker is open in any worker.",
    ["source"],
    multiprocess_mode="livemax",
)
MODEL_INFO = Gauge(
    f"{PREFIX}_model_info", "1 for the models in use, 0 for earlier ones.",
    ["model_version", "sha256", "sklearn_version"],
    multiprocess_mode="livemax",
)  # fmt: skip
ATTACK_MODEL_INFO = Gauge(
    f"{PREFIX}_attack_model_info", "1 for the attack model in use, 0 for earlier ones.",
    ["model_version", "sha256"],
    multiprocess_mode="livemax",
)  # fmt: skip
FRAUD_MODEL_INFO = Gauge(
    f"{PREFIX}_fraud_model_info", "1 for the fraud model in use, 0 for earlier ones.",
    ["model_version", "sha256", "classifier"],
    multiprocess_mode="livemax",
)  # fmt: skip
MODEL_THRESHOLD = Gauge(
    f"{PREFIX}_anomaly_threshold", "Score from which a transaction is an anomaly.",
    multiprocess_mode="livemostrecent",
)  # fmt: skip
EXPECTED_ANOMALY_RATE = Gauge(
    f"{PREFIX}_expected_anomaly_rate", "Share of training transactions at or above the threshold.",
    multiprocess_mode="livemostrecent",
)  # fmt: skip
CHAIN_INFO = Gauge(
    f"{PREFIX}_chain_info", "1 for the chains whose transactions are assessed.",
    ["chain_id", "chain"], multiprocess_mode="livemax",
)  # fmt: skip
POLICY_INFO = Gauge(
    f"{PREFIX}_policy_info", "1 for the policy in use, 0 for earlier ones.", ["sha256"],
    multiprocess_mode="livemax",
)  # fmt: skip
WATCH_STARTED = Gauge(
    f"{PREFIX}_watch_started_timestamp_seconds",
    "When watch mode started, Unix seconds; 0 in other processes.",
    multiprocess_mode="livemostrecent",
)
WATCH_STUCK = Gauge(
    f"{PREFIX}_watch_stuck_block",
    "The block that the node cannot give completely, so that watching stands still; -1 for none.",
    multiprocess_mode="livemostrecent",
)
WATCH_STUCK.set(-1)
WATCH_LAG_SECONDS = Gauge(
    f"{PREFIX}_watch_lag_seconds",
    "How long the last watched block could be watched before it was, or, after a failure, until "
    "now; NaN if unknown.",
    multiprocess_mode="livemostrecent",
)  # fmt: skip
WATCH_BLOCKS = Counter(f"{PREFIX}_watch_blocks", "Blocks watched.")
NOTIFICATIONS = Counter(
    f"{PREFIX}_notifications",
    "Attempts to notify, by outcome: delivered, failed (it is repeated), given_up.",
    ["outcome"],
)
DRIFT_PSI = Gauge(
    f"{PREFIX}_drift_psi", "Population stability index of the score and each input.", ["input"],
    multiprocess_mode="livemostrecent",
)  # fmt: skip
DRIFT_WASSERSTEIN = Gauge(
    f"{PREFIX}_drift_wasserstein", "Wasserstein distance in spreads of the reference.", ["input"],
    multiprocess_mode="livemostrecent",
)  # fmt: skip
DRIFT_VERDICT = Gauge(
    f"{PREFIX}_drift_verdict",
    "Verdict of the last drift check: 0 ok, 1 watch, 2 retrain; -1 before the first.",
    multiprocess_mode="livemostrecent",
)  # fmt: skip
DRIFT_CHECKED = Gauge(
    f"{PREFIX}_drift_checked_timestamp_seconds",
    "When drift was last checked, Unix seconds; NaN before the first check.",
    multiprocess_mode="livemostrecent",
)  # fmt: skip
DRIFT_INTERVAL = Gauge(
    f"{PREFIX}_drift_interval_seconds", "Between two drift checks; 0 in processes that make none.",
    multiprocess_mode="livemax",
)  # fmt: skip
FRAUD_DRIFT_VERDICT = Gauge(
    "fraud_drift_verdict",
    "Worst verdict of the workers' last drift checks of the fraud model: 0 ok, 1 watch, 2 retrain; "
    "-1 before the first.",
    multiprocess_mode="livemax",
)
FRAUD_DRIFT_VERDICT.set(-1)
FRAUD_DRIFT_PSI = Gauge(
    "fraud_drift_psi",
    "Population stability index of the fraud model's probability and each input.",
    ["input"],
    multiprocess_mode="livemax",
)
FRAUD_PREDICTIONS = Counter(
    "fraud_predictions", "Predictions of the fraud service, by prediction: 0, 1.", ["prediction"]
)
HTTP_REQUESTS = Counter(
    f"{PREFIX}_http_requests", "HTTP requests, by method, route template and status.",
    ["method", "route", "status"],
)  # fmt: skip
HTTP_LATENCY = Histogram(
    f"{PREFIX}_http_request_latency_seconds", "Response time, by route template.", ["route"],
    buckets=LATENCY_BUCKETS,
)  # fmt: skip

# Resolving labels costs more than counting: children of fixed labels are resolved once.
_KINDS = {kind: TRANSACTIONS.labels(kind) for kind in ("none", "normal", "anomalous", "invalid")}
_STAGES = {
    stage: STAGE_LATENCY.labels(stage)
    for stage in ("decode", "features", "lookup", "score", "total")
}
_FOREST_LATENCY = PREDICTION_LATENCY.labels("isolation_forest")
_FRAUD_LATENCY = PREDICTION_LATENCY.labels("fraud")
# Prometheus sees no increase in a series that begins with its first event, which here may be the
# only one for months.
_NOTIFIED = {
    outcome: NOTIFICATIONS.labels(outcome) for outcome in ("delivered", "failed", "given_up")
}

_in_use_lock = threading.Lock()
_in_use: dict[Gauge, tuple[str, ...] | None] = {}


def transaction_seen(kind: str) -> None:
    """Count a transaction: `none`, `normal`, `anomalous` or `invalid`."""
    _KINDS[kind].inc()


def transaction_scored(
    score: float, seconds: float, *, is_anomaly: bool, attack_score: float | None = None
) -> None:
    """Count a scored transaction with its scores; `seconds` is for scoring and explaining."""
    _KINDS["anomalous" if is_anomaly else "normal"].inc()
    SCORES.observe(score)
    if attack_score is not None:
        ATTACK_SCORES.observe(attack_score)
    _FOREST_LATENCY.observe(seconds)
    _STAGES["score"].observe(seconds)


def transaction_invalid(reason: str) -> None:
    """Count a transaction that could not be scored; `reason` is `input` or `error`."""
    _KINDS["invalid"].inc()
    INVALID_INPUTS.labels(reason).inc()


def finding_made(alert_id: str, action: str = "NONE") -> None:
    """Count a finding; `action` is the name of the policy's action."""
    FINDINGS.labels(alert_id, action).inc()


def error_occurred(error: BaseException | str) -> None:
    """Count an error by its class, or by the name given."""
    ERRORS.labels(error if isinstance(error, str) else type(error).__name__).inc()


def stage_took(stage: str, seconds: float) -> None:
    """Observe a stage: decode, features, lookup, score or total."""
    _STAGES[stage].observe(seconds)


def cache_asked(cache: str, *, hits: int = 0, misses: int = 0, entries: int | None = None) -> None:
    """Count requests to a cache and set its size."""
    CACHE_REQUESTS.labels(cache, "hit").inc(hits)
    CACHE_REQUESTS.labels(cache, "miss").inc(misses)
    if entries is not None:
        CACHE_ENTRIES.labels(cache).set(entries)


def source_used(
    source: str,
    outcomes: Mapping[str, int],
    *,
    seconds: float,
    waited_seconds: float,
    circuit_open: bool,
) -> None:
    """Count new requests to a source, and set whether its circuit breaker is open."""
    for outcome, many in outcomes.items():
        SOURCE_REQUESTS.labels(source, outcome).inc(many)
    SOURCE_SECONDS.labels(source).inc(seconds)
    RATE_LIMIT_WAITS.labels(source).inc(waited_seconds)
    CIRCUIT_OPEN.labels(source).set(circuit_open)


def model_in_use(
    *,
    version: str,
    sha256: str,
    sklearn_version: str,
    threshold: float,
    expected_anomaly_rate: float,
) -> None:
    """Set the model in use. `expected_anomaly_rate` is the share in training, 0 to 1."""
    _use(MODEL_INFO, (version, sha256, sklearn_version))
    MODEL_THRESHOLD.set(threshold)
    EXPECTED_ANOMALY_RATE.set(expected_anomaly_rate)


def attack_model_in_use(version_and_sha256: tuple[str, str] | None) -> None:
    """Set the attack model in use; None for none."""
    _use(ATTACK_MODEL_INFO, version_and_sha256)


def fraud_model_in_use(*, version: str, sha256: str, classifier: str) -> None:
    """Set the fraud model in use."""
    _use(FRAUD_MODEL_INFO, (version, sha256, classifier))


def policy_in_use(sha256: str) -> None:
    """Set the policy in use, by the digest of its file."""
    _use(POLICY_INFO, (sha256,))


def chain_in_use(chain_id: int, name: str) -> None:
    """Set a chain whose transactions are assessed."""
    CHAIN_INFO.labels(str(chain_id), name).set(1)


def block_watched(lag_seconds: float) -> None:
    """Count a watched block and set the lag behind the chain."""
    WATCH_BLOCKS.inc()
    watch_stuck(None)
    WATCH_LAG_SECONDS.set(lag_seconds)


def watch_started() -> None:
    """Note the start of watch mode; its lag is unknown until a block or a failure."""
    WATCH_STARTED.set_to_current_time()
    watch_lags(math.nan)


def watch_lags(seconds: float) -> None:
    """Set the lag of watch mode behind the chain."""
    WATCH_LAG_SECONDS.set(seconds)


def watch_stuck(block: int | None) -> None:
    """Set the block at which watch mode stands still; None if it does not."""
    WATCH_STUCK.set(-1 if block is None else block)


def notified(outcome: str) -> None:
    """Count an attempt to notify: `delivered`, `failed` or `given_up`."""
    _NOTIFIED[outcome].inc()


def drift_is_due_every(seconds: float) -> None:
    """Set the interval between drift checks."""
    DRIFT_INTERVAL.set(seconds)


def drift_checked(
    verdict: int,
    psi: Mapping[str, float],
    wasserstein: Mapping[str, float],
    *,
    at: float | None = None,
) -> None:
    """Set the result of a drift check: 0 ok, 1 watch, 2 retrain; effect sizes by input.

    `at` is when it was made, Unix seconds; None for now.
    """
    for name, value in psi.items():
        DRIFT_PSI.labels(name).set(value)
    for name, value in wasserstein.items():
        DRIFT_WASSERSTEIN.labels(name).set(value)
    DRIFT_VERDICT.set(verdict)
    DRIFT_CHECKED.set(time.time() if at is None else at)


def fraud_drift_checked(verdict: int, psi: Mapping[str, float]) -> None:
    """Set the result of a drift check of the fraud model, -1 for none; see `drift_checked`."""
    for name, value in psi.items():
        FRAUD_DRIFT_PSI.labels(name).set(value)
    FRAUD_DRIFT_VERDICT.set(verdict)


def fraud_predicted(*, is_fraud: bool, seconds: float) -> None:
    """Count a prediction of the fraud service; `fraud_rate` follows from the counts."""
    FRAUD_PREDICTIONS.labels(str(int(is_fraud))).inc()
    _FRAUD_LATENCY.observe(seconds)


def request_served(method: str, route: str, status: int, seconds: float) -> None:
    """Count an HTTP request. `route` is the template (`/models/{name}`), never the path itself."""
    HTTP_REQUESTS.labels(method, route, str(status)).inc()
    HTTP_LATENCY.labels(route).observe(seconds)


def _use(info: Gauge, labels: tuple[str, ...] | None) -> None:
    """Set an info metric to 1 for these labels, if any, and to 0 for those before."""
    with _in_use_lock:
        before = _in_use.get(info)
        if before is not None and before != labels:
            info.labels(*before).set(0)
        if labels is not None:
            info.labels(*labels).set(1)
        _in_use[info] = labels
