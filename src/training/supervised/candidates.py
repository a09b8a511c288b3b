"""The four compared classifiers, each in `Pipeline(imputer, StandardScaler, classifier)`.

Class weights are not used: they would shift the probability away from the training part's share of
fraud, and the threshold serves the same purpose.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.validation import check_is_fitted

_PLATT_FOLDS = 3


class ThinnedSVC(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """An SVC on at most `max_rows` rows, with a calibrated probability (Platt 1999).

    An SVC's time grows quadratically with its rows. If there are more than `max_rows`, a weighted
    sample of the larger class represents all of it. The calibration is cross-validated by row, even
    if the outer splits are by group.
    """

    def __init__(
        self,
        C: float = 1.0,  # noqa: N803  scikit-learn's name
        gamma: float | str = "scale",
        max_rows: int = 10_000,
        random_state: int = 0,
    ) -> None:
        self.C = C
        self.gamma = gamma
        self.max_rows = max_rows
        self.random_state = random_state

    def fit(self, rows: NDArray[np.float64], labels: NDArray[np.int64]) -> Self:
        """Fit on rows and their labels, 0 or 1."""
        self.classes_ = np.unique(labels)
        chosen, weights = self._thin(labels)
        self.calibrated_ = CalibratedClassifierCV(
            SVC(C=self.C, gamma=self.gamma),
            method="sigmoid",
            cv=StratifiedKFold(_PLATT_FOLDS, shuffle=True, random_state=self.random_state),
            ensemble=False,
        )
        self.calibrated_.fit(rows[chosen], labels[chosen], sample_weight=weights)
        return self

    def predict_proba(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities of 0 and 1, shape (n, 2)."""
        check_is_fitted(self)
        probabilities: NDArray[np.float64] = self.calibrated_.predict_proba(rows)
        return probabilities

    def predict(self, rows: NDArray[np.float64]) -> NDArray[np.int64]:
        """1 if the probability of fraud is at least 0.5."""
        return (self.predict_proba(rows)[:, 1] >= 0.5).astype(np.int64)

    def _thin(self, labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        weights = np.ones(len(labels))
        if len(labels) <= self.max_rows:
            return np.arange(len(labels)), weights
        random = np.random.default_rng(self.random_state)
        chosen = []
        smaller = min(int((labels == value).sum()) for value in (0, 1))
        for value in (0, 1):
            rows = np.flatnonzero(labels == value)
            limit = min(len(rows), max(self.max_rows - smaller, self.max_rows // 2))
            weights[rows] = len(rows) / limit
            chosen.append(random.choice(rows, limit, replace=False) if limit < len(rows) else rows)
        kept = np.sort(np.concatenate(chosen))
        return kept, weights[kept]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A classifier with the parameters that the grid search tries."""

    name: str  # one of `detection.supervised.pipeline.CLASSIFIERS`
    classifier: Any  # with the parameters of the comparison
    grid: Mapping[str, tuple[Any, ...]]  # values by parameter

    def pipeline(self) -> Pipeline:
        """Unfitted imputer, scaler and classifier; `fit` then fits the scaler on its rows only."""
        return Pipeline(
            [
                ("imputer", SimpleImputer(strategy="median", keep_empty_features=True)),
                ("scaler", StandardScaler()),
                ("classifier", self.classifier),
            ]
        )

    def pipeline_grid(self) -> dict[str, list[Any]]:
        """The grid with the pipeline's parameter names."""
        return {f"classifier__{name}": list(values) for name, values in self.grid.items()}


def candidates(seed: int, *, trees: int = 200) -> list[Candidate]:
    """The four classifiers, most often the best first."""
    return [
        Candidate(
            "RandomForest",
            RandomForestClassifier(n_estimators=trees, random_state=seed, n_jobs=1),
            {"max_features": ("sqrt", 0.4), "min_samples_leaf": (1, 3)},
        ),
        Candidate(
            "LogisticRegression",
            LogisticRegression(max_iter=5_000),
            {"C": (0.01, 0.1, 1.0, 10.0)},
        ),
        Candidate(
            "SVM",
            ThinnedSVC(random_state=seed),
            {"C": (1.0, 10.0), "gamma": ("scale", 0.01)},
        ),
        Candidate(
            "DecisionTree",
            DecisionTreeClassifier(random_state=seed),
            {"max_depth": (4, 8, None), "min_samples_leaf": (1, 5, 20)},
        ),
    ]
