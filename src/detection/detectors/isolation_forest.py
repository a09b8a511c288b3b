"""The Isolation Forest's score as an action."""

from collections.abc import Mapping
from functools import lru_cache
from typing import ClassVar, Self

from src.detection.detectors.base import (
    AlertSpec,
    Detector,
    Equipment,
    Parameter,
    missing,
    than_training,
)
from src.detection.evidence import Evidence
from src.detection.records import REMEMBERED_ASSESSMENTS, Action, Verdict

_UNSCORED = Verdict("isolation_forest", Action.REVIEW, "the transaction could not be scored")


class IsolationForestDetector(Detector):
    """`REVIEW` from the anomaly threshold on or without a score, `BLOCK` from a higher one."""

    NAME: ClassVar[str] = "isolation_forest"
    ALERT: ClassVar[AlertSpec | None] = None
    SUMMARY: ClassVar[str] = "The anomaly score of the transaction's shape and amounts."
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "review_at": Parameter(
            None, 0, 1, "Score from which to review; unset, the anomaly threshold of the findings."
        ),
        "block_at": Parameter(
            0.75,
            0,
            1,
            "Score from which to block. A higher anomaly threshold raises it along.",
        ),
        "review_unscored": Parameter(
            1,
            0,
            1,
            "1 to review a transaction that could not be scored, 0 to allow it.",
            whole=True,
        ),
    }

    def __init__(self, review_at: float, block_at: float, *, review_unscored: bool = True) -> None:
        self.review_at = review_at
        self.block_at = block_at
        self.review_unscored = review_unscored
        # The same few scores come again and again.
        self._judge = lru_cache(REMEMBERED_ASSESSMENTS)(self._judge_afresh)

    @classmethod
    def build(cls, parameters: Mapping[str, float | None], equipment: Equipment) -> Self:
        """See `Detector`."""
        review_at, block_at = parameters["review_at"], parameters["block_at"]
        assert block_at is not None  # noqa: S101  it has a default
        if review_at is None:
            review_at = equipment.anomaly_threshold
            block_at = max(block_at, review_at)
        if block_at < review_at:
            raise ValueError(f"block_at ({block_at:g}) lies below review_at ({review_at:g})")
        return cls(review_at, block_at, review_unscored=bool(parameters["review_unscored"]))

    def evaluate(self, evidence: Evidence) -> Verdict:
        """See `Detector`."""
        if evidence.assessment is None:
            return _UNSCORED if self.review_unscored else missing(self.NAME, _UNSCORED.reason)
        return self._judge(evidence.assessment.score, evidence.assessment.percentile)

    def _judge_afresh(self, score: float, percentile: float) -> Verdict:
        if score >= self.block_at:
            action, comparison = Action.BLOCK, f"at or above {self.block_at:g}"
        elif score >= self.review_at:
            action, comparison = Action.REVIEW, f"at or above {self.review_at:g}"
        else:
            action, comparison = Action.ALLOW, f"below {self.review_at:g}"
        return _verdict(
            action,
            f"anomaly score {score:.3f} is {comparison}, higher {than_training(percentile)}",
        )


@lru_cache(REMEMBERED_ASSESSMENTS)  # the same object, which what follows knows at a glance
def _verdict(action: Action, reason: str) -> Verdict:
    return Verdict(IsolationForestDetector.NAME, action, reason)
