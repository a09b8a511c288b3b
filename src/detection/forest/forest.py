"""Scores rows with an isolation forest, bit-identical to scikit-learn's `score_samples`.

For one row scikit-learn spends milliseconds on overhead. Here the trees lie flattened in arrays and
a compiled kernel walks them in microseconds. Three things make the result the same to the last bit:
rows are cast to float32 as scikit-learn does; thresholds are rounded *down* to float32, so that
`x <= threshold` decides the same for every float32 x; and the last step, 2**(-length), is numpy's.
"""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from src.detection.forest.forest_file import ForestContents

LEAF = -1


@dataclass(frozen=True, slots=True)
class Forest:
    """A forest flattened into one array an attribute, trees one after another, depth first.

    Arrays of one entry a node: `feature` (LEAF at leaves), `threshold` (float32), `left`, `right`
    (indices into these arrays), `depth_value` (path length that a leaf adds), `cover` (training
    rows that reached the node). `roots` has n_trees + 1 entries: tree t is roots[t]:roots[t + 1].
    """

    n_features: int
    denominator: float
    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    depth_value: NDArray[np.float64]
    cover: NDArray[np.float64]

    @classmethod
    def from_contents(cls, contents: ForestContents) -> "Forest":
        """Flatten what a model file holds."""
        trees = contents.trees
        sizes = [len(tree.left) for tree in trees]
        begins = np.cumsum([0, *sizes])
        offsets = np.repeat(begins[:-1], sizes)

        def joined(name: str) -> NDArray[Any]:
            return np.concatenate([getattr(tree, name) for tree in trees])

        is_leaf = joined("left") == LEAF
        return cls(
            n_features=contents.n_features,
            denominator=contents.denominator,
            roots=begins.astype(np.int32),
            feature=np.where(is_leaf, LEAF, joined("feature")).astype(np.int32),
            threshold=_floor_to_float32(np.where(is_leaf, 0.0, joined("threshold"))),
            left=np.where(is_leaf, LEAF, joined("left") + offsets).astype(np.int32),
            right=np.where(is_leaf, LEAF, joined("right") + offsets).astype(np.int32),
            depth_value=np.where(is_leaf, joined("depth_value"), 0.0),
            cover=joined("cover").astype(np.float64),
        )

    @property
    def n_trees(self) -> int:
        """Number of trees."""
        return len(self.roots) - 1

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Anomaly scores in [0, 1], near 1 = anomalous; `abs(score_samples(rows))`.

        Args:
            rows: shape (n, n_features), C-contiguous, finite. The caller has checked: a NaN would
                go right at every split and score without a word.
        """
        if self.denominator == 0:  # every tree saw a single row: scikit-learn calls that 1/2
            return np.full(len(rows), 0.5)
        lengths = np.empty(len(rows), dtype=np.float64)
        _path_lengths(
            rows, self.roots, self.feature, self.threshold, self.left, self.right,
            self.depth_value, lengths,
        )  # fmt: skip
        scores: NDArray[np.float64] = 2 ** (lengths / -self.denominator)
        return scores


def as_float32(rows: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """Rows as the forest takes them, or None where a value is missing or leaves float32's range.

    Args:
        rows: shape (n, n_features), of any memory order.
    """
    with np.errstate(over="ignore"):
        cast = rows.astype(np.float32, order="C")
    return cast if np.isfinite(cast).all() else None


def _floor_to_float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 that is not above each value."""
    nearest = values.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest.astype(np.float64) > values, below, nearest)


@numba.njit(
    numba.void(
        numba.float32[:, ::1], numba.int32[::1], numba.int32[::1], numba.float32[::1],
        numba.int32[::1], numba.int32[::1], numba.float64[::1], numba.float64[::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def _path_lengths(
    rows: NDArray[np.float32],
    roots: NDArray[np.int32],
    feature: NDArray[np.int32],
    threshold: NDArray[np.float32],
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    depth_value: NDArray[np.float64],
    lengths: NDArray[np.float64],
) -> None:
    """Fill `lengths` with each row's path lengths, summed tree by tree as scikit-learn does."""
    for row in range(len(rows)):
        length = 0.0
        for node in roots[:-1]:
            while feature[node] != LEAF:
                goes_left = rows[row, feature[node]] <= threshold[node]
                node = left[node] if goes_left else right[node]  # noqa: PLW2901
            length += depth_value[node]
        lengths[row] = length
