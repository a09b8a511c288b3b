"""Scores rows with an isolation forest, bit-identical to scikit-learn's `score_samples`.

For one row scikit-learn spends milliseconds on overhead. Here the trees lie flattened in arrays and
a compiled kernel walks them in microseconds. Three things make the result the same to the last bit:
rows are cast to float32 as scikit-learn does; thresholds are rounded *down* to float32, so that
`x <= threshold` decides the same for every float32 x; and the last step, 2**(-length), is numpy's.
"""

from dataclasses import dataclass, field
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from src.detection.forest_file import ForestContents

LEAF = -1


@dataclass(frozen=True, slots=True)
class Forest:
    """A forest flattened into one array an attribute, trees one after another, depth first.

    A split between two leaves of one value, of which isolation trees have many, changes no score
    and explains nothing: it is a leaf here.

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
    _nodes: NDArray[np.uint32] = field(init=False, repr=False, compare=False)
    _thresholds: NDArray[np.float32] = field(init=False, repr=False, compare=False)
    _steps: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        nodes = _packed(self)
        object.__setattr__(self, "_nodes", nodes)
        object.__setattr__(self, "_thresholds", nodes.view(np.float32))
        object.__setattr__(self, "_steps", _deepest(self.left, self.right))

    @classmethod
    def from_contents(cls, contents: ForestContents) -> "Forest":
        """Flatten what a model file holds."""
        trees = contents.trees
        sizes = [len(tree.left) for tree in trees]
        begins = np.cumsum([0, *sizes])
        offsets = np.repeat(begins[:-1], sizes)

        def joined(name: str) -> NDArray[Any]:
            return np.concatenate([getattr(tree, name) for tree in trees])

        is_leaf = joined("left") == -1
        left = np.where(is_leaf, LEAF, joined("left") + offsets).astype(np.int32)
        right = np.where(is_leaf, LEAF, joined("right") + offsets).astype(np.int32)
        feature = np.where(is_leaf, LEAF, joined("feature")).astype(np.int32)
        depth_value = np.where(is_leaf, joined("depth_value"), 0.0)
        kept = np.ones(len(left), dtype=np.bool_)
        _merge_leaves(left, right, feature, depth_value, kept)
        place = np.append(np.cumsum(kept) - 1, LEAF)  # the last entry is for LEAF itself
        is_leaf = feature == LEAF
        return cls(
            n_features=contents.n_features,
            denominator=contents.denominator,
            roots=np.append(0, np.cumsum(kept))[begins].astype(np.int32),
            feature=feature[kept],
            threshold=_floor_to_float32(np.where(is_leaf, 0.0, joined("threshold")))[kept],
            left=place[np.where(is_leaf, LEAF, left)][kept].astype(np.int32),
            right=place[np.where(is_leaf, LEAF, right)][kept].astype(np.int32),
            depth_value=depth_value[kept],
            cover=joined("cover").astype(np.float64)[kept],
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
        lengths = np.empty(len(rows), dtype=np.float64)
        _path_lengths(
            rows, self.roots, self._nodes, self._thresholds, self._steps,
            self.depth_value, lengths,
        )  # fmt: skip
        if self.denominator == 0:  # every tree saw a single row: scikit-learn calls that 1/2
            return np.full(len(rows), 0.5)
        scores: NDArray[np.float64] = 2 ** (lengths / -self.denominator)
        return scores


def as_float32(rows: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """Rows as the forest takes them, or None where a value is missing or leaves float32's range.

    Args:
        rows: shape (n, n_features), of any memory order.
    """
    cast = np.empty(rows.shape, dtype=np.float32)
    return cast if _cast(np.ascontiguousarray(rows, dtype=np.float64), cast) else None


_READ_ONLY = numba.types.Array(numba.float64, 2, "C", readonly=True)


@numba.njit(numba.boolean(_READ_ONLY, numba.float32[:, ::1]), cache=True, nogil=True)
def _cast(rows: NDArray[np.float64], cast: NDArray[np.float32]) -> bool:
    """Round each value to float32; whether all of them are finite then."""
    finite = True
    for row in range(rows.shape[0]):
        for column in range(rows.shape[1]):
            value = np.float32(rows[row, column])
            finite &= np.isfinite(value)
            cast[row, column] = value
    return finite


def _floor_to_float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 that is not above each value."""
    nearest = values.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest.astype(np.float64) > values, below, nearest)


