"""The overview: results in a span of block time, compared with training."""

from dataclasses import dataclass
from typing import Any, Final

from src.reports.intervals import share_interval
from src.service.context import Service
from src.service.database.alerts import SEVERITIES, AlertFilter, list_alerts
from src.service.database.statistics import SCORE_BINS, Overview, block_times, overview
from src.service.formatting import moment
from src.service.web.charts import expected_shares, histogram, stacked_bars

_DAY: Final = 86_400
SPANS: Final = {"day": _DAY, "week": 7 * _DAY, "month": 30 * _DAY, "all": 0}
_USUAL_SPAN: Final = "week"
_COLUMNS: Final = 48
_BUCKETS: Final = (60, 300, 900, 3_600, 6 * 3_600, 86_400, 7 * 86_400)


@dataclass(frozen=True, slots=True)
class Rate:
    """An anomaly rate and the expected one.

    Attributes:
        value: None if nothing was scored.
        low, high: Wilson's 95 % interval.
        expected: of the training transactions.
    """

    value: float | None
    low: float
    high: float
    expected: float

    @property
    def is_usual(self) -> bool:
        """Whether the expected rate is within the interval."""
        return self.low <= self.expected <= self.high


def read(service: Service, span: str) -> dict[str, Any]:
    """What `overview.html` shows."""
    span = span if span in SPANS else _USUAL_SPAN
    model, threshold = service.decider.model, service.decider.threshold
    with service.database.reading() as connection:
        times = block_times(connection, service.chain_id)
        if times is None:
            return {"span": span, "spans": list(SPANS), "numbers": None}
        first, until = times
        since = max(first, until - SPANS[span]) if SPANS[span] else first
        seconds = bucket_seconds(until - since)
        numbers = overview(
            connection,
            service.chain_id,
            service.decider.fingerprint,
            since=since,
            until=until,
            bucket_seconds=seconds,
        )
        newest, _ = list_alerts(connection, AlertFilter(orphaned=False), limit=6)
    expected = expected_shares(model.manifest.score_quantiles, SCORE_BINS)
    columns = _columns(numbers, since, until, seconds)
    return {
        "span": span,
        "spans": list(SPANS),
        "since": since,
        "until": until,
        "numbers": numbers,
        "newest": newest,
        "rate": rate(numbers, 1 - model.percentile(threshold) / 100),
        "alert_columns": columns,
        "severities": [s for s in SEVERITIES if any(s in counts for _, counts in columns)],
        "alert_chart": stacked_bars(columns, SEVERITIES),
        "score_chart": histogram(
            numbers.score_histogram,
            expected,
            marker=threshold,
            marker_label=f"threshold {threshold:g}",
        ),
        "score_rows": [
            (i / SCORE_BINS, (i + 1) / SCORE_BINS, count, expected[i])
            for i, count in enumerate(numbers.score_histogram)
            if count or expected[i]
        ],
        "threshold": threshold,
    }


def bucket_seconds(span: int) -> int:
    """The finest bucket that gives at most `_COLUMNS` columns."""
    return next((b for b in _BUCKETS if span / b <= _COLUMNS), max(_BUCKETS[-1], span // _COLUMNS))


def rate(numbers: Overview, expected: float) -> Rate:
    """The anomaly rate with its interval (Wilson, 1927)."""
    scored = numbers.transactions - numbers.invalid
    if not scored:
        return Rate(None, 0.0, 1.0, expected)
    low, high = share_interval(numbers.anomalies, scored)
    return Rate(numbers.anomalies / scored, low, high, expected)


def _columns(
    numbers: Overview, since: int, until: int, seconds: int
) -> list[tuple[str, dict[str, int]]]:
    """(time, severity -> count) of every bucket, empty ones included."""
    counts: dict[int, dict[str, int]] = {}
    for start in range(since - since % seconds, until + 1, seconds):
        counts[start] = {}
    for start, severity, count in numbers.alerts_over_time:
        counts.setdefault(start, {})[severity] = count
    shown = slice(10) if seconds >= _DAY else slice(5, 16)
    return [(moment(start)[shown], counts[start]) for start in sorted(counts)]
