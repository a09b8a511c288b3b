"""Selects classifier, parameters and threshold, and evaluates them on the hold-out.

The hold-out is split off first and used once, at the end; it is chosen by digests, so that a row is
held out in every later training, too. Everything else is cross-validated
on the training part: the classifier and its parameters by average precision (which needs no
threshold and, unlike accuracy, is meaningful if fraud is rare), the threshold on out-of-fold
probabilities.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    confusion_matrix,
    make_scorer,
    precision_recall_curve,
    precision_score,
    recall_score,
    roc_auc_score,
)
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_val_predict,
    cross_validate,
)
from sklearn.pipeline import Pipeline

from src.datasets.labelled import LabelledTable
from src.training.evaluation.statistics import interval
from src.training.supervised.candidates import Candidate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

METRICS = ("precision", "recall", "f1", "average_precision")
_SCORING = {
    "precision": make_scorer(precision_score, zero_division=0.0),
    "recall": make_scorer(recall_score, zero_division=0.0),
    "f1": "f1",
    "average_precision": "average_precision",
}
logger = logging.getLogger(__name__)

HOLD_OUT_PARTS = 4  # one of four is held out
REPETITIONS = 1000


@dataclass(frozen=True, slots=True)
class Comparison:
    """One classifier, cross-validated on the training part; metrics at probability 0.5."""

    name: str
    folds: dict[str, list[float]]  # values by metric, one per fold

    def mean(self, metric: str) -> float:
        """Mean over the folds."""
        return float(np.mean(self.folds[metric]))

    def deviation(self, metric: str) -> float:
        """Standard deviation over the folds."""
        return float(np.std(self.folds[metric], ddof=1))


@dataclass(frozen=True, slots=True)
class Selection:
    """The selected model."""

    winner: Candidate
    pipeline: Pipeline  # fitted on the training part
    parameters: dict[str, Any]  # of the classifier, by the grid search
    grid: list[dict[str, Any]]  # every combination with its mean average precision
    threshold: float  # see `choose_threshold`
    out_of_fold: Floats  # probabilities of the training part by models not fitted on the row


@dataclass(frozen=True, slots=True)
class Split:
    """Rows for training, and rows held out."""

    # train, test: positions of the rows.
    train: Ints
    test: Ints
    # Rows, or groups, whose draw is below the cut of their class are held out; by class, 0 for the
    # rest and 1 for fraud. A later table with the same rows has them on the same sides.
    cuts: tuple[float, float]


def hold_out(table: LabelledTable, cuts: tuple[float, float] | None = None) -> Split:
    """Split a quarter of each class off, groups whole, by the digests of rows or groups.

    `cuts` are those of an earlier split, which is repeated and goes on to new rows.

    Raises:
        ValueError: a class has too few rows or groups to be on both sides.
    """
    check_counts(table, HOLD_OUT_PARTS, "to hold a quarter out")
    # Equal rows have equal draws, whatever their labels.
    units = table.draws if table.groups is None else table.groups
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    is_fraud = np.bincount(unit, weights=table.labels) > 0  # of units
    draws = table.draws[first]
    if cuts is None:
        cuts = (_cut(draws[~is_fraud]), _cut(draws[is_fraud]))
    held = (draws < np.where(is_fraud, cuts[1], cuts[0]))[unit]
    split = Split(np.flatnonzero(~held), np.flatnonzero(held), cuts)
    if min(len(np.unique(table.labels[part])) for part in (split.train, split.test)) < 2:
        raise ValueError("one side of the split has only one class: more rows or groups are needed")
    return split


def _cut(draws: Floats) -> float:
    """The number that a quarter of the draws is below, half-way between two of them."""
    if not len(draws):  # every group, or row with its equals, has a fraud
        return 0.0
    many = max(1, round(len(draws) / HOLD_OUT_PARTS))
    ordered = np.sort(draws)
    return float(ordered[many - 1 : many + 1].mean())


def check_counts(table: LabelledTable, parts: int, purpose: str) -> None:
    """Raise ValueError unless both classes have at least one row (or group) per part."""
    for value, name in ((1, "fraud"), (0, "the rest")):
        rows = table.labels == value
        units = rows.sum() if table.groups is None else len(np.unique(table.groups[rows]))
        if units < parts:
            what = "rows" if table.groups is None else "groups"
            raise ValueError(f"{units} {what} of {name}: at least {parts} are needed {purpose}")


def compare(
    table: LabelledTable,
    train: Ints,
    choices: list[Candidate],
    *,
    folds: int,
    seed: int,
    jobs: int = 1,
) -> list[Comparison]:
    """Cross-validate every classifier on the same folds of the training part."""
    splits = _splits(table, train, folds, seed)
    compared = []
    for candidate in choices:
        scores = cross_validate(
            candidate.pipeline(),
            table.rows[train],
            table.labels[train],
            cv=splits,
            scoring=_SCORING,
            n_jobs=jobs,
            error_score="raise",
        )
        found = {metric: scores[f"test_{metric}"].tolist() for metric in METRICS}
        one = Comparison(candidate.name, found)
        logger.info("%s: average precision %.3f", one.name, one.mean("average_precision"))
        compared.append(one)
    return compared


def select(
    table: LabelledTable,
    train: Ints,
    winner: Candidate,
    *,
    folds: int,
    seed: int,
    min_precision: float | None = None,
    jobs: int = 1,
) -> Selection:
    """Grid-search the winner's parameters, choose the threshold, fit on the training part."""
    rows, labels = table.rows[train], table.labels[train]
    splits = _splits(table, train, folds, seed)
    logger.info("grid search of %s", winner.name)
    search = GridSearchCV(
        winner.pipeline(),
        winner.pipeline_grid(),
        scoring="average_precision",
        cv=splits,
        n_jobs=jobs,
        error_score="raise",
        refit=True,
    )
    search.fit(rows, labels)
    logger.info("choosing the threshold")
    out_of_fold = cross_val_predict(
        search.best_estimator_, rows, labels, cv=splits, method="predict_proba", n_jobs=jobs
    )[:, 1]
    results = search.cv_results_
    grid = [
        {"parameters": _plain(parameters), "average_precision": float(mean), "deviation": float(sd)}
        for parameters, mean, sd in zip(
            results["params"], results["mean_test_score"], results["std_test_score"], strict=True
        )
    ]
    return Selection(
        winner,
        search.best_estimator_,
        _plain(search.best_params_),
        grid,
        choose_threshold(labels, out_of_fold, min_precision),
        out_of_fold,
    )


