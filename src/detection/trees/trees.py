"""Decision trees flattened into arrays, and the kernel that sums a row's leaf values over them.

For one row scikit-learn spends milliseconds on overhead; the compiled kernel takes microseconds.
Two things make each row reach scikit-learn's own leaves: rows are cast to float32 as scikit-learn
does, and thresholds are rounded *down* to float32, so that `x <= threshold` decides the same for
every float32 x. Leaf values are added tree by tree, in scikit-learn's order.

The isolation forest, the attack model and a fraud model's trees are all such sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numba
import numpy as np
from numpy.typing import NDArray

from src.detection.errors import InvalidInput, ModelMalformed

LEAF = -1
_MAX_DEPTH = 1000  # trained trees have a few dozen levels


@dataclass(frozen=True, slots=True)
class Trees:
    """Trees in one array an attribute, one tree after another, parents before their children.

    Arrays of one entry a node: `feature` (LEAF at leaves), `threshold` (float32), `left`, `right`
    (indices into these arrays, LEAF at leaves), `value` (what a leaf adds, 0 at splits), `cover`
    (training rows that reached the node, positive). `roots` has n_trees + 1 entries: tree t is
    roots[t]:roots[t + 1].
    """

    n_features: int
    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float64]
    cover: NDArray[np.float64]

    @classmethod
    def from_columns(
        cls,
        n_features: int,
        *,
        offsets: NDArray[np.int64],
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        feature: NDArray[np.int64],
        threshold: NDArray[np.float64],
        value: NDArray[np.float64],
        cover: NDArray[np.float64] | None = None,
    ) -> Self:
        """Check that every walk stays inside and ends, and flatten.

        `offsets` has n_trees + 1 entries: tree t has the nodes offsets[t]:offsets[t + 1]. Of one
        entry a node: `left`, `right` (children, relative to the tree; LEAF at leaves), `feature`
        and `threshold` (a row goes left when x[feature] <= threshold; ignored at leaves), `value`
        (what a leaf adds; ignored at splits), `cover` (see the class; None where nothing will be
        explained).

        Raises:
            ModelMalformed: these are no trees.
        """
        n_nodes = len(left)
        cover = np.ones(n_nodes) if cover is None else cover
        if not all(len(c) == n_nodes for c in (right, feature, threshold, value, cover)):
            raise ModelMalformed("the trees' columns differ in length")
        sizes = np.diff(offsets)
        if (
            len(offsets) < 2
            or offsets[0] != 0
            or offsets[-1] != n_nodes
            or (sizes < 1).any()
            or (offsets > n_nodes).any()  # differences of huge ones overflow, and seem positive
        ):
            raise ModelMalformed("the trees' offsets do not cover the nodes")
        root = np.repeat(offsets[:-1], sizes)
        is_leaf = left == LEAF
        _check_structure(left + root, right + root, is_leaf, root, np.repeat(offsets[1:], sizes))
        _check_depth(left + root, right + root, is_leaf, offsets[:-1])
        if not (is_leaf | ((feature >= 0) & (feature < n_features))).all():  # nor NaN
            raise ModelMalformed("a tree splits on an input that does not exist")
        if not ((cover > 0) & np.isfinite(cover)).all():
            raise ModelMalformed("a node was reached by no training row")
        return cls(
            n_features=n_features,
            roots=offsets.astype(np.int32),
            feature=np.where(is_leaf, LEAF, feature).astype(np.int32),
            threshold=_floor_to_float32(np.where(is_leaf, 0.0, threshold)),
            left=np.where(is_leaf, LEAF, left + root).astype(np.int32),
            right=np.where(is_leaf, LEAF, right + root).astype(np.int32),
            value=np.where(is_leaf, value, 0.0),
            cover=cover.astype(np.float64),
        )

    @property
    def n_trees(self) -> int:
        """Number of trees."""
        return len(self.roots) - 1

    def sums(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Each row's leaf values, summed over the trees, shape (n,).

        Args:
            rows: shape (n, n_features), C-contiguous, finite. The caller has checked: a NaN would
                go right at every split without a word.
        """
        sums = np.zeros(len(rows), dtype=np.float64)
        _leaf_sums(
            rows, self.roots, self.feature, self.threshold, self.left, self.right, self.value, sums
        )
        return sums


def model_rows(rows: NDArray[np.float64], inputs: Sequence[str]) -> NDArray[np.float32]:
    """Rows as trees take them.

    Args:
        rows: shape (n, number of inputs), of any memory order.
        inputs: names of the columns.

    Raises:
        InvalidInput: another number of columns; a value is missing or leaves float32's range.
    """
    if rows.ndim != 2 or rows.shape[1] != len(inputs):
        raise InvalidInput(f"rows of {len(inputs)} inputs expected, got {rows.shape}")
    with np.errstate(over="ignore"):
        cast = rows.astype(np.float32, order="C")
    finite = np.isfinite(cast)
    if not finite.all():
        column = int(np.flatnonzero(~finite.all(axis=0))[0])
        raise InvalidInput(f"input {inputs[column]} is missing or not finite")
    return cast


def _check_structure(
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    is_leaf: NDArray[np.bool_],
    root: NDArray[np.int64],
    end: NDArray[np.int64],
) -> None:
    """Each node but the root has one parent, which comes before it: then every walk ends.

    `left` and `right` are absolute here; `root` and `end` are those of each node's tree.
    """
    at = np.arange(len(left))
    if (right[is_leaf] != LEAF + root[is_leaf]).any():
        raise ModelMalformed("a tree's nodes do not form a tree")
    children = np.concatenate([left[~is_leaf], right[~is_leaf]])
    parents, ends = np.tile(at[~is_leaf], 2), np.tile(end[~is_leaf], 2)
    if (
        (children <= parents).any()
        or (children >= ends).any()
        or not np.array_equal(np.sort(children), at[at != root])
    ):
        raise ModelMalformed("a tree's nodes do not form a tree")


def _check_depth(
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    is_leaf: NDArray[np.bool_],
    roots: NDArray[np.int64],
) -> None:
    """No path is so long that to explain the trees takes hours: it grows with nodes times depth."""
    level = roots
    for _ in range(_MAX_DEPTH):
        level = level[~is_leaf[level]]
        if not len(level):
            return
        level = np.concatenate([left[level], right[level]])
    raise ModelMalformed(f"a tree is deeper than {_MAX_DEPTH} splits")


def _floor_to_float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 that is not above each value."""
    with np.errstate(over="ignore"):
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
def _leaf_sums(
    rows: NDArray[np.float32],
    roots: NDArray[np.int32],
    feature: NDArray[np.int32],
    threshold: NDArray[np.float32],
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    value: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Add each row's leaf values to `sums`, tree by tree as scikit-learn does."""
    for root in roots[:-1]:  # a tree stays in the processor's cache while all rows pass it
        for row in range(len(rows)):
            node = root
            while feature[node] != LEAF:
                goes_left = rows[row, feature[node]] <= threshold[node]
                node = left[node] if goes_left else right[node]
            sums[row] += value[node]
