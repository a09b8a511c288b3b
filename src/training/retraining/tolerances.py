"""What the gate of a retraining lets pass."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tolerances:
    """What the gate lets pass.

    Attributes:
        alert_budget: share of ordinary transactions that may be flagged; recall is taken there.
        auc_drop: largest loss of AUC, also where the interval is too wide to tell.
        recall_drop: the same of recall at the alert budget.
        rate_band: the anomaly rate may be this many times the budget, or this part of it.
        slowdown: scoring and explaining may take this many times as long.
        background: least held-out transactions.
        exploits: least known attacks.
    """

    alert_budget: float = 0.004
    auc_drop: float = 0.02
    recall_drop: float = 0.10
    rate_band: float = 4.0
    slowdown: float = 1.5
    background: int = 200
    exploits: int = 10
