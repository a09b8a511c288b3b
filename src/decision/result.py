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
    """What the pipeline made of one transaction. A tuple, since every transaction has one."""

    features: dict[str, Any]  # by name; None stands for what could not be had
    tokens: Mapping[str, TokenView]  # what is known of the tokens moved, by address
    assessment: Assessment | None  # score and explanation; None where it could not be scored
    attack: AttackAssessment | None  # attack score and explanation; None where there is none
    problem: str | None  # why it could not be scored, or None
    is_anomaly: bool  # whether the score reaches the anomaly threshold
    decision: Decision  # of all detectors
    alerts: list[Alert]  # the primary one first
    feature_seconds: float  # how long the features took
    scoring_seconds: float  # and the scores
    evidence: Evidence  # what was decided on
    # Who ended richer and poorer of what; None where nothing is reported.
    gains: Gains | None = None
    # What that was worth; None before `pricing.with_prices`, or where nothing is reported.
    money: Money | None = None
    # Who gained and lost what, in one sentence; None where `money` is, until asked for.
    summary: str | None = None

    @property
    def prediction(self) -> str | None:
        """ANOMALY or NORMAL; None where there is no score."""
        if self.assessment is None:
            return None
        return ANOMALY if self.is_anomaly else NORMAL
