"""The classifier behind the attack score: which trees, and how much each transaction counts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier

from src.training.bundle import Arrays, tree_columns

UNIT = "share of the trees' votes"

WeightedRows = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Rows of inputs, and how much each counts within its class."""


@dataclass(frozen=True, slots=True)
class AttackParameters:
    """Every choice that makes the attack model what it is. MODEL_LOG.md has what was tried besides.

    Attributes:
        n_estimators: number of trees.
        min_samples_leaf: different rows in a leaf at least. With one, most of the background is
            exactly 0 and simple thefts cannot be told from it (AUC 0.89 instead of 0.95).
        max_features: share of the inputs that are tried at a split.
        random_state: 0 by convention, never chosen by its result.
        arbitrage_weight: how many times a transaction counts that looks like arbitrage (sender
            absent, three or more transfers, no known router): it moves tokens as attacks do. More
            lowers its share of the alarms, and recall with it.
    """

    n_estimators: int = 100
    min_samples_leaf: int = 3
    max_features: float = 0.5
    random_state: int = 0
    arbitrage_weight: float = 10.0


def fit_trees(
    background: WeightedRows,
    attacks: WeightedRows,
    parameters: AttackParameters,
    *,
    jobs: int = 1,
) -> ExtraTreesClassifier:
    """Fit the classifier; both classes weigh the same in all.

    Equal rows of a class become one that weighs as much as all of them: most traffic is the same
    few shapes, and a leaf of three rows should hold three different ones. `jobs` does not change
    the result.
    """
    rows = np.concatenate([background[0], attacks[0]])
    is_attack = np.arange(len(rows)) >= len(background[0])
    balanced = np.concatenate([weights / weights.sum() for _, weights in (background, attacks)])
    labelled = np.column_stack([rows.astype(np.float32), is_attack.astype(np.float32)])
    distinct, number = np.unique(labelled, axis=0, return_inverse=True)
    classifier = ExtraTreesClassifier(
        n_estimators=parameters.n_estimators,
        min_samples_leaf=parameters.min_samples_leaf,
        max_features=parameters.max_features,
        random_state=parameters.random_state,
        n_jobs=jobs,
    )
    classifier.fit(
        distinct[:, :-1],
        distinct[:, -1] > 0,
        sample_weight=np.bincount(number.ravel(), weights=balanced) * len(distinct) / 2,
    )
    return classifier


def outputs_of(classifier: Any, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The classifier's output for rows of inputs, shape (n,), by scikit-learn."""
    outputs: NDArray[np.float64] = classifier.predict_proba(rows.astype(np.float32))[:, 1]
    return outputs


def attack_arrays(classifier: Any) -> Arrays:
    """The fitted classifier as the arrays of the model file: its output is the sum of `value`."""
    trees = [estimator.tree_ for estimator in classifier.estimators_]
    value = np.concatenate([tree.value[:, 0, 1] for tree in trees]) / len(trees)
    cover = np.concatenate([tree.weighted_n_node_samples for tree in trees])
    return {
        **tree_columns(trees),
        "value": value.astype(np.float64),
        "cover": cover.astype(np.float64),
        "offset": np.array(0.0),
    }
