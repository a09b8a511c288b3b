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
Gauss-Legendre quadrature with six points is exact up to twelve of them.

At a split on feature f let `above` be the product of the factors on the path, F its factor of f
there (1 if f was not split on yet), z_cold the share z of the child that the row does not enter,
and S_hot, S_cold the children's sums of leaf values times the factors below. If the row has
followed all splits on f so far, the two children together add

    above * z_cold / F**2 * (S_hot - S_cold)

to the integrand of f (the general terms collapse to this); otherwise nothing. One pass down for the
products, one pass up for the sums: linear in the nodes, without TreeSHAP's quadratic extend and
unwind. What such a pass costs is mostly branches that the processor cannot foresee, so the nodes
are laid out level by level and, within a level, by what the kernel does with them.
"""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from src.detection.errors import ModelIncompatible
from src.detection.forest import LEAF, Forest

_POINTS = 6
_MAX_PATH_FEATURES = 2 * _POINTS
_nodes, _weights = np.polynomial.legendre.leggauss(_POINTS)
_T = (_nodes + 1) / 2  # the points, on [0, 1]
_NOT_T = 1.0 - _T
_W = _weights / 2


@dataclass(frozen=True, slots=True)
class Explainer:
    """Explains rows of one forest. Holds what does not depend on the row, one entry a node.

    The nodes stand in an order of their own: trees one after another, and in each tree level by
    level; within a level leaves, then splits on a feature that is new on its path, then the others.

    Attributes:
        forest: the forest, in its own order.
        feature, threshold, depth_value, cover: as in the forest.
        children: shape (n, 2), left and right.
        twin: at an inner node, the nearest node on the path to it (itself included) that was
            entered by a split on the same feature as the node's own; -1 if there is none.
        share: z of the feature by which the node was entered: the product of the cover ratios of
            all splits on it along the path.
        base: log2 of the score of a row about which nothing is known.
    """

    forest: Forest
    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    depth_value: NDArray[np.float64]
    cover: NDArray[np.float64]
    children: NDArray[np.int32]
    twin: NDArray[np.int32]
    share: NDArray[np.float64]
    base: float

    @classmethod
    def for_forest(cls, forest: Forest) -> "Explainer":
        """Prepare a forest.

        Raises:
            ModelIncompatible: a path splits on more distinct features than the quadrature is
                exact for (trees of depth 12 and less never do).
        """
        n_nodes = len(forest.feature)
        parent = np.full(n_nodes, -1, dtype=np.int32)
        inner = np.flatnonzero(forest.feature != LEAF)
        parent[forest.left[inner]] = inner
        parent[forest.right[inner]] = inner
        twin = np.full(n_nodes, -1, dtype=np.int32)
        share = np.ones(n_nodes)
        distinct = np.zeros(n_nodes, dtype=np.int32)
        depth = np.zeros(n_nodes, dtype=np.int32)
        _prepare(forest.feature, forest.cover, parent, twin, share, distinct, depth)
        if distinct.max() > _MAX_PATH_FEATURES:
            raise ModelIncompatible(
                f"a path splits on {distinct.max()} features; explanations are exact up to "
                f"{_MAX_PATH_FEATURES}: train with max_samples <= {2**_MAX_PATH_FEATURES}"
            )
        tree_of_node = np.repeat(forest.roots[:-1], np.diff(forest.roots))
        expected = float(np.sum(forest.depth_value * forest.cover / forest.cover[tree_of_node]))
        base = -expected / forest.denominator if forest.denominator else -1.0
        kind = np.where(forest.feature == LEAF, 0, np.where(twin < 0, 1, 2))
        order = np.lexsort((kind, depth, tree_of_node))
        place = np.empty(n_nodes, dtype=np.int32)
        place[order] = np.arange(n_nodes, dtype=np.int32)

        def places_of(nodes: NDArray[np.int32]) -> NDArray[np.int32]:
            return np.where(nodes < 0, nodes, place[nodes])[order]

        return cls(
            forest=forest,
            feature=forest.feature[order],
            threshold=forest.threshold[order],
            depth_value=forest.depth_value[order],
            cover=forest.cover[order],
            children=np.stack([places_of(forest.left), places_of(forest.right)], axis=1),
            twin=places_of(twin),
            share=share[order],
            base=base,
        )

    def weights(self, row: NDArray[np.float32]) -> NDArray[np.float64]:
        """Signed weight of each input, shape (n_features,), in log2 of the score."""
        forest = self.forest
        phi = np.zeros(forest.n_features)
        if forest.denominator:
            _shapley(
                row, forest.roots, self.feature, self.threshold, self.children,
                self.depth_value, self.cover, self.twin, self.share, phi,
            )  # fmt: skip
            phi /= -forest.denominator
        return phi


@numba.njit(
    numba.void(
        numba.int32[::1], numba.float64[::1], numba.int32[::1], numba.int32[::1],
        numba.float64[::1], numba.int32[::1], numba.int32[::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def _prepare(
    feature: NDArray[np.int32],
    cover: NDArray[np.float64],
    parent: NDArray[np.int32],
    twin: NDArray[np.int32],
    share: NDArray[np.float64],
    distinct: NDArray[np.int32],
    depth: NDArray[np.int32],
) -> None:
    """Fill `twin`, `share`, and the numbers of distinct features and of splits above each node."""
    for node in range(feature.shape[0]):
        above = parent[node]
        if above >= 0:  # parents come before their children, so theirs are known
            share[node] = cover[node] / cover[above]
            distinct[node] = distinct[above]
            depth[node] = depth[above] + 1
            if twin[above] >= 0:
                share[node] *= share[twin[above]]
            else:
                distinct[node] += 1
        if feature[node] < 0:
            continue
        entered = node
        while parent[entered] >= 0 and feature[parent[entered]] != feature[node]:
            entered = parent[entered]
        if parent[entered] >= 0:
            twin[node] = entered


@numba.njit(
    numba.void(
        numba.float32[::1], numba.int32[::1], numba.int32[::1], numba.float32[::1],
        numba.int32[:, ::1], numba.float64[::1], numba.float64[::1],
        numba.int32[::1], numba.float64[::1], numba.float64[::1],
    ),
    cache=True, nogil=True, error_model="numpy",
)  # fmt: skip
def _shapley(
    row: NDArray[np.float32],
    roots: NDArray[np.int32],
    feature: NDArray[np.int32],
    threshold: NDArray[np.float32],
    children: NDArray[np.int32],
    depth_value: NDArray[np.float64],
    cover: NDArray[np.float64],
    twin: NDArray[np.int32],
    share: NDArray[np.float64],
    phi: NDArray[np.float64],
) -> None:
    """Add to phi the Shapley values of the path length, summed over trees."""
    largest = 0
    for tree in range(roots.shape[0] - 1):
        largest = max(largest, roots[tree + 1] - roots[tree])
    above = np.empty((largest, _POINTS))  # products of the factors on the path, at each point
    below = np.empty((largest, _POINTS))  # sums of leaf values times the factors below
    follows = np.empty(largest, dtype=np.bool_)  # o of the feature by which a node was entered
    side = np.empty(largest, dtype=np.int8)  # the child that the row enters
    integrand = np.zeros((phi.shape[0], _POINTS))

    for tree in range(roots.shape[0] - 1):
        root = roots[tree]
        size = roots[tree + 1] - root
        for k in range(_POINTS):
            above[0, k] = _W[k]
        for i in range(size):
            node = root + i
            if feature[node] < 0:
                value = depth_value[node]
                for k in range(_POINTS):
                    below[i, k] = value
                continue
            side[i] = row[feature[node]] > threshold[node]
            hot = children[node, side[i]] - root
            cold = children[node, 1 - side[i]] - root
            entered = twin[node]
            if entered >= 0 and not follows[entered - root]:
                follows[hot] = False
                follows[cold] = False
                hot_ratio = cover[root + hot] / cover[node]
                cold_ratio = cover[root + cold] / cover[node]
                for k in range(_POINTS):
                    above[hot, k] = above[i, k] * hot_ratio
                    above[cold, k] = above[i, k] * cold_ratio
                continue
            follows[hot] = True
            follows[cold] = False
            z_hot = share[root + hot]
            z_cold = share[root + cold]
            if entered < 0:
                for k in range(_POINTS):
                    above[hot, k] = above[i, k] * (_T[k] + z_hot * _NOT_T[k])
                    above[cold, k] = above[i, k] * (z_cold * _NOT_T[k])
            else:
                z = share[entered]
                for k in range(_POINTS):
                    scaled = above[i, k] / (_T[k] + z * _NOT_T[k])
                    above[hot, k] = scaled * (_T[k] + z_hot * _NOT_T[k])
                    above[cold, k] = scaled * (z_cold * _NOT_T[k])

        for i in range(size - 1, -1, -1):
            node = root + i
            split = feature[node]
            if split < 0:
                continue
            hot = children[node, side[i]] - root
            cold = children[node, 1 - side[i]] - root
            entered = twin[node]
            if entered >= 0 and not follows[entered - root]:
                hot_ratio = cover[root + hot] / cover[node]
                cold_ratio = cover[root + cold] / cover[node]
                for k in range(_POINTS):
                    below[i, k] = below[hot, k] * hot_ratio + below[cold, k] * cold_ratio
                continue
            z_hot = share[root + hot]
            z_cold = share[root + cold]
            if entered < 0:
                for k in range(_POINTS):
                    difference = below[hot, k] - below[cold, k]
                    integrand[split, k] += above[i, k] * z_cold * difference
                    below[i, k] = (
                        below[hot, k] * _T[k]
                        + (below[hot, k] * z_hot + below[cold, k] * z_cold) * _NOT_T[k]
                    )
            else:
                z = share[entered]
                for k in range(_POINTS):
                    inverse = 1.0 / (_T[k] + z * _NOT_T[k])
                    difference = below[hot, k] - below[cold, k]
                    integrand[split, k] += above[i, k] * z_cold * inverse * inverse * difference
                    below[i, k] = inverse * (
                        below[hot, k] * _T[k]
                        + (below[hot, k] * z_hot + below[cold, k] * z_cold) * _NOT_T[k]
                    )

    for i in range(phi.shape[0]):
        for k in range(_POINTS):
            phi[i] += integrand[i, k]
