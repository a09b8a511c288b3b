"""What the pipeline makes of one transaction."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from src.decision.alerts import Alert
from src.decision.money import Money
from src.decision.tokens import TokenView
from src.detection.evidence import Evidence
from src.detection.forest.model import ANOMALY, NORMAL
from src.detection.parties import Gains
from src.detection.records import Assessment, AttackAssessment, Decision


class Result(NamedTuple):
    """What the pipeline made of one transaction. A tuple, since every transaction has one.

    Attributes:
        features: by name; None stands for what could not be had.
        tokens: what is known of the tokens moved, by address.
        assessment: score and explanation; None where it could not be scored.
        attack: attack score and explanation; None where there is none.
        problem: why it could not be scored, or None.
        is_anomaly: whether the score reaches the anomaly threshold.
        decision: of all detectors.
        alerts: the primary one first.
        feature_seconds, scoring_seconds: how long these steps took.
        evidence: what was decided on.
        gains: who ended richer and poorer of what; None where nothing is reported.
        money: what that was worth; None before `pricing.with_prices`, or where nothing is reported.
        summary: who gained and lost what, in one sentence; None where `money` is, until asked for.
    """

    features: dict[str, Any]
    tokens: Mapping[str, TokenView]
    assessment: Assessment | None
    attack: AttackAssessment | None
    problem: str | None
    is_anomaly: bool
    decision: Decision
    alerts: list[Alert]
    feature_seconds: float
    scoring_seconds: float
    evidence: Evidence
    gains: Gains | None = None
    money: Money | None = None
    summary: str | None = None

    @property
    def prediction(self) -> str | None:
        """ANOMALY or NORMAL; None where there is no score."""
        if self.assessment is None:
            return None
        return ANOMALY if self.is_anomaly else NORMAL
