"""The kernel that computes Shapley values of one row's path length over a whole forest.

What it computes. With o_j in {0, 1} (would the row follow the path's splits on feature j?) and z_j
(share of training rows that do), the Shapley value of feature i at a leaf of value v is the
integral over t in [0, 1] of v * (o_i - z_i) * product over j != i of F_j(t), F_j(t) = o_j * t +
z_j * (1 - t): the expectation over a uniformly random ordering, t being the share of features that
came before. With d distinct features on the path the integrand is a polynomial of degree d - 1.

At a split on feature f let `above` be the product of the factors on the path, o, z and F those of f
there (all 1 if f was not split on yet), o_left and z_left those of the left child and S the
children's sums of leaf values times the factors below. The two children together add

    above * (o_left * z - z_left * o) / F**2 * (S_left - S_right)

to the integrand of f (what several splits on f add collapses to this), and the factors with which
left and right go on, F_left / F and F_right / F, add up to 1. One pass down for the products, one
pass up for the sums: linear in the nodes, without TreeSHAP's quadratic extend and unwind.

How few points do. Four points in (0, 1) are computed at once (`lanes`), and 0 is a fifth: at t = 0,
where feature i comes first of all, its integrand hangs on the row's value of i alone, so that the
sum over all trees is looked up in a table. Such a Gauss-Radau rule (`quadrature`) is exact up to
nine features on a path. With ten, of which none is split on twice, what it misses is the constant
`remainder` times the integrand's leading coefficient, and that is the same for all ten features:
v * product of (o_j - z_j). Trees of longer paths take several passes, of four points each.

What it costs is instructions, branches that the processor cannot foresee, and memory. So no branch
asks where the row goes; the row's value and a threshold are compared as doubles, which becomes a
mask on every machine, where float32 would become a branch on some; splits lie in the order in which
they are visited, those on a feature that is new on its path apart from the others; a few trees lie
together, as the end of a loop is not foreseen either; splits between two leaves, a third of all,
stand last, as they need no pass up.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from src.detection.first_effects import first_effect
from src.detection.lanes import LANES, aligned_rows, load, spread, store

# Columns of `starts`: where a group of trees begins in the arrays, and how it is computed.
COLUMNS = 10
SPLITS, UPPER, REPEATING, LAST, LEAVES, ROOTS, LONGEST, PATHS, RULE, PASSES = range(COLUMNS)


@numba.njit(nogil=True)
def _not_above(value: float, threshold: float) -> float:
    """1.0 if value <= threshold, else 0.0."""
    return 1.0 if value <= np.float64(threshold) else 0.0


@numba.njit(nogil=True)
def _follows(value: float, followed: NDArray[np.float32], repeating: Any) -> float:
    """1.0 if a row of this value has followed all splits on the feature so far, else 0.0."""
    return _not_above(value, followed[repeating, 1]) - _not_above(value, followed[repeating, 0])


@numba.njit(nogil=True)
def _to_left(goes_left: float, left_share: float, t: Any, not_t: Any) -> Any:
    """F_left / F at a split on a feature that is new on its path."""
    return spread(goes_left) * t + spread(left_share) * not_t


@numba.njit(nogil=True, error_model="numpy")
def _to_left_again(
    goes_left: float, left_share: float, follows: float, share: float, t: Any, not_t: Any
) -> tuple[Any, Any]:
    """F_left / F at a split that repeats a feature, and 1 / F; `follows` is o, `share` z."""
    inverse = spread(1.0) / (spread(follows) * t + spread(share) * not_t)
    return inverse * _to_left(follows * goes_left, share * left_share, t, not_t), inverse


@numba.njit(
    numba.void(
        numba.float32[::1], numba.int64[:, ::1], numba.int64, numba.int32[:, ::1],
        numba.uint16[::1], numba.uint16[::1], numba.float32[::1], numba.float64[::1],
        numba.uint16[:, ::1], numba.float32[:, ::1], numba.float64[::1], numba.float64[:, ::1],
        numba.float64[::1], numba.float64[::1], numba.uint16[::1], numba.float64[:, ::1],
        numba.int32[::1], numba.float32[::1], numba.float64[::1], numba.float64,
        numba.float64[::1], numba.int64[::1],
    ),
    cache=True, nogil=True, error_model="numpy",
)  # fmt: skip
def shapley(
    row: NDArray[np.float32],
    starts: NDArray[np.int64],
    most_places: int,
    stretches: NDArray[np.int32],
    roots: NDArray[np.uint16],
    feature: NDArray[np.uint16],
    threshold: NDArray[np.float32],
    left_share: NDArray[np.float64],
    children: NDArray[np.uint16],
    followed: NDArray[np.float32],
    share: NDArray[np.float64],
    last_values: NDArray[np.float64],
    leaf_values: NDArray[np.float64],
    longest_values: NDArray[np.float64],
    longest_places: NDArray[np.uint16],
    rules: NDArray[np.float64],
    first_starts: NDArray[np.int32],
    first_thresholds: NDArray[np.float32],
    first_effects: NDArray[np.float64],
    divisor: float,
    phi: NDArray[np.float64],
    order: NDArray[np.int64],
) -> None:
    """Fill phi, shape (features,), with the Shapley values of the path length, over all trees,
    divided by `divisor`; and `order` with the features, largest |phi| first, else as they stand.

    The arrays are those of `explanation.Explainer`, which says what they hold.
    """
    state = aligned_rows(most_places)  # of a node, one after another: `above`, effect, sum below
    to_left = aligned_rows(most_places)  # F_left / F
    surplus = np.empty(most_places)  # whether the row goes left, less the share of rows that do
    integrand = aligned_rows(phi.shape[0])
    integrand[:] = 0.0
    values = row.astype(np.float64)
    next_ = np.uintp(1)  # unsigned: what indexes with signed numbers is asked if it is negative

    for i in range(phi.shape[0]):
        phi[i] = first_effect(i, row[i], first_starts, first_thresholds, first_effects)

    for group in range(starts.shape[0] - 1):
        begin, end = starts[group], starts[group + 1]
        n_upper = end[UPPER] - begin[UPPER]
        for rule in range(begin[RULE], begin[RULE] + 3 * begin[PASSES], 3):
            t, not_t, weight = load(rules, rule), load(rules, rule + 1), load(rules, rule + 2)
            for i in range(begin[ROOTS], end[ROOTS]):
                store(state, roots[np.uintp(i)], weight)

            split, upper = np.uintp(begin[SPLITS]), np.uintp(begin[UPPER])
            repeating, last = np.uintp(begin[REPEATING]), np.uintp(begin[LAST])
            place = np.uintp(0)
            for stretch in range(0, stretches.shape[1] - 2, 2):
                for _ in range(stretches[group, stretch]):
                    goes_left = _not_above(values[np.uintp(feature[split])], threshold[split])
                    z_left = left_share[split]
                    factor = _to_left(goes_left, z_left, t, not_t)
                    above = load(state, place)
                    above_left = above * factor
                    surplus[place] = goes_left - z_left
                    store(state, place, above * spread(goes_left - z_left))
                    store(to_left, place, factor)
                    store(state, children[upper, 0], above_left)
                    store(state, children[upper, 1], above - above_left)
                    split += next_
                    upper += next_
                    place += next_
                for _ in range(stretches[group, stretch + 1]):
                    value = values[np.uintp(feature[split])]
                    goes_left, z_left = _not_above(value, threshold[split]), left_share[split]
                    o, z = _follows(value, followed, repeating), share[repeating]
                    factor, inverse = _to_left_again(goes_left, z_left, o, z, t, not_t)
                    above = load(state, place)
                    above_left = above * factor
                    surplus[place] = goes_left - z_left
                    effect = spread(o * z * (goes_left - z_left)) * (inverse * inverse)
                    store(state, place, above * effect)
                    store(to_left, place, factor)
                    store(state, children[upper, 0], above_left)
                    store(state, children[upper, 1], above - above_left)
                    split += next_
                    upper += next_
                    repeating += next_
                    place += next_

            for _ in range(stretches[group, -2]):
                tested = np.uintp(feature[split])
                goes_left, z_left = _not_above(values[tested], threshold[split]), left_share[split]
                right_value, excess = last_values[last, 0], last_values[last, 1]
                surplus[place] = goes_left - z_left
                change = load(state, place) * spread((goes_left - z_left) * excess)
                store(integrand, tested, load(integrand, tested) + change)
                factor = _to_left(goes_left, z_left, t, not_t)
                store(state, place, spread(right_value) + spread(excess) * factor)
                split += next_
                last += next_
                place += next_
            for _ in range(stretches[group, -1]):
                tested = np.uintp(feature[split])
                value = values[tested]
                goes_left, z_left = _not_above(value, threshold[split]), left_share[split]
                right_value, excess = last_values[last, 0], last_values[last, 1]
                o, z = _follows(value, followed, repeating), share[repeating]
                factor, inverse = _to_left_again(goes_left, z_left, o, z, t, not_t)
                surplus[place] = goes_left - z_left
                effect = spread(o * z * (goes_left - z_left) * excess) * (inverse * inverse)
                store(integrand, tested, load(integrand, tested) + load(state, place) * effect)
                store(state, place, spread(right_value) + spread(excess) * factor)
                split += next_
                last += next_
                repeating += next_
                place += next_

            for i in range(begin[LEAVES], end[LEAVES]):
                store(state, place, spread(leaf_values[np.uintp(i)]))
                place += next_

            place = np.uintp(n_upper)
            split, upper = np.uintp(begin[SPLITS]) + place, np.uintp(begin[UPPER]) + place
            for _ in range(n_upper):
                split -= next_
                upper -= next_
                place -= next_
                tested = np.uintp(feature[split])
                from_right = load(state, children[upper, 1])
                change = load(state, children[upper, 0]) - from_right
                store(integrand, tested, load(integrand, tested) + load(state, place) * change)
                store(state, place, from_right + change * load(to_left, place))

        n_features = 2 * LANES * begin[PASSES] + 2
        for i in range(end[LONGEST] - begin[LONGEST]):
            path = begin[PATHS] + i * n_features
            missed = longest_values[begin[LONGEST] + i]
            for j in range(path, path + n_features):
                missed *= surplus[longest_places[j]]
            for j in range(path, path + n_features):
                phi[feature[begin[SPLITS] + longest_places[j]]] += missed

    for i in range(phi.shape[0]):
        for lane in range(LANES):
            phi[i] += integrand[i, lane]
        phi[i] /= divisor
        rank = i
        while rank > 0 and abs(phi[order[rank - 1]]) < abs(phi[i]):
            order[rank] = order[rank - 1]
            rank -= 1
        order[rank] = i
