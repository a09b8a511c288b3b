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

from src.detection.errors import ModelIncompatible
from src.detection.forest_file import ForestContents

LEAF = -1

_FEATURE_BITS = 8
_FEATURE = np.uint64(2**_FEATURE_BITS - 1)


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
    _values: NDArray[np.float64] = field(init=False, repr=False, compare=False)
    _steps: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        nodes, values = _packed(self)
        object.__setattr__(self, "_nodes", nodes)
        object.__setattr__(self, "_thresholds", nodes.view(np.float32))
        object.__setattr__(self, "_values", values)
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
        if self.denominator == 0:  # every tree saw a single row: scikit-learn calls that 1/2
            return np.full(len(rows), 0.5)
        exponents = np.empty(len(rows), dtype=np.float64)
        _path_lengths(
            rows, self.n_trees, self._nodes, self._thresholds, self._values, self._steps,
            -self.denominator, exponents,
        )  # fmt: skip
        scores: NDArray[np.float64] = 2**exponents
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


def _packed(forest: Forest) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
    """What is read of a node on the way down, in eight bytes, and what each leaf adds at its end.

    First come all roots, then the children of one split after another, left and right side by side.
    Shape (n, 2): the threshold (the bits of a float32), and the place of the left child with the
    feature below it. A leaf is its own left child and nothing lies above its threshold, so that all
    ways down may take the same number of steps.

    Raises:
        ModelIncompatible: more nodes or features than fit.
    """
    n = len(forest.feature)
    if n >= 2 ** (32 - _FEATURE_BITS) or forest.n_features > 2**_FEATURE_BITS:
        raise ModelIncompatible(
            f"a forest of {n} nodes and {forest.n_features} inputs is too large: "
            "train with fewer trees or a smaller max_samples"
        )
    splits = np.flatnonzero(forest.feature != LEAF)
    place = np.empty(n, np.int64)
    place[forest.roots[:-1]] = np.arange(forest.n_trees)
    place[forest.left[splits]] = forest.n_trees + 2 * np.arange(len(splits))
    place[forest.right[splits]] = place[forest.left[splits]] + 1
    first = place.copy()
    first[splits] = place[forest.left[splits]]
    asked = np.zeros(n, np.int64)
    asked[splits] = forest.feature[splits]
    nodes, values = np.empty((n, 2), np.uint32), np.empty(n)
    nodes.view(np.float32)[place, 0] = np.where(forest.feature == LEAF, np.inf, forest.threshold)
    nodes[place, 1] = first << _FEATURE_BITS | asked
    values[place] = forest.depth_value
    return nodes, values


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
    what = np.uint64(nodes[node, 1])
    goes_right = not (rows[row, what & _FEATURE] <= thresholds[node, 0])
    return (what >> np.uint64(_FEATURE_BITS)) + np.uint64(goes_right)


@numba.njit(
    numba.void(
        numba.float32[:, ::1], numba.int64, numba.uint32[:, ::1], numba.float32[:, ::1],
        numba.float64[::1], numba.int64, numba.float64, numba.float64[::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def _path_lengths(
    rows: NDArray[np.float32],
    trees: int,
    nodes: NDArray[np.uint32],
    thresholds: NDArray[np.float32],
    values: NDArray[np.float64],
    steps: int,
    divisor: float,
    lengths: NDArray[np.float64],
) -> None:
    """Sum of path lengths over the trees, tree by tree in order as scikit-learn adds them.

    Each step down waits for the one before; those of four trees wait for one another's memory
    together, which takes a quarter of the time.

    Args:
        rows: to score.
        trees: their number.
        nodes: see `_packed`.
        thresholds: the same memory.
        values: see `_packed`.
        steps: down to the lowest leaf.
        divisor: of the sums.
        lengths: filled with the sums, divided.
    """
    last = max(trees - 1, 0)
    for row in range(rows.shape[0]):
        length = 0.0
        for tree in range(0, trees, 4):
            one = np.uint64(tree)
            two = np.uint64(min(tree + 1, last))
            three = np.uint64(min(tree + 2, last))
            four = np.uint64(min(tree + 3, last))
            for _ in range(steps):
                one = _child(nodes, thresholds, one, rows, row)
                two = _child(nodes, thresholds, two, rows, row)
                three = _child(nodes, thresholds, three, rows, row)
                four = _child(nodes, thresholds, four, rows, row)
            length += values[one]
            if tree + 1 < trees:
                length += values[two]
            if tree + 2 < trees:
                length += values[three]
            if tree + 3 < trees:
                length += values[four]
        lengths[row] = length / divisor
