"""Scores rows with an isolation forest, bit-identical to scikit-learn's `score_samples`.

The trees' sum is the path length; the last step, 2**(-length), is numpy's, as in scikit-learn.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.detection.trees.tree_shap import Explainer
from src.detection.trees.trees import Trees


@dataclass(frozen=True, slots=True)
class Forest:
    """An isolation forest."""

    trees: Trees  # each leaf adds the length of the path to it
    denominator: float  # (number of trees) * c(rows a tree), the normaliser of the path length
    sklearn_version: str  # that saved it

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Anomaly scores in [0, 1], near 1 = anomalous; `abs(score_samples(rows))`.

        Args:
            rows: see `Trees.sums`.
        """
        if self.denominator == 0:  # every tree saw a single row: scikit-learn calls that 1/2
            return np.full(len(rows), 0.5)
        scores: NDArray[np.float64] = 2 ** (self.trees.sums(rows) / -self.denominator)
        return scores

    def explainer(self) -> Explainer:
        """What explains log2 of the score."""
        if self.denominator == 0:
            return Explainer.for_trees(self.trees, offset=-1.0)
        return Explainer.for_trees(self.trees, divisor=-self.denominator)
