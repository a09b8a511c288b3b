"""The verified model: loading it, scoring with it, explaining its scores.

One scoring path for live handling, replay, batches and training reports.
"""

import hashlib
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from src.detection.errors import (
    InvalidInput,
    ModelIncompatible,
    ModelMalformed,
    ModelMissing,
    ModelTampered,
)
from src.detection.explanation import Explainer
from src.detection.explanation_text import ExplanationForm
from src.detection.forest import Forest, as_float32
from src.detection.forest_file import ForestContents, read_forest
from src.detection.manifest import Manifest, read_manifest

NORMAL = "NORMAL"
ANOMALY = "ANOMALY"

_GOLDEN_TOLERANCE = 1e-12
"""scikit-learn's own scores differ in the last bit between processors: numpy raises 2 to the path
length with AVX-512 instructions where there are any."""


class Attribution(NamedTuple):
    """What one input did to a score.

    Attributes:
        feature: name of the input.
        value: its value in this transaction.
        weight: exact Shapley value in log2 of the score; positive pushes towards ANOMALY.
    """

    feature: str
    value: float
    weight: float

    @property
    def factor(self) -> float:
        """The weight as a factor on the score: the score is the base times all factors."""
        return float(2.0**self.weight)


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """The inputs of one row that weigh most.

    Attributes:
        form: knows the names of the inputs.
        row: values of all inputs.
        weights: their weights, see `Attribution`.
        order: the inputs that weigh most, most weighty first.
    """

    form: ExplanationForm
    row: NDArray[np.float64]
    weights: NDArray[np.float64]
    order: NDArray[np.int64]

    @property
    def attributions(self) -> list[Attribution]:
        """One record an input, most weighty first."""
        names, row, weights = self.form.names, self.row.tolist(), self.weights.tolist()
        return [Attribution(names[i], row[i], weights[i]) for i in self.order.tolist()]

    def as_json(self) -> str:
        """These inputs as a JSON list, see `ExplanationForm`."""
        return self.form.write(self.row, self.weights, self.order)