def choose_threshold(labels: Ints, probabilities: Floats, min_precision: float | None) -> float:
    """The threshold with the best F1, or with the best recall at a minimum precision.

    Half-way to the next lower probability, so that it does not depend on rounding.

    Raises:
        ValueError: no threshold reaches the precision.
    """
    curve = precision_recall_curve(labels, probabilities)
    # From the highest probability down, so that the highest of equally good ones is taken.
    precision, recall, ordered = curve[0][-2::-1], curve[1][-2::-1], curve[2][::-1]
    if min_precision is None:
        value = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    else:
        value = np.where(precision >= min_precision, recall, -1.0)
        if value.max() <= 0:
            raise ValueError(
                f"no threshold has a precision of {min_precision:g} on the training part; the best "
                f"is {precision.max():.3f}"
            )
    best = int(np.argmax(value))
    lower = ordered[best + 1] if best + 1 < len(ordered) else 0.0
    return float((ordered[best] + lower) / 2)


def draw_weights(rows: int, groups: Ints | None, seed: int, repetitions: int) -> Iterator[Floats]:
    """Row weights of each bootstrap repetition, drawn by row, or by group."""
    random = np.random.default_rng(seed)
    _, unit = np.unique(np.arange(rows) if groups is None else groups, return_inverse=True)
    many = int(unit.max()) + 1
    for _ in range(repetitions):
        drawn = np.bincount(random.integers(0, many, many), minlength=many)
        yield drawn[unit].astype(np.float64)


def figures_of(
    labels: Ints, probabilities: Floats, threshold: float, groups: Ints | None, seed: int
) -> dict[str, Any]:
    """Confusion matrix and metrics with 95% bootstrap intervals, resampled by row or by group."""
    flagged = probabilities >= threshold
    names = ("true_negatives", "false_positives", "false_negatives", "true_positives")
    counts = confusion_matrix(labels, flagged, labels=[0, 1]).ravel().tolist()
    weighted = Weighted(labels, probabilities, flagged)
    point = weighted.metrics(np.ones(len(labels)))
    weights = draw_weights(len(labels), groups, seed, REPETITIONS)
    draws = [weighted.metrics(one) for one in weights]
    metrics = {}
    for metric, value in point.items():
        values = np.array([draw[metric] for draw in draws])
        metrics[metric] = {"value": value, "interval": list(interval(values[~np.isnan(values)]))}
    return {
        "confusion": dict(zip(names, counts, strict=True)),
        "metrics": metrics,
        "roc_auc": float(roc_auc_score(labels, probabilities)),
        "brier": float(np.mean((probabilities - labels) ** 2)),
        "share_of_fraud": float(np.mean(labels)),
    }


class Weighted:
    """Metrics of fixed predictions with different row weights."""

    def __init__(self, labels: Ints, probabilities: Floats, flagged: NDArray[np.bool_]) -> None:
        self._order = np.argsort(-probabilities, kind="stable")
        ordered = probabilities[self._order]
        self._ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
        self._fraud = labels[self._order].astype(float)
        self._flagged = flagged[self._order]

    def metrics(self, weights: Floats) -> dict[str, float]:
        """Each metric; NaN if the draw has no fraud. Of nothing flagged, the precision is 0."""
        weights = weights[self._order]
        fraud = weights * self._fraud
        total, caught = fraud.sum(), fraud[self._flagged].sum()
        alarms = weights[self._flagged].sum()
        if total == 0:
            return dict.fromkeys(METRICS, float("nan"))
        hits = np.cumsum(fraud)[self._ends]
        seen = np.cumsum(weights)[self._ends]
        precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
        gain = np.diff(hits / total, prepend=0.0)
        return {
            "precision": float(caught / alarms) if alarms else 0.0,
            "recall": float(caught / total),
            "f1": float(2 * caught / (alarms + total)),
            "average_precision": float((precision * gain).sum()),
        }


def _splits(table: LabelledTable, rows: Ints, parts: int, seed: int) -> list[tuple[Ints, Ints]]:
    """Stratified folds of rows, as positions; groups are not split."""
    labels = table.labels[rows]
    if table.groups is None:
        splitter: Any = StratifiedKFold(parts, shuffle=True, random_state=seed)
        return list(splitter.split(labels, labels))
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    return list(splitter.split(labels, labels, table.groups[rows]))


def _plain(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("classifier__"): value for name, value in parameters.items()}
