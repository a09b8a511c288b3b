"""Metrics of watch mode's screening of pending transactions."""

from typing import Final

from prometheus_client import Counter, Histogram

from src.monitoring.metrics import PREFIX

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


def pending_seen(outcome: str, count: int = 1) -> None:
    """Count pending transactions; see `PENDING` for the outcomes."""
    PENDING.labels(outcome).inc(count)


def included(before: str, mined: str, seconds: float) -> None:
    """Count a screened transaction that was mined; `before` and `mined` are actions' names."""
    INCLUDED.labels(before, mined).inc()
    LEAD.observe(max(0.0, seconds))