@dataclass(frozen=True, slots=True)
class Model:
    """A model that has been verified and is ready to score."""

    manifest: Manifest
    forest: Forest
    explainer: Explainer
    score_quantiles: NDArray[np.float64]
    form: ExplanationForm

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
        return self.forest.score(self._as_model_rows(rows))

    def explain(self, row: NDArray[np.float64], most: int | None = None) -> list[Attribution]:
        """Attributions of the inputs of one row, most weighty first, ties in the order of inputs.

        `log2(score) = log2(base_score) + sum of the weights of all`, exactly up to rounding.

        Args:
            row: shape (number of inputs,).
            most: how many inputs; None for all.

        Raises:
            InvalidInput: a value is missing, not finite, or too large for float32.
        """
        cast = self._as_model_rows(row[np.newaxis])[0]
        return self._explanation(cast, row, most).attributions

    def score_and_explain(
        self, row: NDArray[np.float64], most: int | None = None
    ) -> tuple[float, Explanation]:
        """What `score` and `explain` say of one row, which is looked at once.

        Raises:
            InvalidInput: a value is missing, not finite, or too large for float32.
        """
        rows = self._as_model_rows(row[np.newaxis])
        return float(self.forest.score(rows)[0]), self._explanation(rows[0], row, most)

    def _explanation(
        self, row: NDArray[np.float32], shown: NDArray[np.float64], most: int | None
    ) -> Explanation:
        weights, ranked = self.explainer.ranked_weights(row)
        return Explanation(self.form, shown, weights, ranked[:most])

    def percentile(self, score: float) -> float:
        """The percentile of one score, see `percentiles`."""
        return float(_percentile(self.score_quantiles, score))

    def percentiles(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of training transactions with a lower score, in percent, 0 to 100, shape (n,).

        Transactions with the very same score count half, since most traffic is the same few shapes.
        Unlike the score it means the same for every model version.
        """
        shares = np.empty(len(scores))
        _percentiles(self.score_quantiles, np.ascontiguousarray(scores, dtype=np.float64), shares)
        return shares

    def _as_model_rows(self, rows: NDArray[np.float64]) -> NDArray[np.float32]:
        if rows.ndim != 2 or rows.shape[1] != len(self.inputs):
            raise InvalidInput(f"rows of {len(self.inputs)} inputs expected, got {rows.shape}")
        cast = as_float32(rows)
        if cast is None:
            with np.errstate(over="ignore"):
                finite = np.isfinite(rows.astype(np.float32)).all(axis=0)
            column = int(np.flatnonzero(~finite)[0])
            raise InvalidInput(f"input {self.inputs[column]} is missing or not finite")
        return cast


_READ_ONLY = numba.types.Array(numba.float64, 1, "C", readonly=True)


@numba.njit(numba.float64(_READ_ONLY, numba.float64), cache=True, nogil=True)
def _percentile(quantiles: NDArray[np.float64], score: float) -> float:
    """See `Model.percentile`: interpolated between two quantiles, the middle of a run of equals."""
    ranks = len(quantiles) - 1
    below = np.searchsorted(quantiles, score)
    through = np.searchsorted(quantiles, score, side="right")
    if below < through:
        rank = float(below + through - 1) / 2
    elif below == 0:
        rank = 0.0
    elif below > ranks:
        rank = float(ranks)
    else:
        low, high = quantiles[below - 1], quantiles[below]
        rank = float(below - 1 + (score - low) / (high - low))
    return rank / ranks * 100


@numba.njit(numba.void(_READ_ONLY, _READ_ONLY, numba.float64[::1]), cache=True, nogil=True)
def _percentiles(
    quantiles: NDArray[np.float64], scores: NDArray[np.float64], shares: NDArray[np.float64]
) -> None:
    """Fill `shares` with the percentiles of `scores`."""
    for i in range(len(scores)):
        shares[i] = _percentile(quantiles, scores[i])


def load_model(
    path: Path, available_inputs: Sequence[str], *, public_key: str | None = None
) -> Model:
    """Load a model file that its manifest vouches for, and prove that it scores as it should.

    Args:
        path: the model file; its manifest lies beside it.
        available_inputs: names of the features that this code computes.
        public_key: whose signature the manifest must carry, see `signature`; None for nobody's.

    Raises:
        ModelMissing, ModelTampered, ModelIncompatible, ModelMalformed: see `errors`.
    """
    manifest = read_manifest(path, public_key)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelMissing(
            f"model file {path} is missing. Train one with `npm run train`, or set MODEL_PATH."
        ) from None
    actual = hashlib.sha256(content).hexdigest()
    if actual != manifest.sha256:
        raise ModelTampered(
            f"{path.name} has SHA-256 {actual}, its manifest says {manifest.sha256}: the file was "
            "changed, or copied without its manifest. It is not loaded."
        )
    _check_sklearn(manifest.sklearn_version)
    unknown = [name for name in manifest.inputs if name not in available_inputs]
    if unknown:
        named = ", ".join(repr(name[:60]) for name in unknown[:5])  # whoever wrote the file did
        raise ModelIncompatible(
            f"the model needs inputs that this version does not compute: {named}. "
            "Train a new model with `npm run train`."
        )
    return _verified(manifest, read_forest(content))


def _check_sklearn(trained_with: str) -> None:
    installed = importlib.metadata.version("scikit-learn")
    if installed != trained_with:
        raise ModelIncompatible(
            f"the model was saved by scikit-learn {trained_with}, {installed} is installed: scores "
            f"may differ without a word. Install scikit-learn=={trained_with} or train again."
        )


def _verified(manifest: Manifest, contents: ForestContents) -> Model:
    if contents.sklearn_version != manifest.sklearn_version:
        raise ModelMalformed(
            f"the file was saved by scikit-learn {contents.sklearn_version}, the manifest says "
            f"{manifest.sklearn_version}"
        )
    if contents.n_features != len(manifest.inputs):
        raise ModelMalformed(
            f"the forest has {contents.n_features} inputs, its manifest {len(manifest.inputs)}"
        )
    forest = Forest.from_contents(contents)
    quantiles = np.array(manifest.score_quantiles)
    form = ExplanationForm.for_inputs(manifest.inputs)
    model = Model(manifest, forest, Explainer.for_forest(forest), quantiles, form)
    scores = model.score(np.array(manifest.golden_rows, dtype=np.float64))
    worst = float(np.abs(scores - np.array(manifest.golden_scores)).max())
    if not worst <= _GOLDEN_TOLERANCE:
        raise ModelMalformed(
            f"the model does not reproduce its golden rows (largest difference {worst:g})"
        )
    return model
