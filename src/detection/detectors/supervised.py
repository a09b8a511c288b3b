"""A supervised model's probability of fraud as an action."""

from collections.abc import Mapping
from typing import ClassVar, Self

from src.detection.detectors.base import AlertSpec, Equipment, Parameter, SupervisedModel, missing
from src.detection.evidence import Evidence
from src.detection.records import Action, Verdict


class SupervisedDetector:
    """`REVIEW` and `BLOCK` from a probability of fraud on."""

    NAME: ClassVar[str] = "supervised"
    ALERT: ClassVar[AlertSpec | None] = AlertSpec(
        "SUPERVISED-MODEL-FRAUD",
        "Supervised Model Fraud",
        "{sender} executed tx that the supervised model takes for fraud",
    )
    SUMMARY: ClassVar[str] = "The probability of fraud by a model trained on labelled transactions."
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "review_at": Parameter(0.5, 0, 1, "Probability from which to review."),
        "block_at": Parameter(0.9, 0, 1, "Probability from which to block."),
    }

    def __init__(self, model: SupervisedModel | None, review_at: float, block_at: float) -> None:
        self._model = model
        self._review_at = review_at
        self._block_at = block_at

    @classmethod
    def build(cls, parameters: Mapping[str, float | None], equipment: Equipment) -> Self:
        """See `Detector`."""
        review_at, block_at = parameters["review_at"], parameters["block_at"]
        assert review_at is not None  # noqa: S101  they have defaults
        assert block_at is not None  # noqa: S101
        if block_at < review_at:
            raise ValueError(f"block_at ({block_at:g}) lies below review_at ({review_at:g})")
        return cls(equipment.supervised, review_at, block_at)

    def evaluate(self, evidence: Evidence) -> Verdict:
        """See `Detector`."""
        if self._model is None:
            return missing(self.NAME, "no supervised model is loaded")
        if not evidence.features:
            return missing(self.NAME, "the features could not be made")
        probability = self._model.probability(evidence.features)
        if not probability >= self._review_at:
            return Verdict(self.NAME)
        return Verdict(
            self.NAME,
            Action.BLOCK if probability >= self._block_at else Action.REVIEW,
            f"probability of fraud {probability:.3f} by model {self._model.version}",
        )
