"""What each input adds to a forest's path length where it is the first of all to be known.

For a tree that is the mean path length of those training rows that follow the row at splits on this
input, wherever else they go, less that of all training rows. It hangs on the input's value alone,
and changes at thresholds only, so the sum over all trees is a table.
"""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from src.detection.forest import Forest
from src.detection.forest_paths import Paths


@dataclass(frozen=True, slots=True)
class FirstEffects:
    """The tables of all inputs, one after another.

    Attributes:
        starts: where each input's thresholds begin; one entry more than there are inputs.
        thresholds: of all splits on an input, ascending, each once.
        effects: for each interval between thresholds what the input adds: one entry more than
            thresholds for each input, see `first_effect`.
    """

    starts: NDArray[np.int32]
    thresholds: NDArray[np.float32]
    effects: NDArray[np.float64]

    @classmethod
    def of(cls, forest: Forest, paths: Paths, weight: NDArray[np.float64]) -> "FirstEffects":
        """Add up the trees, each with its weight, shape (n_trees,)."""
        thresholds, effects = [], []
        for feature in range(forest.n_features):
            splits = np.flatnonzero(forest.feature == feature)
            left, right = forest.left[splits], forest.right[splits]
            left_share = forest.cover[left] / forest.cover[splits]
            difference = (
                weight[paths.tree[splits]]
                * (paths.reach[splits] / paths.share[splits])
                * (paths.mean[left] - paths.mean[right])
            )
            known = np.unique(forest.threshold[splits])
            # A split counts for values that follow the splits on the input above it: in all
            # intervals from `first` on, up to its threshold for the left child, then for the right.
            first = np.searchsorted(known, paths.above[splits], side="right")
            middle = np.searchsorted(known, forest.threshold[splits]) + 1
            end = np.searchsorted(known, paths.most[splits]) + 1
            change = np.zeros(len(known) + 2)
            np.add.at(change, first, (1 - left_share) * difference)
            np.add.at(change, middle, -difference)
            np.add.at(change, end, left_share * difference)
            thresholds.append(known)
            effects.append(np.cumsum(change)[:-1])
        return cls(
            starts=np.cumsum([0, *map(len, thresholds)], dtype=np.int32),
            thresholds=np.concatenate(thresholds),
            effects=np.concatenate(effects),
        )


@numba.njit(nogil=True)
def first_effect(
    feature: int,
    value: float,
    starts: NDArray[np.int32],
    thresholds: NDArray[np.float32],
    effects: NDArray[np.float64],
) -> float:
    """What an input of this value adds when it comes first. For kernels; nothing is checked."""
    below = np.uintp(starts[feature])
    n = np.uintp(starts[feature + 1]) - below
    while n > 1:  # halves the thresholds; a branch on where to go on could not be foreseen
        half = n >> np.uintp(1)
        below += half * np.uintp(thresholds[below + half - np.uintp(1)] < value)
        n -= half
    if n == 1:
        below += np.uintp(thresholds[below] < value)
    # Each input has one interval more than thresholds.
    return float(effects[below + np.uintp(feature)])
