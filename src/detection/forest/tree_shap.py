"""Exact Shapley values of a forest's score: which inputs made it what it is, and by how much.

A forest's score is 2**(-length / c), so log2(score) = -length / c is a sum over trees, and the
path-dependent TreeSHAP game (Lundberg et al., Nature Machine Intelligence 2020, algorithm 1;
`shap.TreeExplainer(forest)` with its default background) explains it exactly:

    log2(score) = base + sum of weights,        score = 2**base * product of 2**weight

so a weight is a *factor* on the score: 2**weight. Positive pushes towards ANOMALY.

Method. With o_j in {0, 1} (would the row follow the path's splits on feature j?) and z_j (share of
training rows that do), the Shapley value of feature i at a leaf of value v is the integral over
t in [0, 1] of v * (o_i - z_i) * product over j != i of F_j(t), F_j(t) = o_j * t + z_j * (1 - t):
the expectation over a uniformly random ordering, t being the share of features that came before.
The integrand is a polynomial of degree below the number of distinct features on the path, so
Gauss-Legendre quadrature with half as many points is exact.

At a split on feature f let `above` be the product of the factors on the path, o, z and F those of f
there (all 1 if the path has not split on f yet), o_left, z_left and F_left those of the left child,
and S the children's sums of leaf values times the factors below. The two children together add

    above * (o_left * z - z_left * o) / F**2 * (S_left - S_right)

to the integrand of f (what several splits on f add collapses to this), and the factors with which
left and right go on, F_left / F and F_right / F, add up to 1. One pass down for the products, one
pass up for the sums: linear in the nodes, without TreeSHAP's quadratic extend and unwind.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from src.detection.forest.forest import LEAF, Forest


class _Trees(NamedTuple):
    """What the kernel reads; arrays of one entry a node, unless another length is given.

    Attributes:
        roots: n_trees + 1 entries: tree t has the nodes roots[t]:roots[t + 1], parents before their
            children.
        feature, threshold, left, right, depth_value: as in `Forest`.
        entered: at a split, the nearest node on the path to it (itself included) that was entered
            by a split on the same feature; the tree's root if there is none.
        share: z of the feature by which the node was entered; 1 at roots.
        splits: all nodes that are no leaves, in order.
        split_starts: n_trees + 1 entries: where the splits of each tree begin in `splits`.
    """

    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    depth_value: NDArray[np.float64]
    entered: NDArray[np.int32]
    share: NDArray[np.float64]
    splits: NDArray[np.int64]
    split_starts: NDArray[np.int64]


_TREES_TYPE = numba.types.NamedTuple(  # type: ignore[no-untyped-call]
    [
        numba.int32[::1], numba.int32[::1], numba.float32[::1], numba.int32[::1],
        numba.int32[::1], numba.float64[::1], numba.int32[::1], numba.float64[::1],
        numba.int64[::1], numba.int64[::1],
    ],
    _Trees,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Explainer:
    """Explains rows of one forest. Holds what does not depend on the row.

    Attributes:
        n_features: inputs of the forest.
        denominator: of the forest's score.
        base: log2 of the score of a row about which nothing is known.
    """

    n_features: int
    denominator: float
    base: float
    _trees: _Trees
    _points: NDArray[np.float64]
    _point_weights: NDArray[np.float64]

    @classmethod
    def for_forest(cls, forest: Forest) -> "Explainer":
        """Prepare a forest."""
        splits = np.flatnonzero(forest.feature != LEAF)
        parent = np.full(len(forest.feature), LEAF, dtype=np.int32)
        parent[forest.left[splits]] = splits
        parent[forest.right[splits]] = splits
        root = np.repeat(forest.roots[:-1], np.diff(forest.roots))
        entered, share = root.copy(), np.ones(len(root))
        max_distinct = _follow_paths(forest.feature, forest.cover, parent, entered, share)
        nodes, weights = np.polynomial.legendre.leggauss(max(1, -(-max_distinct // 2)))
        expected = float(np.sum(forest.depth_value * forest.cover / forest.cover[root]))
        return cls(
            n_features=forest.n_features,
            denominator=forest.denominator,
            base=-expected / forest.denominator if forest.denominator else -1.0,
            _trees=_Trees(
                forest.roots, forest.feature, forest.threshold, forest.left, forest.right,
                forest.depth_value, entered, share, splits, np.searchsorted(splits, forest.roots),
            ),
            _points=(nodes + 1) / 2,  # from [-1, 1] to [0, 1]
            _point_weights=weights / 2,
        )  # fmt: skip

    def weights(self, row: NDArray[np.float32]) -> NDArray[np.float64]:
        """Signed weight of each input, shape (n_features,), in log2 of the score."""
        weights = np.zeros(self.n_features)
        if self.denominator:
            _shapley(row, self._trees, self._points, self._point_weights, weights)
            weights /= -self.denominator
        return weights


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
    """Fill `entered` and `share`, see `_Trees`; return the most distinct features on a path."""
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
        numba.float32[::1], _TREES_TYPE, numba.float64[::1], numba.float64[::1],
        numba.float64[::1],
    ),
    cache=True, nogil=True, error_model="numpy",
)  # fmt: skip
def _shapley(
    row: NDArray[np.float32],
    trees: _Trees,
    points: NDArray[np.float64],
    point_weights: NDArray[np.float64],
    phi: NDArray[np.float64],
) -> None:
    """Add to phi, shape (features,), the Shapley values of the path length over all trees."""
    n_points = len(points)
    largest = np.diff(trees.roots).max()
    follows = np.ones(largest)  # o of the feature by which a node was entered
    to_left = np.empty((largest, n_points))  # F_left / F
    above = np.empty((largest, n_points))  # later the effect: what S_left - S_right is weighted by
    below = np.empty((largest, n_points))  # S
    integrand = np.zeros((len(phi), n_points))

    for tree in range(len(trees.roots) - 1):
        root, size = trees.roots[tree], trees.roots[tree + 1] - trees.roots[tree]
        splits = trees.splits[trees.split_starts[tree] : trees.split_starts[tree + 1]]
        above[0] = point_weights
        for i in range(size):
            for k in range(n_points):
                below[i, k] = trees.depth_value[root + i]
        for node in splits:
            i = node - root
            left, right = trees.left[node] - root, trees.right[node] - root
            o, z = follows[trees.entered[node] - root], trees.share[trees.entered[node]]
            o_left = o * (row[trees.feature[node]] <= trees.threshold[node])
            z_left = trees.share[trees.left[node]]
            follows[left], follows[right] = o_left, o - o_left
            for k in range(n_points):
                t, not_t = points[k], 1.0 - points[k]
                inverse = 1.0 / (o * t + z * not_t)
                to_left[i, k] = (o_left * t + z_left * not_t) * inverse
                above[left, k] = above[i, k] * to_left[i, k]
                above[right, k] = above[i, k] - above[left, k]
                above[i, k] *= (o_left * z - z_left * o) * (inverse * inverse)
        for node in splits[::-1]:
            i, feature = node - root, trees.feature[node]
            left, right = trees.left[node] - root, trees.right[node] - root
            for k in range(n_points):
                difference = below[left, k] - below[right, k]
                integrand[feature, k] += above[i, k] * difference
                below[i, k] = below[right, k] + to_left[i, k] * difference
    for i in range(len(phi)):
        phi[i] += integrand[i].sum()
