"""A fitted pipeline (imputer, StandardScaler, classifier) as plain arrays, and its probabilities.

A supervised model is stored as numbers in an .npz file, not as a pickle. A pickle is a program:
reading a swapped one runs what its author wrote, and an allow-list of scikit-learn's real classes
still hands them a stranger's state (node arrays with indices outside the array, for one). Numbers
run nothing, are checked here for what they claim, need neither scikit-learn nor its start-up time
where the model serves, and four classifiers are little to evaluate. scikit-learn remains the
trainer and the judge: golden rows hold its probabilities, and the tests compare all four.

The arrays, by name; d inputs throughout:

    impute, mean, scale       (d,)    what replaces a missing value; the StandardScaler
    classifier                ()      one of CLASSIFIERS, as text
    LogisticRegression        coefficients (d,), intercept ()
    SVM                       support (s, d), dual (s,), intercept (), gamma (),
                              sigmoid (2,): probability 1 / (1 + exp(a f + b)), Platt 1999
    DecisionTree,             offsets (t + 1,): where each tree's nodes lie; left, right (-1 at
    RandomForest              leaves, else relative to the tree), feature, threshold, fraud: (n,)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Arrays = Mapping[str, NDArray[Any]]

CLASSIFIERS: Final = ("RandomForest", "LogisticRegression", "SVM", "DecisionTree")

_FLOAT32_MAX = float(np.finfo(np.float32).max)


class PipelineMalformed(ValueError):
    """The arrays are not those of a fitted pipeline."""


class Classifier(Protocol):
    """The last step: from scaled rows to probabilities."""

    def probabilities(self, scaled: Floats) -> Floats:
        """Probability of fraud of each row, shape (n,), in [0, 1]; rows are finite, (n, d)."""


@dataclass(frozen=True, slots=True)
class Trees:
    """A decision tree, or a forest as the mean of its trees."""

    roots: Ints
    left: Ints
    right: Ints
    feature: Ints
    threshold: Floats
    fraud: Floats

    @classmethod
    def from_arrays(cls, arrays: Arrays, n_inputs: int) -> Self:
        """Check that every walk stays inside and ends, and make node numbers absolute.

        Raises:
            PipelineMalformed: it would not.
        """
        left, right, feature = (_ints(arrays, name) for name in ("left", "right", "feature"))
        threshold, fraud = (_floats(arrays, name, 1) for name in ("threshold", "fraud"))
        offsets = _ints(arrays, "offsets")
        n_nodes = len(left)
        if not all(len(column) == n_nodes for column in (right, feature, threshold, fraud)):
            raise PipelineMalformed("the trees' columns differ in length")
        sizes = np.diff(offsets)
        if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != n_nodes or (sizes < 1).any():
            raise PipelineMalformed("the trees' offsets do not cover the nodes")
        root = np.repeat(offsets[:-1], sizes)
        last = np.repeat(offsets[1:], sizes)
        is_leaf = left == -1
        at = np.arange(n_nodes)
        # Children after their parent and inside the tree: then every walk ends at a leaf.
        for child in (left, right):
            target = child + root
            if ((child < 0) != is_leaf).any() or (
                ~is_leaf & ((target <= at) | (target >= last))
            ).any():
                raise PipelineMalformed("a tree's nodes do not form a tree")
        if (~is_leaf & ((feature < 0) | (feature >= n_inputs))).any():
            raise PipelineMalformed("a tree splits on an input that does not exist")
        if (fraud < 0).any() or (fraud > 1).any():
            raise PipelineMalformed("a leaf's share of fraud lies outside [0, 1]")
        return cls(
            roots=offsets[:-1],
            left=np.where(is_leaf, at, left + root),
            right=np.where(is_leaf, at, right + root),
            feature=np.where(is_leaf, 0, feature),
            threshold=threshold,
            fraud=fraud,
        )

    def probabilities(self, scaled: Floats) -> Floats:
        """See `Classifier`; compares float32 values with the thresholds, as scikit-learn does."""
        rows = scaled.astype(np.float32)
        total = np.zeros(len(rows))
        # Tree by tree for tables, in scikit-learn's order of addition; all at once for one row.
        if len(rows) == 1:
            return self._one(rows[0])
        for root in self.roots.tolist():
            total += self.fraud[self._leaves(rows, np.full(len(rows), root))]
        return total / len(self.roots)

    def _leaves(self, rows: NDArray[np.float32], node: Ints) -> Ints:
        at = np.arange(len(rows))
        while True:
            goes_left = rows[at, self.feature[node]] <= self.threshold[node]
            following = np.where(goes_left, self.left[node], self.right[node])
            if np.array_equal(following, node):
                return node
            node = following

    def _one(self, row: NDArray[np.float32]) -> Floats:
        node = self.roots
        while True:
            goes_left = row[self.feature[node]] <= self.threshold[node]
            following = np.where(goes_left, self.left[node], self.right[node])
            if np.array_equal(following, node):
                # cumsum adds one after the other, as the loop over trees does; sum would pair up.
                return np.cumsum(self.fraud[node])[-1:] / len(self.roots)
            node = following


@dataclass(frozen=True, slots=True)
class Logistic:
    """Logistic regression."""

    coefficients: Floats
    intercept: float

    @classmethod
    def from_arrays(cls, arrays: Arrays, n_inputs: int) -> Self:
        """Raise PipelineMalformed unless there is a coefficient for every input."""
        coefficients = _floats(arrays, "coefficients", 1)
        _expect_columns(coefficients, n_inputs, "coefficients")
        return cls(coefficients, float(_floats(arrays, "intercept", 0)))

    def probabilities(self, scaled: Floats) -> Floats:
        """See `Classifier`."""
        return _expit(scaled @ self.coefficients + self.intercept)


@dataclass(frozen=True, slots=True)
class RadialSupportVectors:
    """A support vector machine with the kernel exp(-gamma |x - s|^2) and a sigmoid behind it."""

    support: Floats
    dual: Floats
    intercept: float
    gamma: float
    sigmoid: Floats

    @classmethod
    def from_arrays(cls, arrays: Arrays, n_inputs: int) -> Self:
        """Raise PipelineMalformed unless vectors, weights and inputs agree in number."""
        support, dual = _floats(arrays, "support", 2), _floats(arrays, "dual", 1)
        sigmoid = _floats(arrays, "sigmoid", 1)
        gamma = float(_floats(arrays, "gamma", 0))
        _expect_columns(support, n_inputs, "support")
        if len(support) != len(dual) or len(dual) == 0 or len(sigmoid) != 2 or gamma <= 0:
            raise PipelineMalformed("the support vector machine's arrays do not fit together")
        return cls(support, dual, float(_floats(arrays, "intercept", 0)), gamma, sigmoid)

    def probabilities(self, scaled: Floats) -> Floats:
        """See `Classifier`."""
        decision = np.array([self._decision(row) for row in scaled], dtype=np.float64)
        return _expit(-(self.sigmoid[0] * decision + self.sigmoid[1]))

    def _decision(self, row: Floats) -> float:
        with np.errstate(over="ignore", under="ignore"):  # far away is a kernel of zero
            distances = ((self.support - row) ** 2).sum(axis=1)
            return float(np.exp(-self.gamma * distances) @ self.dual + self.intercept)


@dataclass(frozen=True, slots=True)
class FittedPipeline:
    """Imputer, scaler and classifier."""

    name: str
    impute: Floats
    mean: Floats
    scale: Floats
    classifier: Classifier

    @classmethod
    def from_arrays(cls, arrays: Arrays, n_inputs: int) -> Self:
        """Build from the arrays that the module's docstring lists.

        Raises:
            PipelineMalformed: one is missing, of another shape, or not finite.
        """
        try:
            name = str(arrays["classifier"])
        except KeyError:
            raise PipelineMalformed("the array classifier is missing") from None
        impute, mean, scale = (_floats(arrays, key, 1) for key in ("impute", "mean", "scale"))
        for key, column in (("impute", impute), ("mean", mean), ("scale", scale)):
            _expect_columns(column, n_inputs, key)
        if (scale <= 0).any():
            raise PipelineMalformed("a scale is not positive")
        classifier: Classifier
        match name:
            case "LogisticRegression":
                classifier = Logistic.from_arrays(arrays, n_inputs)
            case "SVM":
                classifier = RadialSupportVectors.from_arrays(arrays, n_inputs)
            case "RandomForest" | "DecisionTree":
                classifier = Trees.from_arrays(arrays, n_inputs)
            case _:
                raise PipelineMalformed(f"classifier {name!r} is none of {', '.join(CLASSIFIERS)}")
        return cls(name, impute, mean, scale, classifier)

    def too_large(self, rows: Floats) -> NDArray[np.bool_]:
        """Which inputs have a value that float32 cannot hold after scaling, shape (d,)."""
        with np.errstate(over="ignore"):
            scaled = (rows - self.mean) / self.scale
        return np.asarray((np.abs(scaled) > _FLOAT32_MAX).any(axis=0))

    def probabilities(self, rows: Floats) -> Floats:
        """Probability of fraud, shape (n,), of rows of shape (n, d).

        A missing value (NaN) takes the median of the training part. The values are not infinite
        and not `too_large`.
        """
        filled = np.where(np.isnan(rows), self.impute, rows)
        return self.classifier.probabilities((filled - self.mean) / self.scale)


def _expit(values: Floats) -> Floats:
    with np.errstate(over="ignore"):
        result: Floats = 1.0 / (1.0 + np.exp(-values))
    return result


def _expect_columns(values: Floats, n_inputs: int, name: str) -> None:
    if values.shape[-1] != n_inputs:
        raise PipelineMalformed(f"{name} is for {values.shape[-1]} inputs, not {n_inputs}")


def _floats(arrays: Arrays, name: str, dimensions: int) -> Floats:
    values = _array(arrays, name, dimensions)
    if values.dtype != np.float64 or not np.isfinite(values).all():
        raise PipelineMalformed(f"the array {name} is not of finite float64 numbers")
    return values


def _ints(arrays: Arrays, name: str) -> Ints:
    values = _array(arrays, name, 1)
    if values.dtype != np.int64:
        raise PipelineMalformed(f"the array {name} is not of int64 numbers")
    return values


def _array(arrays: Arrays, name: str, dimensions: int) -> NDArray[Any]:
    try:
        values = arrays[name]
    except KeyError:
        raise PipelineMalformed(f"the array {name} is missing") from None
    if values.ndim != dimensions:
        raise PipelineMalformed(f"the array {name} has {values.ndim} dimensions")
    return values
