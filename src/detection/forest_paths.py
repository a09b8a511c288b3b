"""What the paths down a forest's trees say of its nodes, whatever row is asked about."""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from src.detection.forest import LEAF, Forest

NO_PARENT = -1


@dataclass(frozen=True, slots=True)
class Paths:
    """One entry a node of the forest in every array.

    Attributes:
        tree: number of the node's tree.
        parent: the split above, `NO_PARENT` at roots.
        depth: splits above.
        features: distinct features among them.
        repeats: whether one of them is on the feature that this split asks about.
        changes: how often the path down to this split changes between splits that repeat a feature
            and splits that do not.
        above, most: rows with above < value <= most of this split's feature have followed all
            splits on it above.
        share: share of the training rows that have, among those that reached these splits.
        reach: share of the tree's training rows that reach the node.
        mean: mean path length of the leaves below, weighted with their training rows.
    """

    tree: NDArray[np.int64]
    parent: NDArray[np.int32]
    depth: NDArray[np.int32]
    features: NDArray[np.int32]
    repeats: NDArray[np.bool_]
    changes: NDArray[np.int32]
    above: NDArray[np.float32]
    most: NDArray[np.float32]
    share: NDArray[np.float64]
    reach: NDArray[np.float64]
    mean: NDArray[np.float64]

    @classmethod
    def of(cls, forest: Forest) -> "Paths":
        """Follow all paths of a forest."""
        n = len(forest.feature)
        tree = np.repeat(np.arange(forest.n_trees), np.diff(forest.roots))
        parent = np.full(n, NO_PARENT, dtype=np.int32)
        splits = np.flatnonzero(forest.feature != LEAF)
        parent[forest.left[splits]] = splits
        parent[forest.right[splits]] = splits
        paths = cls(
            tree=tree,
            parent=parent,
            depth=np.zeros(n, dtype=np.int32),
            features=np.zeros(n, dtype=np.int32),
            repeats=np.zeros(n, dtype=np.bool_),
            changes=np.zeros(n, dtype=np.int32),
            above=np.full(n, -np.inf, dtype=np.float32),
            most=np.full(n, np.inf, dtype=np.float32),
            share=np.ones(n),
            reach=forest.cover / forest.cover[forest.roots[tree]],
            mean=forest.depth_value.copy(),
        )
        _climb(
            forest.feature, forest.threshold, forest.left, forest.right, forest.cover, parent,
            paths.depth, paths.features, paths.repeats, paths.changes, paths.above, paths.most,
            paths.share, paths.mean,
        )  # fmt: skip
        return paths


@numba.njit(
    numba.void(
        numba.int32[::1], numba.float32[::1], numba.int32[::1], numba.int32[::1],
        numba.float64[::1], numba.int32[::1], numba.int32[::1], numba.int32[::1],
        numba.boolean[::1], numba.int32[::1], numba.float32[::1], numba.float32[::1],
        numba.float64[::1], numba.float64[::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def _climb(
    feature: NDArray[np.int32],
    threshold: NDArray[np.float32],
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    cover: NDArray[np.float64],
    parent: NDArray[np.int32],
    depth: NDArray[np.int32],
    features: NDArray[np.int32],
    repeats: NDArray[np.bool_],
    changes: NDArray[np.int32],
    above: NDArray[np.float32],
    most: NDArray[np.float32],
    share: NDArray[np.float64],
    mean: NDArray[np.float64],
) -> None:
    """Fill depth to mean, see `Paths`. Parents come before their children."""
    for node in range(feature.shape[0]):
        up = parent[node]
        if up >= 0:
            depth[node] = depth[up] + 1
            features[node] = features[up] + (not repeats[up])
        if feature[node] == LEAF:
            continue
        entered = node
        while parent[entered] >= 0 and feature[parent[entered]] != feature[node]:
            entered = parent[entered]
        twin = parent[entered]  # the nearest split above on the same feature
        if twin >= 0:
            repeats[node] = True
            share[node] = share[twin] * (cover[entered] / cover[twin])
            above[node], most[node] = above[twin], most[twin]
            if entered == left[twin]:
                most[node] = min(most[twin], threshold[twin])
            else:
                above[node] = max(above[twin], threshold[twin])
        if up >= 0:
            changes[node] = changes[up] + (repeats[node] != repeats[up])
    for node in range(feature.shape[0] - 1, -1, -1):
        if feature[node] != LEAF:
            one, two = left[node], right[node]
            mean[node] = (cover[one] * mean[one] + cover[two] * mean[two]) / cover[node]
