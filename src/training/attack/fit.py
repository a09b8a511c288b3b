"""The classifier behind the attack score: which trees, and how much each transaction counts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier

from src.training.trees import Arrays, tree_columns

UNIT = "share of the trees' votes"


@dataclass(frozen=True, slots=True)
class AttackParameters:
    """Every choice that makes the attack model what it is.

    Attributes:
        n_estimators: trees.
        max_leaf_nodes: leaves of each. The time to explain a row grows with all leaves together.
        min_samples_leaf: transactions in a leaf at least.
        max_features: share of the inputs that are tried at a split.
        random_state: 0 by convention, never chosen by its result.
        arbitrage_weight: how many times a transaction counts that looks like arbitrage (sender
            absent, three or more transfers, no known router): it moves tokens as attacks do.
    """

    n_estimators: int = 100
    max_leaf_nodes: int = 64
    min_samples_leaf: int = 1
    max_features: float = 0.4
    random_state: int = 0
    arbitrage_weight: float = 5.0


def fit_trees(
    rows: NDArray[np.float64],
    is_attack: NDArray[np.bool_],
    weights: NDArray[np.float64],
    parameters: AttackParameters,
    *,
    jobs: int = 1,
) -> ExtraTreesClassifier:
    """Fit the classifier; both classes weigh the same in all.

    Args:
        rows: inputs, shape (n, number of inputs).
        is_attack: shape (n,); some are, some are not.
        weights: how much each row counts within its class, shape (n,).
        parameters: the choices.
        jobs: processes that fit trees; the result is the same.
    """
    balanced = np.where(
        is_attack,
        weights / weights[is_attack].sum(),
        weights / weights[~is_attack].sum(),
    )
    classifier = ExtraTreesClassifier(
        n_estimators=parameters.n_estimators,
        max_leaf_nodes=parameters.max_leaf_nodes,
        min_samples_leaf=parameters.min_samples_leaf,
        max_features=parameters.max_features,
        random_state=parameters.random_state,
        n_jobs=jobs,
    )
    classifier.fit(rows.astype(np.float32), is_attack, sample_weight=balanced * len(rows) / 2)
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
