"""What the attack model says of one transaction: score, version and, where it matters, why."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from src.detection.assessment import EXPLAINED_INPUTS
from src.detection.attack.model import AttackModel
from src.detection.forest.model import explanation_json
from src.detection.records import REMEMBERED_ASSESSMENTS, AttackAssessment


class AttackAssessor:
    """Assesses one row at a time and remembers the results, as `Assessor` does for the forest.

    Args:
        model: what scores and explains.
        explain_from: attack score from which an assessment has an explanation.
        remembered: how many assessments are kept, the least recently used goes first.
    """

    def __init__(
        self, model: AttackModel, *, explain_from: float, remembered: int = REMEMBERED_ASSESSMENTS
    ) -> None:
        self.model = model
        self._explain_from = explain_from
        self._remembering = lru_cache(remembered)(self._assess)
        self.cache_info = self._remembering.cache_info

    def assess(self, row: NDArray[np.float64], forest_score: float) -> AttackAssessment:
        """Assess one row of the model's inputs, shape (number of inputs,).

        Raises:
            InvalidInput: a value is missing, not finite, or too large for float32.
        """
        return self._remembering(row.tobytes(), forest_score)

    def _assess(self, content: bytes, forest_score: float) -> AttackAssessment:
        row = np.frombuffer(content, dtype=np.float64)
        score = float(self.model.scores(row[np.newaxis], np.array([forest_score]))[0])
        if score < self._explain_from:
            return AttackAssessment(score, self.model.version)
        attributions = tuple(self.model.explain(row, EXPLAINED_INPUTS))
        text = explanation_json(attributions, factors=False)
        return AttackAssessment(score, self.model.version, attributions, text)
