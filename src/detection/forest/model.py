"""The verified model: loading it, scoring with it, explaining its scores.

One scoring path for live handling, replay, batches and training reports.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.detection.bundle_files import (
    check_golden,
    check_inputs,
    check_sklearn,
    golden_outputs,
    read_vouched_file,
)
from src.detection.errors import ModelMalformed
from src.detection.forest.forest import Forest
from src.detection.forest.forest_file import read_forest
from src.detection.forest.manifest import Manifest, read_manifest
from src.detection.records import Attribution
from src.detection.trees.tree_shap import Explainer
from src.detection.trees.trees import model_rows

NORMAL = "NORMAL"
ANOMALY = "ANOMALY"

_GOLDEN_TOLERANCE = 1e-12
"""scikit-learn's own scores differ in the last bit between processors: numpy raises 2 to the path
length with AVX-512 instructions where there are any."""


def explanation_json(attributions: Iterable[Attribution], *, factors: bool = True) -> str:
    """Attributions as the JSON list that findings carry.

    Values and signed weights have six decimals, factors (2**weight) four.

    Args:
        attributions: what to list.
        factors: whether weights are in log2 of a score, so that they are factors on it.
    """
    listed = []
    for one in attributions:
        factor = f', "factor": {one.factor:.4f}' if factors else ""
        listed.append(
            f'{{"feature": {json.dumps(one.feature)}, "value": {one.value:.6f}, '
            f'"weight": {one.weight:.6f}{factor}}}'
        )
    return f"[{', '.join(listed)}]"


@dataclass(frozen=True, slots=True)
class Model:
    """A model that has been verified and is ready to score."""

    manifest: Manifest
    forest: Forest
    explainer: Explainer

    @property
    def version(self) -> str:
        """When the model was made, Unix seconds, as findings carry it."""
        return str(self.manifest.model_version)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in the order of the columns."""
        return self.manifest.inputs

    @property
    def base_score(self) -> float:
        """Score of a transaction about which nothing is known: where explanations start."""
        return float(2.0**self.explainer.base)

    def score(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Anomaly scores of rows of inputs, in [0, 1], near 1 = anomalous.

        Args:
            rows: shape (n, number of inputs), columns in the order of `inputs`.

        Returns:
            Shape (n,), bit-identical to `abs(IsolationForest.score_samples(rows))`.

        Raises:
            InvalidInput: a value is missing, not finite, or too large for float32.
        """
        return self.forest.score(model_rows(rows, self.inputs))

    def explain(self, row: NDArray[np.float64], most: int | None = None) -> list[Attribution]:
        """Attributions of the inputs of one row, most weighty first, ties in the order of inputs.

        `log2(score) = log2(base_score) + sum of the weights of all`, exactly up to rounding.

        Args:
            row: shape (number of inputs,).
            most: how many inputs; None for all.

        Raises:
            InvalidInput: a value is missing, not finite, or too large for float32.
        """
        return self.explainer.attributions(row, self.inputs, most)

    def percentile(self, score: float) -> float:
        """Share of training transactions with a lower score, in percent, 0 to 100.

        Transactions with the very same score count half, since most traffic is the same few shapes.
        Unlike the score it means the same for every model version.
        """
        quantiles = self.manifest.score_quantiles
        last = len(quantiles) - 1
        first, end = bisect_left(quantiles, score), bisect_right(quantiles, score)
        rank = (first + end - 1) / 2 if first < end else max(first - 1.0, 0.0)
        if 0 < first == end <= last:  # between two quantiles
            below, above = quantiles[first - 1], quantiles[first]
            rank = 1.0 / (above - below) * (score - below) + (first - 1)
        return rank / last * 100

    def percentiles(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """The percentile of each score, shape (n,)."""
        return np.array([self.percentile(score) for score in scores.tolist()], dtype=np.float64)


def load_model(
    path: Path, available_inputs: Sequence[str], *, public_key: str | None = None
) -> Model:
    """Load a model file that its manifest vouches for, and prove that it scores as it should.

    Args:
        path: the model file; its manifest lies beside it.
        available_inputs: names of the features that this code computes.
        public_key: whose signature the manifest must carry, see `signature`; None if it needs none.

    Raises:
        ModelMissing, ModelTampered, ModelIncompatible, ModelMalformed: see `errors`.
    """
    manifest = read_manifest(path, public_key)
    content = read_vouched_file(
        path, manifest.sha256, remedy="Train one with `npm run train`, or set MODEL_PATH."
    )
    check_sklearn(manifest.sklearn_version, command="train")
    check_inputs(manifest.inputs, available_inputs, what="the model", command="train")
    return _verified(manifest, read_forest(content))


def _verified(manifest: Manifest, forest: Forest) -> Model:
    if forest.sklearn_version != manifest.sklearn_version:
        raise ModelMalformed(
            f"the file was saved by scikit-learn {forest.sklearn_version}, the manifest says "
            f"{manifest.sklearn_version}"
        )
    if forest.trees.n_features != len(manifest.inputs):
        raise ModelMalformed(
            f"the forest has {forest.trees.n_features} inputs, its manifest {len(manifest.inputs)}"
        )
    model = Model(manifest, forest, forest.explainer())
    scores = golden_outputs(model.score, np.array(manifest.golden_rows, np.float64))
    worst = np.abs(scores - np.array(manifest.golden_scores)).max()
    check_golden(worst, _GOLDEN_TOLERANCE, what="the model")
    return model
