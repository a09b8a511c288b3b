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

from dataclasses import dataclass
from typing import Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from src.detection.errors import ModelMalformed
from src.detection.npz import Arrays, floats, ints
from src.detection.trees.trees import Trees

Floats = NDArray[np.float64]

CLASSIFIERS: Final = ("RandomForest", "LogisticRegression", "SVM", "DecisionTree")

_FLOAT32_MAX = float(np.finfo(np.float32).max)


class Classifier(Protocol):
    """The last step: from scaled rows to probabilities."""

    def probabilities(self, scaled: Floats) -> Floats:
        """Probability of fraud of each row, shape (n,), in [0, 1]; rows are finite, (n, d)."""


@dataclass(frozen=True, slots=True)
class MeanOfTrees:
    """A decision tree, or a forest as the mean of its trees' shares of fraud."""

    trees: Trees

    @classmethod
    def from_arrays(cls, arrays: Arrays, n_inputs: int) -> Self:
        """Raise ModelMalformed unless these are trees whose leaves hold shares."""
        fraud = floats(arrays, "fraud")
        if (fraud < 0).any() or (fraud > 1).any():
            raise ModelMalformed("a leaf's share of fraud lies outside [0, 1]")
        return cls(
            Trees.from_columns(
                n_inputs,
                offsets=ints(arrays, "offsets"),
                left=ints(arrays, "left"),
                right=ints(arrays, "right"),
                feature=ints(arrays, "feature"),
                threshold=floats(arrays, "threshold"),
                value=fraud,
            )
        )

    def probabilities(self, scaled: Floats) -> Floats:
        """See `Classifier`; compares float32 values with the thresholds, as scikit-learn does."""
        return self.trees.sums(scaled.astype(np.float32, order="C")) / self.trees.n_trees


@dataclass(frozen=True, slots=True)
class Logistic:
    """Logistic regression."""

    coefficients: Floats
    intercept: float

    @classmethod
    def from_arrays(cls, arrays: Arrays, n_inputs: int) -> Self:
        """Raise ModelMalformed unless there is a coefficient for every input."""
        coefficients = floats(arrays, "coefficients")
        _expect_columns(coefficients, n_inputs, "coefficients")
        return cls(coefficients, float(floats(arrays, "intercept", 0)))

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
        """Raise ModelMalformed unless vectors, weights and inputs agree in number."""
        support, dual = floats(arrays, "support", 2), floats(arrays, "dual")
        sigmoid = floats(arrays, "sigmoid")
        gamma = float(floats(arrays, "gamma", 0))
        _expect_columns(support, n_inputs, "support")
        if len(support) != len(dual) or len(dual) == 0 or len(sigmoid) != 2 or gamma <= 0:
            raise ModelMalformed("the support vector machine's arrays do not fit together")
        return cls(support, dual, float(floats(arrays, "intercept", 0)), gamma, sigmoid)

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
            ModelMalformed: one is missing, of another shape, or not finite.
        """
        try:
            name = str(arrays["classifier"])
        except KeyError:
            raise ModelMalformed("the array classifier is missing") from None
        impute, mean, scale = (floats(arrays, key) for key in ("impute", "mean", "scale"))
        for key, column in (("impute", impute), ("mean", mean), ("scale", scale)):
            _expect_columns(column, n_inputs, key)
        if (scale <= 0).any():
            raise ModelMalformed("a scale is not positive")
        classifier: Classifier
        match name:
            case "LogisticRegression":
                classifier = Logistic.from_arrays(arrays, n_inputs)
            case "SVM":
                classifier = RadialSupportVectors.from_arrays(arrays, n_inputs)
            case "RandomForest" | "DecisionTree":
                classifier = MeanOfTrees.from_arrays(arrays, n_inputs)
            case _:
                raise ModelMalformed(f"classifier {name!r} is none of {', '.join(CLASSIFIERS)}")
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
        raise ModelMalformed(f"{name} is for {values.shape[-1]} inputs, not {n_inputs}")
