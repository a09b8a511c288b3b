"""The overview: results in a span of block time, compared with training."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlencode

from sqlalchemy import Connection

from src.detection.records import Action
from src.reports.intervals import share_interval
from src.service.context import Service
from src.service.database.alerts import SEVERITIES, STATES, AlertFilter
from src.service.database.cases import count_cases, list_cases
from src.service.database.decisions import newest_decision_time
from src.service.database.scheduled_tasks import last_outcome
from src.service.database.statistics import SCORE_BINS, Overview, block_times, overview
from src.service.database.watching import last_watched
from src.service.drift_check import CHORE
from src.service.formatting import moment
from src.service.http.problems import Problem
from src.service.web.charts import expected_shares, histogram, stacked_bars
from src.service.web.forms import choice_or_none, time_field, time_or_none
from src.service.web.queries import tokens_moved

_DAY: Final = 86_400
SPANS: Final = {"day": _DAY, "week": 7 * _DAY, "month": 30 * _DAY, "all": 0}
_USUAL_SPAN: Final = "week"
_COLUMNS: Final = 48
_WAITING: Final = 5
_DRIFT_WORDS: Final = {
    "ok": "traffic is as in training",
    "watch": "traffic differs from training: watch it",
    "retrain": "traffic differs from training: retrain",
}
_BUCKETS: Final = (60, 300, 900, 3_600, 6 * 3_600, 86_400, 7 * 86_400)


@dataclass(frozen=True, slots=True)
class Health:
    """The state of a part that results depend on."""

    name: str  # for people
    is_good: bool | None  # None if unknown
    words: str  # what is known
    at: float | None  # when that was so, Unix seconds; None for now


@dataclass(frozen=True, slots=True)
class Rate:
    """An anomaly rate and the expected one."""

    value: float | None  # None if nothing was scored
    # low, high: Wilson's 95 % interval.
    low: float
    high: float
    expected: float  # of the training transactions

    @property
    def is_usual(self) -> bool:
        """Whether the expected rate is within the interval."""
        return self.low <= self.expected <= self.high


def read(service: Service, query: Mapping[str, str]) -> dict[str, Any]:
    """What `overview.html` shows of a span of time, or of the time from `since` until `until`.

    Raises:
        Problem: 400 for an invalid span or time.
    """
    span = choice_or_none("span", query.get("span", ""), SPANS) or _USUAL_SPAN
    ends = [time_or_none(name, query.get(name, "")) for name in ("since", "until")]
    is_zoomed = ends != [None, None]
    model, threshold = service.decider.model, service.decider.threshold
    with service.database.reading() as connection:
        always = {
            "span": "" if is_zoomed else span,
            "spans": list(SPANS),
            "health": _health(service, connection),
            **_cases(service, connection),
        }
        times = block_times(connection, service.chain_id)
        if times is None:
            return always | {"numbers": None}
        first, until = times
        since = max(first, until - SPANS[span]) if SPANS[span] else first
        if is_zoomed:
            since = first if ends[0] is None else ends[0]
            until = until if ends[1] is None else ends[1]
        if since > until:
            raise Problem(400, "since must not be after until.")
        seconds = bucket_seconds(until - since)
        numbers = overview(
            connection,
            service.chain_id,
            service.decider.fingerprint,
            since=since,
            until=until,
            bucket_seconds=seconds,
        )
    expected = expected_shares(model.manifest.score_quantiles, SCORE_BINS)
    columns = _columns(numbers, since, until, seconds)
    return always | {
        "since": since,
        "until": until,
        "numbers": numbers,
        "rate": rate(numbers, 1 - model.percentile(threshold) / 100),
        "alert_columns": columns,
        "severities": [s for s in SEVERITIES if any(s in counts for _, counts, _ in columns)],
        "alert_chart": stacked_bars(columns, SEVERITIES, since - since % seconds, seconds),
        "times": _times(since, until),
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


def _cases(service: Service, connection: Connection) -> dict[str, Any]:
    """What waits for a person, the most drastic first, and all cases by action and state."""
    own = AlertFilter(chain_id=service.chain_id, orphaned=False)
    waiting = replace(own, state="new")
    found = list_cases(connection, waiting, sort="action", limit=_WAITING)
    counts = count_cases(connection, own)
    return {
        "waiting": found,
        "waiting_total": sum(n for (_, state), n in counts.items() if state == "new"),
        "moved": tokens_moved(connection, [(one.top.chain_id, one.top.tx_hash) for one in found]),
        "own_chain": service.chain_id,
        "by_action": [
            (action.name, {state: counts[int(action), state] for state in STATES})
            for action in sorted(Action, reverse=True)
            if any(counts[int(action), state] for state in STATES)
        ],
    }


def _health(service: Service, connection: Connection) -> list[Health]:
    """The parts that results depend on, each with its state in words."""
    return [
        _node_health(service, connection),
        _decisions_health(service, connection),
        _sources_health(service),
        _drift_health(service, connection),
    ]


def _node_health(service: Service, connection: Connection) -> Health:
    state = service.node_health.state()
    watched = last_watched(connection, service.chain_id)
    if state is None or state.problem:
        problem, asked_at = (state.problem, state.asked_at) if state else ("does not answer", None)
        return Health("Node", False, problem, asked_at)
    words = f"answers, newest block {state.head}"
    if watched is not None:
        words += f"; watched up to block {watched.block_number}"
    return Health("Node", True, words, None)  # the time would change the page every few seconds


def _decisions_health(service: Service, connection: Connection) -> Health:
    newest = newest_decision_time(connection, service.chain_id)
    if newest is None:
        return Health("Decisions", None, "none yet", None)
    return Health("Decisions", None, "the newest one", newest)


def _sources_health(service: Service) -> Health:
    problems = [*service.decider.lookups.health(), *service.decider.pipeline.problems()]
    if problems:
        return Health("Sources", False, "; ".join(problems), None)
    return Health("Sources", True, "none is in trouble", None)


def _drift_health(service: Service, connection: Connection) -> Health:
    finished_at, outcome = last_outcome(connection, f"{CHORE}-{service.chain_id}")
    if outcome is None:
        return Health("Drift", None, "not checked yet", None)
    if outcome.get("model_version") != service.decider.model.version:
        return Health("Drift", None, "not checked since the model changed", finished_at)
    verdict = str(outcome["verdict"])
    words = "; ".join([_DRIFT_WORDS.get(verdict, verdict), *outcome.get("reasons", [])[:3]])
    return Health("Drift", verdict == "ok", words, finished_at)


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


def _times(since: int, until: int) -> dict[str, str]:
    """The ends of a span as fields of a form have them."""
    return {"since": time_field(since), "until": time_field(until)}


def _columns(
    numbers: Overview, since: int, until: int, seconds: int
) -> list[tuple[str, dict[str, int], str]]:
    """(time, severity -> count, link) of every bucket, empty ones included.

    The link is to the overview of its time, and of the shortest to its alerts.
    """
    counts: dict[int, dict[str, int]] = {}
    for start in range(since - since % seconds, until + 1, seconds):
        counts[start] = {}
    for start, severity, count in numbers.alerts_over_time:
        counts.setdefault(start, {})[severity] = count
    shown = slice(10) if seconds >= _DAY else slice(5, 16)
    page = "/ui/" if seconds > _BUCKETS[0] else "/ui/alerts"
    return [
        (
            moment(start)[shown],
            counts[start],
            f"{page}?{urlencode(_times(start, start + seconds - 1))}",
        )
        for start in sorted(counts)
    ]
