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
Gauss-Legendre quadrature with eight points is exact up to sixteen of them.

At a split on feature f let `above` be the product of the factors on the path, F its factor of f
there (1 if f was not split on yet), z_cold the share z of the child that the row does not enter,
and S_hot, S_cold the children's sums of leaf values times the factors below. If the row has
followed all splits on f so far, the two children together add

    above * z_cold / F**2 * (S_hot - S_cold)

to the integrand of f (the general terms collapse to this); otherwise nothing. One pass down for the
products, one pass up for the sums: linear in the nodes, without TreeSHAP's quadratic extend and
unwind. The eight points are computed at once (`lanes`). Then such a pass costs mostly branches that
the processor cannot foresee and memory that it has to fetch, so inner nodes and leaves lie apart,
inner nodes level by level and, within a level, those on a feature that is new on its path before
the others; and what follows from a node's ancestors is computed on the way rather than stored.
Splits between two leaves, a third of all, stand last: they need no pass up.
"""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from src.detection.errors import ModelIncompatible
from src.detection.forest import LEAF, Forest
from src.detection.lanes import LANES, aligned_rows, load, spread, store

_MAX_PATH_FEATURES = 2 * LANES  # one lane a point
_nodes, _weights = np.polynomial.legendre.leggauss(LANES)
_T = (_nodes[np.newaxis] + 1) / 2  # the points, on [0, 1]
_NOT_T = 1.0 - _T
_W = _weights[np.newaxis] / 2

_NO_TWIN = -1


@dataclass(frozen=True, slots=True)
class Explainer:
    """Explains rows of one forest. Holds what does not depend on the row.

    Attributes:
        n_features: inputs of the forest.
        denominator: of the forest's score.
        base: log2 of the score of a row about which nothing is known.
        inner_roots, last_roots, leaf_roots: n_trees + 1 entries each: where each tree's inner
            nodes, its last ones and its leaves begin in the arrays below. The last ones of its
            inner nodes are those with two leaves, which are not among the leaves.
        feature, threshold, left_share: one entry an inner node: the split, and the share of its
            training rows that went left.
        children: shape (inner nodes, 2), left and right: places within the tree, inner nodes first,
            leaves after them. Nothing for the last ones.
        twin: the place of the nearest node on the path to an inner node (itself included) that was
            entered by a split on the inner node's own feature; `_NO_TWIN` if there is none.
        last_values: shape (last inner nodes, 2): path lengths of their leaves, left and right.
        leaf_values: path lengths of the other leaves.
    """

    n_features: int
    denominator: float
    base: float
    inner_roots: NDArray[np.int32]
    last_roots: NDArray[np.int32]
    leaf_roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    left_share: NDArray[np.float64]
    children: NDArray[np.int32]
    twin: NDArray[np.int32]
    last_values: NDArray[np.float64]
    leaf_values: NDArray[np.float64]

    @classmethod
    def for_forest(cls, forest: Forest) -> "Explainer":
        """Prepare a forest.

        Raises:
            ModelIncompatible: a path splits on more distinct features than the quadrature is
                exact for (trees of depth 16 and less never do).
        """
        n_nodes = len(forest.feature)
        is_leaf = forest.feature == LEAF
        parent = np.full(n_nodes, -1, dtype=np.int32)
        inner = np.flatnonzero(~is_leaf)
        parent[forest.left[inner]] = inner
        parent[forest.right[inner]] = inner
        twin = np.full(n_nodes, _NO_TWIN, dtype=np.int32)
        distinct = np.zeros(n_nodes, dtype=np.int32)
        depth = np.zeros(n_nodes, dtype=np.int32)
        _climb(forest.feature, parent, twin, distinct, depth)
        if distinct.max() > _MAX_PATH_FEATURES:
            raise ModelIncompatible(
                f"a path splits on {distinct.max()} features; explanations are exact up to "
                f"{_MAX_PATH_FEATURES}: train with max_samples <= {2**_MAX_PATH_FEATURES}"
            )
        tree = np.repeat(np.arange(forest.n_trees), np.diff(forest.roots))
        root = forest.roots[tree]
        expected = float(np.sum(forest.depth_value * forest.cover / forest.cover[root]))

        is_last = np.zeros(n_nodes, dtype=np.bool_)
        is_last[inner] = is_leaf[forest.left[inner]] & is_leaf[forest.right[inner]]
        under_last = (parent >= 0) & is_last[parent]
        order = np.lexsort((twin != _NO_TWIN, depth, is_last, is_leaf, tree))
        order = order[~under_last[order]]
        starts = _starts(tree[order], forest.n_trees)
        place = np.full(n_nodes, -1, dtype=np.int32)  # within the tree: all its nodes together
        place[order] = np.arange(len(order), dtype=np.int32) - starts[tree[order]]
        splits, leaves = order[~is_leaf[order]], order[is_leaf[order]]
        last = splits[is_last[splits]]
        left, right = forest.left[splits], forest.right[splits]
        return cls(
            n_features=forest.n_features,
            denominator=forest.denominator,
            base=-expected / forest.denominator if forest.denominator else -1.0,
            inner_roots=_starts(tree[splits], forest.n_trees),
            last_roots=_starts(tree[last], forest.n_trees),
            leaf_roots=_starts(tree[leaves], forest.n_trees),
            feature=forest.feature[splits],
            threshold=forest.threshold[splits],
            left_share=forest.cover[left] / forest.cover[splits],
            children=np.stack([place[left], place[right]], axis=1),
            twin=np.where(twin[splits] < 0, _NO_TWIN, place[twin[splits]]),
            last_values=forest.depth_value[
                np.stack([forest.left[last], forest.right[last]], axis=1)
            ],
            leaf_values=forest.depth_value[leaves],
        )

    def weights(self, row: NDArray[np.float32]) -> NDArray[np.float64]:
        """Signed weight of each input, shape (n_features,), in log2 of the score."""
        phi = np.zeros(self.n_features)
        if self.denominator:
            _shapley(
                row, self.inner_roots, self.last_roots, self.leaf_roots, self.feature,
                self.threshold, self.left_share, self.children, self.twin, self.last_values,
                self.leaf_values, phi,
            )  # fmt: skip
            phi /= -self.denominator
        return phi


def _starts(tree: NDArray[np.int64], n_trees: int) -> NDArray[np.int32]:
    return np.searchsorted(tree, np.arange(n_trees + 1)).astype(np.int32)


@numba.njit(
    numba.void(
        numba.int32[::1], numba.int32[::1], numba.int32[::1], numba.int32[::1], numba.int32[::1]
    ),
    cache=True, nogil=True,
)  # fmt: skip
def _climb(
    feature: NDArray[np.int32],
    parent: NDArray[np.int32],
    twin: NDArray[np.int32],
    distinct: NDArray[np.int32],
    depth: NDArray[np.int32],
) -> None:
    """Fill `twin`, and the numbers of distinct features and of splits above each node."""
    for node in range(feature.shape[0]):
        above = parent[node]
        if above >= 0:  # parents come before their children, so theirs are known
            distinct[node] = distinct[above] + (twin[above] < 0)
            depth[node] = depth[above] + 1
        if feature[node] < 0:
            continue
        entered = node
        while parent[entered] >= 0 and feature[parent[entered]] != feature[node]:
            entered = parent[entered]
        if parent[entered] >= 0:
            twin[node] = entered


@numba.njit(nogil=True, error_model="numpy")
def _factors(is_new: bool, live: bool, z: float, hot_share: float, cold_share: float) -> Any:
    """What a split does to the points of the integrand.

    Args:
        is_new: whether the path has no other split on the feature.
        live: whether the row has followed all other splits on it.
        z: share of the training rows that have.
        hot_share: share of the node's training rows that go where the row goes.
        cold_share: share of those that do not.

    Returns:
        What the two children multiply with, and what the difference between them does.
    """
    t, not_t, one = load(_T, 0), load(_NOT_T, 0), spread(1.0)
    if is_new:
        z_cold = spread(cold_share)
        return t + spread(hot_share) * not_t, z_cold * not_t, z_cold
    # Whether the row has followed the splits on this feature so far cannot be foreseen, so one
    # formula serves both: if it has not, the children's shares alone count.
    inverse = one / (t + spread(z if live else 1.0) * not_t)
    to_hot = inverse * (
        spread(1.0 if live else hot_share) * t
        + spread(z * hot_share if live else hot_share) * not_t
    )
    to_cold = inverse * (
        spread(0.0 if live else cold_share) * t
        + spread(z * cold_share if live else cold_share) * not_t
    )
    return to_hot, to_cold, spread(z * cold_share if live else 0.0) * inverse * inverse


@numba.njit(
    numba.void(
        numba.float32[::1], numba.int32[::1], numba.int32[::1], numba.int32[::1], numba.int32[::1],
        numba.float32[::1], numba.float64[::1], numba.int32[:, ::1], numba.int32[::1],
        numba.float64[:, ::1], numba.float64[::1], numba.float64[::1],
    ),
    cache=True, nogil=True, error_model="numpy",
)  # fmt: skip
def _shapley(
    row: NDArray[np.float32],
    inner_roots: NDArray[np.int32],
    last_roots: NDArray[np.int32],
    leaf_roots: NDArray[np.int32],
    feature: NDArray[np.int32],
    threshold: NDArray[np.float32],
    left_share: NDArray[np.float64],
    children: NDArray[np.int32],
    twin: NDArray[np.int32],
    last_values: NDArray[np.float64],
    leaf_values: NDArray[np.float64],
    phi: NDArray[np.float64],
) -> None:
    """Add to phi the Shapley values of the path length, summed over trees."""
    largest = 0
    for tree in range(inner_roots.shape[0] - 1):
        n_inner = inner_roots[tree + 1] - inner_roots[tree]
        largest = max(largest, n_inner + leaf_roots[tree + 1] - leaf_roots[tree])
    above = aligned_rows(largest)  # products of the factors on the path, at each point
    below = aligned_rows(largest)  # sums of leaf values times the factors below
    effect = aligned_rows(largest)  # what S_hot - S_cold is multiplied with
    hot_factor = aligned_rows(largest)  # what a child multiplies `above` and `below` with
    cold_factor = aligned_rows(largest)
    share = np.empty(largest)  # z of the feature by which a node was entered
    follows = np.empty(largest, dtype=np.bool_)  # its o
    hot_child = np.empty(largest, dtype=np.int32)
    cold_child = np.empty(largest, dtype=np.int32)
    integrand = aligned_rows(phi.shape[0])
    integrand[:] = 0.0

    for tree in range(inner_roots.shape[0] - 1):
        # Unsigned: what indexes with signed numbers is asked each time whether it is negative.
        root, first_leaf = np.uintp(inner_roots[tree]), np.uintp(leaf_roots[tree])
        n_inner = inner_roots[tree + 1] - inner_roots[tree]
        n_upper = n_inner - (last_roots[tree + 1] - last_roots[tree])
        for i in range(leaf_roots[tree + 1] - leaf_roots[tree]):
            store(below, n_inner + i, spread(leaf_values[first_leaf + np.uintp(i)]))

        store(above, 0, load(_W, 0))
        for i in range(n_upper):
            place = np.uintp(i)
            node = root + place
            goes_right = row[np.uintp(feature[node])] > threshold[node]
            left, right = children[node, 0], children[node, 1]
            hot, cold = (right, left) if goes_right else (left, right)
            hot_child[place], cold_child[place] = hot, cold
            hot_share = 1.0 - left_share[node] if goes_right else left_share[node]
            cold_share = 1.0 - hot_share
            product = load(above, place)
            entered = twin[node]
            is_new = entered < 0
            live = True if is_new else follows[np.uintp(entered)]
            z = 1.0 if is_new else share[np.uintp(entered)]
            to_hot, to_cold, difference = _factors(is_new, live, z, hot_share, cold_share)
            follows[np.uintp(hot)], follows[np.uintp(cold)] = live, False
            share[np.uintp(hot)], share[np.uintp(cold)] = z * hot_share, z * cold_share
            store(effect, place, product * difference)
            store(hot_factor, place, to_hot)
            store(cold_factor, place, to_cold)
            store(above, hot, product * to_hot)
            store(above, cold, product * to_cold)

        last = np.uintp(last_roots[tree])
        for i in range(n_upper, n_inner):
            place = np.uintp(i)
            node = root + place
            split = feature[node]
            goes_right = row[np.uintp(split)] > threshold[node]
            left_value, right_value = last_values[last, 0], last_values[last, 1]
            last += np.uintp(1)
            hot_value = right_value if goes_right else left_value
            cold_value = left_value if goes_right else right_value
            hot_share = 1.0 - left_share[node] if goes_right else left_share[node]
            entered = twin[node]
            is_new = entered < 0
            live = True if is_new else follows[np.uintp(entered)]
            z = 1.0 if is_new else share[np.uintp(entered)]
            to_hot, to_cold, difference = _factors(is_new, live, z, hot_share, 1.0 - hot_share)
            change = load(above, place) * difference * spread(hot_value - cold_value)
            store(integrand, split, load(integrand, split) + change)
            store(below, place, spread(hot_value) * to_hot + spread(cold_value) * to_cold)

        for i in range(n_upper - 1, -1, -1):
            place = np.uintp(i)
            split = feature[root + place]
            s_hot, s_cold = load(below, hot_child[place]), load(below, cold_child[place])
            change = load(effect, place) * (s_hot - s_cold)
            store(integrand, split, load(integrand, split) + change)
            store(
                below,
                place,
                s_hot * load(hot_factor, place) + s_cold * load(cold_factor, place),
            )

    for i in range(phi.shape[0]):
        for lane in range(LANES):
            phi[i] += integrand[i, lane]
