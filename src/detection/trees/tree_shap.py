"""Exact Shapley values of a sum over trees: which inputs made it what it is, and by how much.

The path-dependent TreeSHAP game (Lundberg et al., Nature Machine Intelligence 2020, algorithm 1;
`shap.TreeExplainer(model)` with its default background) explains such a sum exactly:

    output = base + sum of weights

The attack model's output is such a sum. An isolation forest's score is 2**(-length / c), and
log2(score) = -length / c is one too: there a weight is a *factor* on the score, 2**weight.

Method. With o_j in {0, 1} (would the row follow the path's splits on feature j?) and z_j (share of
training rows that do), the Shapley value of feature i at a leaf of value v is the integral over
t in [0, 1] of v * (o_i - z_i) * product over j != i of F_j(t), F_j(t) = o_j * t + z_j * (1 - t):
the expectation over a uniformly random ordering, t being the share of features that came before.
The integrand is a polynomial of degree below the number of distinct features on the path, so
Gauss-Legendre quadrature with half as many points is exact. Points are taken in blocks of a size
that the compiler knows, which unrolls its loops: one block is exact up to ten distinct features.

At a split on feature f let `above` be the product of the factors on the path, o, z and F those of f
there (all 1 if the path has not split on f yet), o_left, z_left and F_left those of the left child,
and S the children's sums of leaf values times the factors below. The two children together add

    above * (o_left * z - z_left * o) / F**2 * (S_left - S_right)

to the integrand of f (what several splits on f add collapses to this), and the factors with which
left and right go on, F_left / F and F_right / F, add up to 1. One pass down for the products, one
pass up for the sums: linear in the nodes, without TreeSHAP's quadratic extend and unwind.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from src.detection.records import Attribution
from src.detection.trees.trees import LEAF, Trees, model_rows

_BLOCK = 5
"""Quadrature points that one pass over the trees evaluates."""

_SPLIT = np.dtype(
    [
        ("share", np.float64),  # z of the feature on the path to the split; 1 if not split on yet
        ("share_left", np.float64),  # z of the feature at the left child
        ("threshold", np.float32),
        ("feature", np.uint32),
        ("left", np.uint32),
        ("right", np.uint32),
        ("entered", np.uint32),  # nearest node on the path entered by a split on the same feature
    ],
    align=True,
)
"""A split as the kernel reads it.

