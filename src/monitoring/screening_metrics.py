"""Metrics of screening: by the guard, and of pending transactions in watch mode."""

from itertools import product
from typing import Final

from prometheus_client import Counter, Histogram

from src.monitoring.metrics import LATENCY_BUCKETS, PREFIX

_LEAD_BUCKETS: Final = (0.5, 1, 2, 4, 8, 12, 24, 60, 300, 3_600)

PENDING: Final = Counter(
    f"{PREFIX}_pending",
    "Pending transactions, by outcome: screened, unknown, passed over (no reason to screen them), "
    "over budget, unreadable, dropped.",
    ["outcome"],
)
INCLUDED: Final = Counter(
    f"{PREFIX}_screened_then_mined",
    "Screened transactions that were mined, by the action before and in their block.",
    ["before", "mined"],
)
LEAD: Final = Histogram(
    f"{PREFIX}_screening_lead_seconds",
    "Seconds from a screening to the moment when watch mode read the block with the transaction.",
    buckets=_LEAD_BUCKETS,
)
GUARD_SCREENED: Final = Counter(
    f"{PREFIX}_guard_screened",
    "Calls that the guard screened, by outcome (passed, blocked, held, unknown passed, unknown "
    "refused; in observe mode what enforcing would have done) and action of the policy.",
    ["outcome", "action"],
)
GUARD_REFUSED: Final = Counter(
    f"{PREFIX}_guard_refused",
    "Calls and messages that the guard did not let pass unscreened, or in observe mode would not "
    "have, by reason: malformed, invalid, method, unreadable, limit.",
    ["reason"],
)
GUARD_LATENCY: Final = Histogram(
    f"{PREFIX}_guard_latency_seconds",
    "Seconds by stage: screen (simulation and decision), forward (the node's answer).",
    ["stage"],
    buckets=LATENCY_BUCKETS,
)
GUARD_MINED: Final = Counter(
    f"{PREFIX}_guard_mined",
    "Screened transactions that were mined, by how that compares with the screening: same, "
    "another action, another status, not comparable (what it would do was unknown).",
    ["compared"],
)

# From 0 on, as in `metrics`: one difference may be the only one for months.
_MINED = {
    compared: GUARD_MINED.labels(compared)
    for compared in ("same", "another action", "another status", "not comparable")
}
for _before, _mined in product(("ALLOW", "REVIEW", "BLOCK"), repeat=2):
    INCLUDED.labels(_before, _mined)

_GUARD_SCREEN, _GUARD_FORWARD = (GUARD_LATENCY.labels(stage) for stage in ("screen", "forward"))


def pending_seen(outcome: str, count: int = 1) -> None:
    """Count pending transactions; see `PENDING` for the outcomes."""
    PENDING.labels(outcome).inc(count)


def included(before: str, mined: str, seconds: float) -> None:
    """Count a screened transaction that was mined; `before` and `mined` are actions' names."""
    INCLUDED.labels(before, mined).inc()
    LEAD.observe(max(0.0, seconds))


def guard_screened(outcome: str, action: str, seconds: float) -> None:
    """Count a screened call; `action` is the name of the policy's action."""
    GUARD_SCREENED.labels(outcome, action).inc()
    _GUARD_SCREEN.observe(seconds)


def guard_refused(reason: str) -> None:
    """Count a call or a message that may not pass, for a reason other than its screening."""
    GUARD_REFUSED.labels(reason).inc()


def guard_forwarded(seconds: float) -> None:
    """Observe how long the node took to begin its answer."""
    _GUARD_FORWARD.observe(seconds)


def guard_mined(compared: str) -> None:
    """Count a mined transaction: same, another action, another status, not comparable."""
    _MINED[compared].inc()
