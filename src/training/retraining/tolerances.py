"""What the gate of a retraining lets pass."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tolerances:
    """Tolerances of the gate.

    Attributes:
        alert_budget: share of ordinary transactions that may be flagged; recall is measured there.
        auc_drop: largest loss of AUC, even if the interval is too wide for a verdict.
        recall_drop: the same for recall at the alert budget.
        rate_band: the anomaly rate must be within this factor of the alert budget.
        slowdown: largest factor on the time to score and explain.
        background: minimum number of held-out transactions.
        exploits: minimum number of known attacks.
    """

    alert_budget: float = 0.004
    auc_drop: float = 0.02
    recall_drop: float = 0.10
    rate_band: float = 4.0
    slowdown: float = 1.5
    background: int = 200
    exploits: int = 10
