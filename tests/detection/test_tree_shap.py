"""Explanations, held against the shap package and against their own definition."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import shap

from src.detection.forest.forest import Forest
from src.detection.trees.trees import LEAF, Trees
from tests.support.forests import fitted, flattened, training_rows


@pytest.mark.parametrize("parameters", [{}, {"max_features": 0.6}, {"max_samples": 1000}], ids=str)
def test_weights_are_those_of_the_shap_package(parameters):
    rows = training_rows()
    model = fitted(rows, **parameters)
    forest = flattened(model)
    explainer = forest.explainer()
    ours = np.array([explainer.weights(row) for row in rows[:200]])
    # shap explains the mean path length of a tree; log2(score) = -length / c(max_samples).
    theirs = -shap.TreeExplainer(model).shap_values(rows[:200]) / (
        forest.denominator / forest.trees.n_trees
    )
    assert np.abs(ours - theirs).max() < 1e-12


def test_weights_and_base_add_up_to_the_logarithm_of_the_score():
    rows = training_rows()
    forest = flattened(fitted(rows, n_estimators=100))
    explainer = forest.explainer()
    sums = np.array([explainer.base + explainer.weights(row).sum() for row in rows[:300]])
    assert np.abs(sums - np.log2(forest.score(rows[:300]))).max() < 1e-12


def test_weights_are_shapley_values_by_their_definition():
    """Average the marginal contribution over all orderings of the path-dependent game."""
    rows = training_rows(columns=4, n=400)
    model = fitted(rows, n_estimators=3, max_samples=64)
    forest = flattened(model)
    row = rows[5]

    trees = forest.trees

    def value(known, node):
        if trees.feature[node] < 0:
            return trees.value[node]
        left, right = trees.left[node], trees.right[node]
        if trees.feature[node] in known:
            follow = left if row[trees.feature[node]] <= trees.threshold[node] else right
            return value(known, follow)
        cover = trees.cover
        return (cover[left] * value(known, left) + cover[right] * value(known, right)) / cover[node]

    def game(known):
        return sum(value(known, root) for root in trees.roots[:-1])

    expected = np.zeros(4)
    for order in itertools.permutations(range(4)):
        for position, feature in enumerate(order):
            before = frozenset(order[:position])
            expected[feature] += game(before | {feature}) - game(before)
    expected /= math.factorial(4) * -forest.denominator
    assert forest.explainer().weights(row) == pytest.approx(expected, abs=1e-13)


def test_an_explanation_is_deterministic():
    rows = training_rows()
    explainer = flattened(fitted(rows)).explainer()
    first = explainer.weights(rows[3])
    assert all(np.array_equal(first, explainer.weights(rows[3])) for _ in range(20))


def test_inputs_that_no_tree_splits_on_weigh_nothing():
    rows = training_rows()  # column 1 is constant
    explainer = flattened(fitted(rows)).explainer()
    assert explainer.weights(rows[0])[1] == 0


def test_a_forest_without_splits_explains_nothing():
    rows = np.ones((50, 3), dtype=np.float32)
    explainer = flattened(fitted(rows, max_samples=1)).explainer()
    assert explainer.base == -1
    assert not explainer.weights(rows[0]).any()


def joined(forests, denominator):
    """The trees of several forests as those of one."""
    several = [forest.trees for forest in forests]
    offsets = np.cumsum([0, *(len(trees.feature) for trees in several)])

    def together(name, *, is_node=False):
        arrays = [getattr(trees, name) for trees in several]
        if is_node:
            arrays = [
                np.where(a < 0, a, a + offset) for a, offset in zip(arrays, offsets, strict=False)
            ]
        return np.concatenate(arrays)

    roots = [trees.roots[:-1] + offset for trees, offset in zip(several, offsets, strict=False)]
    trees = Trees(
        n_features=several[0].n_features,
        roots=np.concatenate([*roots, offsets[-1:]]).astype(np.int32),
        feature=together("feature"),
        threshold=together("threshold"),
        left=together("left", is_node=True).astype(np.int32),
        right=together("right", is_node=True).astype(np.int32),
        value=together("value"),
        cover=together("cover"),
    )
    return Forest(trees, denominator, "")


def staircase(depth, n_features=None):
    """A tree whose one long path splits on `depth` distinct inputs, half of the rows each time."""
    inner, n_nodes = 2 * np.arange(depth), 2 * depth + 1
    feature = np.full(n_nodes, LEAF, dtype=np.int32)
    left, right = feature.copy(), feature.copy()
    feature[inner], left[inner], right[inner] = np.arange(depth), inner + 1, inner + 2
    cover = 2.0 ** np.append(np.repeat(depth - np.arange(depth), 2), 0)
    cover[left[inner]] /= 2
    trees = Trees(
        n_features=n_features or depth,
        roots=np.array([0, n_nodes], dtype=np.int32),
        feature=feature,
        threshold=np.zeros(n_nodes, dtype=np.float32),
        left=left,
        right=right,
        value=np.where(feature == LEAF, np.arange(n_nodes) / 2, 0.0),
        cover=cover,
    )
    return Forest(trees, 1.0, "")


@pytest.mark.parametrize("depth", [1, 2, 11, 12, 13, 24, 40])
def test_paths_of_any_number_of_inputs_are_explained_exactly(depth):
    forest = staircase(depth)
    explainer = forest.explainer()
    for last in (0.0, 1.0):  # down the whole staircase, and off its last step
        row = np.ones(depth, dtype=np.float32)
        row[-1] = last
        total = explainer.base + explainer.weights(row).sum()
        assert total == pytest.approx(np.log2(forest.score(row[np.newaxis])[0]), abs=1e-12)


def test_deep_trees_of_many_inputs_are_explained_as_by_the_shap_package():
    rows = training_rows(n=6000, columns=24)
    model = fitted(rows, n_estimators=12, max_samples=2048)
    forest = flattened(model)
    explainer = forest.explainer()
    ours = np.array([explainer.weights(row) for row in rows[:40]])
    theirs = -shap.TreeExplainer(model).shap_values(rows[:40]) / (
        forest.denominator / forest.trees.n_trees
    )
    assert np.abs(ours - theirs).max() < 1e-12


def test_inputs_split_on_again_and_again_are_explained_as_by_the_shap_package():
    rows = training_rows(n=2000, columns=3)  # two inputs on paths of up to ten splits
    model = fitted(rows, max_samples=1024)
    forest = flattened(model)
    explainer = forest.explainer()
    ours = np.array([explainer.weights(row) for row in rows[:40]])
    theirs = -shap.TreeExplainer(model).shap_values(rows[:40]) / (
        forest.denominator / forest.trees.n_trees
    )
    assert np.abs(ours - theirs).max() < 1e-12


def test_rows_far_beyond_all_training_rows_have_finite_weights():
    rows = training_rows()
    explainer = flattened(fitted(rows)).explainer()
    largest = np.finfo(np.float32).max
    for row in (np.full(9, largest), np.full(9, -largest), np.zeros(9)):
        assert np.isfinite(explainer.weights(row.astype(np.float32))).all()


def test_trees_are_explained_alike_whatever_trees_stand_beside_them():
    rows = training_rows(n=6000, columns=24)
    one = flattened(fitted(rows, n_estimators=4, max_samples=1024))
    two = flattened(fitted(rows, n_estimators=6, max_samples=2048))
    steep = dataclasses.replace(staircase(24), denominator=2.0)
    forests = [one, steep, two, one, staircase(18, n_features=24)]
    for row in (*rows[:20], -rows[0]):
        expected = sum(f.explainer().weights(row) * f.denominator for f in forests)
        assert joined(forests, 1.0).explainer().weights(row) == pytest.approx(expected, abs=1e-12)


def test_trees_without_a_split_among_others_change_nothing():
    rows = training_rows()
    forest = flattened(fitted(rows, n_estimators=4))
    stump = flattened(fitted(np.ones((50, 9), dtype=np.float32), n_estimators=1, max_samples=1))
    mixed = joined([stump, forest, stump], forest.denominator)
    weights = forest.explainer().weights(rows[0])
    assert mixed.explainer().weights(rows[0]) == pytest.approx(weights, abs=1e-15)
