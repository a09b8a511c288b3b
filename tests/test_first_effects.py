"""What an input adds when it comes first, held against walks down the trees."""

import numba
import numpy as np
import pytest

from src.detection.first_effects import FirstEffects, first_effect
from src.detection.forest_paths import Paths
from tests.forests import fitted, flattened, training_rows


@numba.njit
def looked_up(feature, value, starts, thresholds, effects):
    return first_effect(feature, value, starts, thresholds, effects)


def walked(forest, node, feature, value):
    """Mean path length below a node where the row's value of one input is all that is known."""
    if forest.feature[node] < 0:
        return forest.depth_value[node]
    left, right = forest.left[node], forest.right[node]
    if forest.feature[node] == feature:
        return walked(forest, left if value <= forest.threshold[node] else right, feature, value)
    cover = forest.cover
    return (
        cover[left] * walked(forest, left, feature, value)
        + cover[right] * walked(forest, right, feature, value)
    ) / cover[node]


@pytest.fixture(scope="module")
def forest():
    return flattened(fitted(training_rows(columns=4), n_estimators=5))


@pytest.mark.parametrize("feature", [0, 2, 3])
def test_effects_are_those_of_walks_also_on_thresholds_and_beyond_all(forest, feature):
    weight = np.linspace(0.5, 1.5, forest.n_trees)
    tables = FirstEffects.of(forest, Paths.of(forest), weight)
    splits = forest.threshold[forest.feature == feature]
    values = np.concatenate(
        [splits, np.nextafter(splits, np.float32(np.inf)), np.float32([-1e30, 1e30])]
    )
    for value in values[:: max(1, len(values) // 60)]:
        expected = sum(
            w * (walked(forest, root, feature, value) - walked(forest, root, None, value))
            for w, root in zip(weight, forest.roots[:-1], strict=True)
        )
        found = looked_up(feature, value, tables.starts, tables.thresholds, tables.effects)
        assert found == pytest.approx(expected, abs=1e-12)


def test_an_input_that_no_tree_splits_on_adds_nothing(forest):
    tables = FirstEffects.of(forest, Paths.of(forest), np.ones(forest.n_trees))
    for value in (-1.0, 0.5, 7.0):
        assert looked_up(1, value, tables.starts, tables.thresholds, tables.effects) == 0
