"""Exact Shapley values of a forest's score: which inputs made it what it is, and by how much.

A forest's score is 2**(-length / c), so log2(score) = -length / c is a sum over trees, and the
path-dependent TreeSHAP game (Lundberg et al., Nature Machine Intelligence 2020, algorithm 1;
`shap.TreeExplainer(forest)` with its default background) explains it exactly:

    log2(score) = base + sum of weights,        score = 2**base * product of 2**weight

so a weight is a *factor* on the score: 2**weight. Positive pushes towards ANOMALY.

Method. With o_j in {0, 1} (would the row follow the path's splits on feature j?) and z_j (share of
training rows that do), the Shapley value of feature i at a leaf of value v is the integral over
t in [0, 1] of v * (o_i - z_i) * product over j != i of (o_j * t + z_j * (1 - t)): the expectation
over a uniformly random ordering, t being the share of features that came before. The integrand is
a polynomial of degree below the number of distinct features on the path, so Gauss-Legendre
quadrature with eight points is exact up to sixteen of them. One pass down a tree builds the
products, one pass up collects them: linear in the nodes, without the quadratic extend and unwind
of algorithm 2.
"""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from src.detection.errors import ModelIncompatible
from src.detection.forest import LEAF, Forest

_POINTS = 8
_MAX_PATH_FEATURES = 2 * _POINTS
_nodes, _weights = np.polynomial.legendre.leggauss(_POINTS)
_T = (_nodes + 1) / 2  # the points, on [0, 1]
_W = _weights / 2
_BEFORE_NOT = 1.0 - _T
_PER_ABSENT = -1.0 / _BEFORE_NOT  # (o - z) / (o t + z (1 - t)) at o = 0, whatever z


@dataclass(frozen=True, slots=True)
class Explainer:
    """Explains rows of one forest. Holds what does not depend on the row, one entry a node.

    Attributes:
        parent: index of the parent node.
        same_feature: nearest node above whose incoming split is on the same feature, or -1.
        follow_share: z, the product of cover ratios of the path's splits on the incoming feature.
        base: log2 of the score of a row about which nothing is known.
    """

    forest: Forest
    parent: NDArray[np.int32]
    same_feature: NDArray[np.int32]
    follow_share: NDArray[np.float64]
    base: float

    @classmethod
    def for_forest(cls, forest: Forest) -> "Explainer":
        """Prepare a forest.

        Raises:
            ModelIncompatible: a path splits on more distinct features than the quadrature is
                exact for (trees of depth 16 and less never do).
        """
        n_nodes = len(forest.feature)
        parent = np.full(n_nodes, -1, dtype=np.int32)
        inner = np.flatnonzero(forest.feature != LEAF)
        parent[forest.left[inner]] = inner
        parent[forest.right[inner]] = inner
        same_feature = np.full(n_nodes, -1, dtype=np.int32)
        follow_share = np.ones(n_nodes)
        distinct = np.zeros(n_nodes, dtype=np.int32)
        _prepare(forest.feature, forest.cover, parent, same_feature, follow_share, distinct)
        if distinct.max() > _MAX_PATH_FEATURES:
            raise ModelIncompatible(
                f"a path splits on {distinct.max()} features; explanations are exact up to "
                f"{_MAX_PATH_FEATURES}: train with max_samples <= {2**_MAX_PATH_FEATURES}"
            )
        tree_of_node = np.repeat(forest.roots[:-1], np.diff(forest.roots))
        expected = float(np.sum(forest.depth_value * forest.cover / forest.cover[tree_of_node]))
        base = -expected / forest.denominator if forest.denominator else -1.0
        return cls(forest, parent, same_feature, follow_share, base)

    def weights(self, row: NDArray[np.float32]) -> NDArray[np.float64]:
        """Signed weight of each input, shape (n_features,), in log2 of the score."""
        forest = self.forest
        phi = np.zeros(forest.n_features)
        if forest.denominator:
            _shapley(
                row, forest.roots, forest.feature, forest.threshold, forest.left,
                forest.depth_value, self.parent, self.same_feature, self.follow_share, phi,
            )  # fmt: skip
            phi /= -forest.denominator
        return phi