Nodes are numbered within their tree: splits first, parents before their children, then leaves. The
root, 0, counts as entered by all features. Unsigned numbers spare numba its test for negative ones.
"""


@dataclass(frozen=True, slots=True)
class Explainer:
    """Explains rows of one model, whose output is offset + sum of leaf values / divisor.

    Holds what does not depend on the row.
    """

    n_features: int  # inputs of the model
    divisor: float  # of the sum of leaf values
    base: float  # output for a row about which nothing is known
    _splits: NDArray[np.void]  # of all trees, one after another
    _starts: NDArray[np.int64]  # n_trees + 1 entries: tree t has the splits starts[t]:starts[t + 1]
    _leaf_values: NDArray[np.float64]  # of all trees; a tree has one leaf more than splits
    _points: NDArray[np.float64]  # shape (blocks, _BLOCK)
    _point_weights: NDArray[np.float64]

    @classmethod
    def for_trees(cls, trees: Trees, *, divisor: float = 1.0, offset: float = 0.0) -> "Explainer":
        """Prepare trees."""
        is_leaf = trees.feature == LEAF
        splits = np.flatnonzero(~is_leaf)
        left, right = trees.left[splits], trees.right[splits]
        parent = np.full(len(is_leaf), LEAF, dtype=np.int32)
        parent[left] = parent[right] = splits
        root = np.repeat(trees.roots[:-1], np.diff(trees.roots))
        entered, share = root.copy(), np.ones(len(root))
        max_distinct = _follow_paths(trees.feature, trees.cover, parent, entered, share)

        number = np.empty(len(root), dtype=np.int64)
        number[np.lexsort((is_leaf, root))] = np.arange(len(root))
        number -= root
        prepared = np.empty(len(splits), dtype=_SPLIT)
        prepared["share"] = share[entered[splits]]
        prepared["share_left"] = share[left]
        prepared["threshold"] = trees.threshold[splits]
        prepared["feature"] = trees.feature[splits]
        prepared["left"] = number[left]
        prepared["right"] = number[right]
        prepared["entered"] = number[entered[splits]]

        n_blocks = max(1, -(-max_distinct // (2 * _BLOCK)))
        nodes, weights = np.polynomial.legendre.leggauss(n_blocks * _BLOCK)
        expected = float(np.sum(trees.value * trees.cover / trees.cover[root]))
        return cls(
            n_features=trees.n_features,
            divisor=divisor,
            base=offset + expected / divisor,
            _splits=prepared,
            _starts=np.searchsorted(splits, trees.roots),
            _leaf_values=trees.value[is_leaf],
            _points=(nodes.reshape(n_blocks, _BLOCK) + 1) / 2,  # from [-1, 1] to [0, 1]
            _point_weights=weights.reshape(n_blocks, _BLOCK) / 2,
        )

    def weights(self, row: NDArray[np.float32]) -> NDArray[np.float64]:
        """Signed weight of each input, shape (n_features,), in the unit of the output."""
        weights = np.zeros(self.n_features)
        for points, point_weights in zip(self._points, self._point_weights, strict=True):
            _shapley(
                row, self._splits, self._starts, self._leaf_values, points, point_weights, weights
            )
        weights /= self.divisor
        return weights

    def attributions(
        self, row: NDArray[np.float64], inputs: Sequence[str], most: int | None = None
    ) -> list[Attribution]:
        """Weights of the inputs of one row by name, most weighty first, ties in their order.

        Args:
            row: shape (n_features,).
            inputs: names of its columns.
            most: how many to list; None for all.

        Raises:
            InvalidInput: see `model_rows`.
        """
        weights = self.weights(model_rows(row[np.newaxis], inputs)[0])
        heaviest = np.argsort(-np.abs(weights), kind="stable")[:most].tolist()
        values, weights = row.tolist(), weights.tolist()
        return [Attribution(inputs[i], values[i], weights[i]) for i in heaviest]


@numba.njit(
    numba.int64(
        numba.int32[::1], numba.float64[::1], numba.int32[::1], numba.int32[::1],
        numba.float64[::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def _follow_paths(
    feature: NDArray[np.int32],
    cover: NDArray[np.float64],
    parent: NDArray[np.int32],
    entered: NDArray[np.int32],
    share: NDArray[np.float64],
) -> int:
    """Follow all paths down; return the most distinct features on one of them.

    Fills `entered` (at a split: the nearest node on the path to it, itself included, that was
    entered by a split on the same feature; stays the tree's root if there is none) and `share` (z
    of the feature by which the node was entered; stays 1 at roots).
    """
    distinct = np.zeros(len(feature), np.int64)
    for node in range(len(feature)):  # parents come before their children
        above = parent[node]
        if above >= 0:
            is_new = parent[entered[above]] < 0  # entered[above] is the root
            distinct[node] = distinct[above] + is_new
            share[node] = share[entered[above]] * cover[node] / cover[above]
        if feature[node] != LEAF:
            nearest = node
            while parent[nearest] >= 0 and feature[parent[nearest]] != feature[node]:
                nearest = parent[nearest]
            entered[node] = nearest
    return int(distinct.max())


@numba.njit(
    numba.void(
        numba.float32[::1], numba.from_dtype(_SPLIT)[::1], numba.int64[::1], numba.float64[::1],
        numba.float64[::1], numba.float64[::1], numba.float64[::1],
    ),
    cache=True, nogil=True, error_model="numpy",
)  # fmt: skip
def _shapley(
    row: NDArray[np.float32],
    all_splits: NDArray[np.void],
    starts: NDArray[np.int64],
    leaf_values: NDArray[np.float64],
    points: NDArray[np.float64],
    point_weights: NDArray[np.float64],
    phi: NDArray[np.float64],
) -> None:
    """Add to phi, shape (features,), one block's part of the Shapley values of the sum."""
    largest = 2 * np.diff(starts).max() + 1
    follows = np.ones(largest)  # o of the feature by which a node was entered
    to_left = np.empty((largest, _BLOCK))  # F_left / F
    above = np.empty((largest, _BLOCK))  # on the way up: what S_left - S_right is multiplied by
    below = np.empty((largest, _BLOCK))  # S

    for tree in range(len(starts) - 1):
        splits = all_splits[starts[tree] : starts[tree + 1]]
        n_splits = len(splits)
        above[0] = point_weights
        for i in range(n_splits + 1):
            for k in range(_BLOCK):
                below[n_splits + i, k] = leaf_values[starts[tree] + tree + i]
        for i in range(n_splits):
            split = splits[i]
            left, right = split.left, split.right
            o, z, z_left = follows[split.entered], split.share, split.share_left
            o_left = o * (row[split.feature] <= split.threshold)
            follows[left], follows[right] = o_left, o - o_left
            for k in range(_BLOCK):
                here = above[i, k]
                inverse = 1.0 / (z + (o - z) * points[k])
                to_left[i, k] = (z_left + (o_left - z_left) * points[k]) * inverse
                above[left, k] = here * to_left[i, k]
                above[right, k] = here - above[left, k]
                above[i, k] = here * (o_left * z - z_left * o) * (inverse * inverse)
        for i in range(n_splits - 1, -1, -1):
            split = splits[i]
            left, right = split.left, split.right
            integral = 0.0
            for k in range(_BLOCK):
                difference = below[left, k] - below[right, k]
                integral += above[i, k] * difference
                below[i, k] = below[right, k] + to_left[i, k] * difference
            phi[split.feature] += integral