@numba.njit(
    numba.void(
        numba.int32[::1], numba.int32[::1], numba.int32[::1], numba.float64[::1], numba.boolean[::1]
    ),
    cache=True, nogil=True,
)  # fmt: skip
def _merge_leaves(
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    feature: NDArray[np.int32],
    value: NDArray[np.float64],
    kept: NDArray[np.bool_],
) -> None:
    """Make leaves of the splits between leaves of one value; `kept` is left for all but those."""
    for node in range(len(feature) - 1, -1, -1):  # children come after their parents
        if feature[node] == LEAF:
            continue
        one, two = left[node], right[node]
        if feature[one] == LEAF and feature[two] == LEAF and value[one] == value[two]:
            feature[node], value[node] = LEAF, value[one]
            kept[one] = kept[two] = False


@numba.njit(numba.int64(numba.int32[::1], numba.int32[::1]), cache=True, nogil=True)
def _deepest(left: NDArray[np.int32], right: NDArray[np.int32]) -> int:
    """How many splits lie above the lowest leaf."""
    depth = np.zeros(len(left), np.int64)
    deepest = 0
    for node in range(len(left)):  # children come after their parents
        if left[node] != LEAF:
            depth[left[node]] = depth[right[node]] = depth[node] + 1
            deepest = max(deepest, depth[node] + 1)
    return deepest


def _packed(forest: Forest) -> NDArray[np.uint32]:
    """What is read of a node on the way down, side by side: a visit costs one cache line.

    Shape (n, 4): feature, threshold (the bits of a float32), left and right child. A leaf is its
    own child, whatever is asked, so that all ways down may take the same number of steps.
    """
    is_leaf = forest.feature == LEAF
    itself = np.arange(len(is_leaf))
    nodes = np.empty((len(is_leaf), 4), np.uint32)
    nodes[:, 0] = np.where(is_leaf, 0, forest.feature)
    nodes.view(np.float32)[:, 1] = forest.threshold
    nodes[:, 2] = np.where(is_leaf, itself, forest.left)
    nodes[:, 3] = np.where(is_leaf, itself, forest.right)
    return nodes


@numba.njit(inline="always")
def _child(
    nodes: NDArray[np.uint32],
    thresholds: NDArray[np.float32],
    node: np.uint64,
    rows: NDArray[np.float32],
    row: int,
) -> np.uint64:
    """Where a row goes from a node: an index, as a branch could not be predicted.

    Unsigned, since numba gives signed indices another look.
    """
    goes_right = not (rows[row, np.uint64(nodes[node, 0])] <= thresholds[node, 1])
    return np.uint64(nodes[node, np.uint64(2) + np.uint64(goes_right)])


@numba.njit(
    numba.void(
        numba.float32[:, ::1], numba.int32[::1], numba.uint32[:, ::1], numba.float32[:, ::1],
        numba.int64, numba.float64[::1], numba.float64[::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def _path_lengths(
    rows: NDArray[np.float32],
    roots: NDArray[np.int32],
    nodes: NDArray[np.uint32],
    thresholds: NDArray[np.float32],
    steps: int,
    depth_value: NDArray[np.float64],
    lengths: NDArray[np.float64],
) -> None:
    """Sum of path lengths over the trees, tree by tree in order as scikit-learn adds them.

    Each step down waits for the one before; those of four trees wait for one another's memory
    together, which takes a quarter of the time.

    Args:
        rows: to score.
        roots: see `Forest`.
        nodes: see `_packed`.
        thresholds: the same memory.
        steps: down to the lowest leaf.
        depth_value: see `Forest`.
        lengths: filled with the sums.
    """
    trees = roots.shape[0] - 1
    last = max(trees - 1, 0)
    for row in range(rows.shape[0]):
        length = 0.0
        for tree in range(0, trees, 4):
            one = np.uint64(roots[tree])
            two = np.uint64(roots[min(tree + 1, last)])
            three = np.uint64(roots[min(tree + 2, last)])
            four = np.uint64(roots[min(tree + 3, last)])
            for _ in range(steps):
                one = _child(nodes, thresholds, one, rows, row)
                two = _child(nodes, thresholds, two, rows, row)
                three = _child(nodes, thresholds, three, rows, row)
                four = _child(nodes, thresholds, four, rows, row)
            length += depth_value[one]
            if tree + 1 < trees:
                length += depth_value[two]
            if tree + 2 < trees:
                length += depth_value[three]
            if tree + 3 < trees:
                length += depth_value[four]
        lengths[row] = length
