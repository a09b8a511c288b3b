"""The second opinion as an action: the attack score, or an operator's own classifier."""

from collections.abc import Mapping
from typing import ClassVar, Final, Self

from src.detection.detectors.base import (
    AlertSpec,
    Detector,
    Equipment,
    Parameter,
    SupervisedModel,
    missing,
)
from src.detection.evidence import Evidence
from src.detection.records import Action, Verdict

ATTACK_REVIEW_AT: Final = 0.996
ATTACK_BLOCK_AT: Final = 0.999
CLASSIFIER_REVIEW_AT: Final = 0.5
CLASSIFIER_BLOCK_AT: Final = 0.9

_SILENT = Verdict("supervised")


class SupervisedDetector(Detector):
    """`REVIEW` and `BLOCK` from an attack score on.

    Where the operator names a classifier of their own, its probability takes the place of the
    attack score.
    """

    NAME: ClassVar[str] = "supervised"
    ALERT: ClassVar[AlertSpec | None] = AlertSpec(
        "SUPERVISED-MODEL-FRAUD",
        "Supervised Model Fraud",
        "{sender} executed tx that resembles known attacks",
    )
    SUMMARY: ClassVar[str] = "The attack score, or the probability of an own classifier."
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "review_at": Parameter(
            None,
            0,
            1,
            f"Attack score from which to review; unset, {ATTACK_REVIEW_AT:g}, that is 0.4% of the "
            f"background. Of an own classifier the probability; unset, {CLASSIFIER_REVIEW_AT:g}.",
        ),
        "block_at": Parameter(
            None,
            0,
            1,
            f"Attack score from which to block; unset, {ATTACK_BLOCK_AT:g}, that is 0.1% of the "
            f"background. Of an own classifier the probability; unset, {CLASSIFIER_BLOCK_AT:g}.",
        ),
    }

    def __init__(
        self,
        model: SupervisedModel | None,
        review_at: float,
        block_at: float,
        no_attack_score: str = "",
    ) -> None:
        self.review_at = review_at
        self._block_at = block_at
        self._model = model
        self._no_attack_score = no_attack_score

    @classmethod
    def build(cls, parameters: Mapping[str, float | None], equipment: Equipment) -> Self:
        """See `Detector`."""
        review_at, block_at = parameters["review_at"], parameters["block_at"]
        is_own = equipment.supervised is not None
        if review_at is None:
            review_at = CLASSIFIER_REVIEW_AT if is_own else ATTACK_REVIEW_AT
        if block_at is None:
            block_at = max(review_at, CLASSIFIER_BLOCK_AT if is_own else ATTACK_BLOCK_AT)
        if block_at < review_at:
            raise ValueError(f"block_at ({block_at:g}) lies below review_at ({review_at:g})")
        return cls(equipment.supervised, review_at, block_at, equipment.no_attack_score)

    def evaluate(self, evidence: Evidence) -> Verdict:
        """See `Detector`."""
        if self._model is not None:
            return self._by_own_classifier(self._model, evidence)
        attack = evidence.attack
        if attack is None:
            why = self._no_attack_score or "the transaction could not be scored"
            return missing(self.NAME, f"no attack score: {why}")
        if not attack.score >= self.review_at:
            return _SILENT
        action = self._action(attack.score)
        reached = self._block_at if action is Action.BLOCK else self.review_at
        # Not the score itself: callers act on the action, and the same few texts are cached.
        return Verdict(
            self.NAME,
            action,
            f"resembles known attacks more than {100 * reached:g}% of ordinary transactions do, by "
            f"attack model {attack.version}",
        )

    def _by_own_classifier(self, model: SupervisedModel, evidence: Evidence) -> Verdict:
        if not evidence.features:
            return missing(self.NAME, "the features could not be made")
        probability = model.probability(evidence.features)
        if not probability >= self.review_at:
            return _SILENT
        return Verdict(
            self.NAME,
            self._action(probability),
            f"probability of fraud {probability:.3f} by model {model.version}",
        )

    def _action(self, score: float) -> Action:
        return Action.BLOCK if score >= self._block_at else Action.REVIEW