@numba.njit(
    numba.void(
        numba.int32[::1], numba.float64[::1], numba.int32[::1], numba.int32[::1],
        numba.float64[::1], numba.int32[::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def _prepare(
    feature: NDArray[np.int32],
    cover: NDArray[np.float64],
    parent: NDArray[np.int32],
    same_feature: NDArray[np.int32],
    follow_share: NDArray[np.float64],
    distinct: NDArray[np.int32],
) -> None:
    for node in range(feature.shape[0]):
        above = parent[node]
        if above < 0:
            continue
        incoming = feature[above]
        follow_share[node] = cover[node] / cover[above]
        ancestor = above
        while parent[ancestor] >= 0 and feature[parent[ancestor]] != incoming:
            ancestor = parent[ancestor]
        if parent[ancestor] >= 0:
            same_feature[node] = ancestor
            follow_share[node] *= follow_share[ancestor]
            distinct[node] = distinct[above]
        else:
            distinct[node] = distinct[above] + 1


@numba.njit(
    numba.void(
        numba.float32[::1], numba.int32[::1], numba.int32[::1], numba.float32[::1],
        numba.int32[::1], numba.float64[::1], numba.int32[::1], numba.int32[::1],
        numba.float64[::1], numba.float64[::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def _shapley(
    row: NDArray[np.float32],
    roots: NDArray[np.int32],
    feature: NDArray[np.int32],
    threshold: NDArray[np.float32],
    left: NDArray[np.int32],
    depth_value: NDArray[np.float64],
    parent: NDArray[np.int32],
    same_feature: NDArray[np.int32],
    follow_share: NDArray[np.float64],
    phi: NDArray[np.float64],
) -> None:
    """Add to phi the Shapley values of the path length, summed over trees."""
    largest = 0
    for tree in range(roots.shape[0] - 1):
        largest = max(largest, roots[tree + 1] - roots[tree])
    down = np.empty((largest, _POINTS))  # product of the path's factors at each point
    up = np.empty((largest, _POINTS))  # the same times leaf values, summed over the subtree
    follows = np.empty(largest, dtype=np.bool_)  # o: all splits on the incoming feature agree
    integrand = np.zeros((phi.shape[0], _POINTS))

    for tree in range(roots.shape[0] - 1):
        root = roots[tree]
        size = roots[tree + 1] - root
        for k in range(_POINTS):
            down[0, k] = 1.0
            up[0, k] = 0.0
        for i in range(1, size):
            node = root + i
            above = parent[node]
            p = above - root
            followed = (row[feature[above]] <= threshold[above]) == (left[above] == node)
            z = follow_share[node]
            twin = same_feature[node]
            if twin < 0:
                follows[i] = followed
                o = 1.0 if followed else 0.0
                for k in range(_POINTS):
                    down[i, k] = down[p, k] * (o * _T[k] + z * _BEFORE_NOT[k])
            elif follows[twin - root]:
                follows[i] = followed
                o = 1.0 if followed else 0.0
                z_twin = follow_share[twin]
                for k in range(_POINTS):
                    factor = o * _T[k] + z * _BEFORE_NOT[k]
                    down[i, k] = down[p, k] * (factor / (_T[k] + z_twin * _BEFORE_NOT[k]))
            else:
                follows[i] = False
                ratio = z / follow_share[twin]
                for k in range(_POINTS):
                    down[i, k] = down[p, k] * ratio
            value = depth_value[node]  # 0 at inner nodes, which collect from their children
            for k in range(_POINTS):
                up[i, k] = down[i, k] * (value * _W[k])

        for i in range(size - 1, 0, -1):
            node = root + i
            p = parent[node] - root
            split = feature[parent[node]]
            twin = same_feature[node]
            if twin < 0 or follows[twin - root]:
                if follows[i]:
                    z = follow_share[node]
                    for k in range(_POINTS):
                        integrand[split, k] += up[i, k] * ((1.0 - z) / (_T[k] + z * _BEFORE_NOT[k]))
                else:
                    for k in range(_POINTS):
                        integrand[split, k] += up[i, k] * _PER_ABSENT[k]
                if twin >= 0:
                    # The subtree's leaves are also collected by the upper split on the same
                    # feature, which takes itself for the last one: take that back.
                    z = follow_share[twin]
                    for k in range(_POINTS):
                        integrand[split, k] -= up[i, k] * ((1.0 - z) / (_T[k] + z * _BEFORE_NOT[k]))
            for k in range(_POINTS):
                up[p, k] += up[i, k]

    for i in range(phi.shape[0]):
        for k in range(_POINTS):
            phi[i] += integrand[i, k]
