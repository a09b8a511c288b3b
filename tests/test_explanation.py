"""Explanations, held against the shap package and against their own definition."""

import itertools
import math

import numpy as np
import pytest
import shap

from src.detection.errors import ModelIncompatible
from src.detection.explanation import Explainer
from src.detection.forest import LEAF, Forest
from tests.forests import fitted, flattened, training_rows


@pytest.mark.parametrize("parameters", [{}, {"max_features": 0.6}, {"max_samples": 1000}], ids=str)
def test_weights_are_those_of_the_shap_package(parameters):
    rows = training_rows()
    model = fitted(rows, **parameters)
    forest = flattened(model)
    explainer = Explainer.for_forest(forest)
    ours = np.array([explainer.weights(row) for row in rows[:200]])
    # shap explains the mean path length of a tree; log2(score) = -length / c(max_samples).
    theirs = -shap.TreeExplainer(model).shap_values(rows[:200]) / (
        forest.denominator / forest.n_trees
    )
    assert np.abs(ours - theirs).max() < 1e-12


def test_weights_and_base_add_up_to_the_logarithm_of_the_score():
    rows = training_rows()
    forest = flattened(fitted(rows, n_estimators=100))
    explainer = Explainer.for_forest(forest)
    sums = np.array([explainer.base + explainer.weights(row).sum() for row in rows[:300]])
    assert np.abs(sums - np.log2(forest.score(rows[:300]))).max() < 1e-12


def test_weights_are_shapley_values_by_their_definition():
    """Average the marginal contribution over all orderings of the path-dependent game."""
    rows = training_rows(columns=4, n=400)
    model = fitted(rows, n_estimators=3, max_samples=64)
    forest = flattened(model)
    row = rows[5]

    def value(known, node):
        if forest.feature[node] < 0:
            return forest.depth_value[node]
        left, right = forest.left[node], forest.right[node]
        if forest.feature[node] in known:
            follow = left if row[forest.feature[node]] <= forest.threshold[node] else right
            return value(known, follow)
        cover = forest.cover
        return (cover[left] * value(known, left) + cover[right] * value(known, right)) / cover[node]

    def game(known):
        return sum(value(known, root) for root in forest.roots[:-1])

    expected = np.zeros(4)
    for order in itertools.permutations(range(4)):
        for position, feature in enumerate(order):
            before = frozenset(order[:position])
            expected[feature] += game(before | {feature}) - game(before)
    expected /= math.factorial(4) * -forest.denominator
    assert Explainer.for_forest(forest).weights(row) == pytest.approx(expected, abs=1e-13)


def test_an_explanation_is_deterministic():
    rows = training_rows()
    explainer = Explainer.for_forest(flattened(fitted(rows)))
    first = explainer.weights(rows[3])
    assert all(np.array_equal(first, explainer.weights(rows[3])) for _ in range(20))


def test_inputs_that_no_tree_splits_on_weigh_nothing():
    rows = training_rows()  # column 1 is constant
    explainer = Explainer.for_forest(flattened(fitted(rows)))
    assert explainer.weights(rows[0])[1] == 0


def test_a_forest_without_splits_explains_nothing():
    rows = np.ones((50, 3), dtype=np.float32)
    explainer = Explainer.for_forest(flattened(fitted(rows, max_samples=1)))
    assert explainer.base == -1
    assert not explainer.weights(rows[0]).any()


def staircase(depth):
    """A tree whose one long path splits on `depth` distinct inputs."""
    inner, n_nodes = 2 * np.arange(depth), 2 * depth + 1
    feature = np.full(n_nodes, LEAF, dtype=np.int32)
    left, right = feature.copy(), feature.copy()
    feature[inner], left[inner], right[inner] = np.arange(depth), inner + 1, inner + 2
    cover = np.ones(n_nodes)
    cover[inner] = np.arange(depth + 1, 1, -1)
    return Forest(
        n_features=depth,
        denominator=1.0,
        roots=np.array([0, n_nodes], dtype=np.int32),
        feature=feature,
        threshold=np.zeros(n_nodes, dtype=np.float32),
        left=left,
        right=right,
        depth_value=np.where(feature == LEAF, np.arange(n_nodes) / 2, 0.0),
        cover=cover,
    )


def test_paths_of_sixteen_inputs_are_explained_exactly():
    forest = staircase(16)
    explainer = Explainer.for_forest(forest)
    row = np.ones(16, dtype=np.float32)
    total = explainer.base + explainer.weights(row).sum()
    assert total == pytest.approx(np.log2(forest.score(row[np.newaxis])[0]), abs=1e-12)


def test_paths_beyond_the_exactness_of_the_quadrature_are_refused():
    with pytest.raises(ModelIncompatible, match="17 features"):
        Explainer.for_forest(staircase(17))
