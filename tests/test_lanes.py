"""Four doubles at once must be the same operations one by one, to the last bit."""

import numba
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from src.detection.lanes import LANES, aligned_rows, load, spread, store

ANY_DOUBLES = arrays(np.float64, (3, LANES), elements=st.floats(width=64))


@numba.njit(error_model="numpy")
def everything(rows, factor):
    """Both rows' sum, difference, product, quotient; the first row times a number."""
    results = np.empty((5, rows.shape[1]))
    left, right = load(rows, 0), load(rows, 1)
    store(results, 0, left + right)
    store(results, 1, left - right)
    store(results, 2, left * right)
    store(results, 3, left / right)
    store(results, np.uint8(4), left * spread(factor))
    return results


@given(ANY_DOUBLES, st.floats(width=64))
def test_lanes_compute_what_numpy_computes(rows, factor):
    with np.errstate(all="ignore"):
        left, right = rows[0], rows[1]
        expected = np.stack([left + right, left - right, left * right, left / right, left * factor])
    assert np.array_equal(everything(rows, factor), expected, equal_nan=True)


@numba.njit
def multiplied_and_added(rows):
    """Where a fused multiply-add would round once, not twice."""
    result = np.empty((1, rows.shape[1]))
    store(result, 0, load(rows, 0) * load(rows, 1) + load(rows, 2))
    return result[0]


def test_products_are_rounded_before_they_are_added_so_that_all_machines_agree():
    a = np.full(LANES, 1 + 2.0**-30)
    b = np.full(LANES, 1 - 2.0**-30)
    rows = np.stack([a, b, np.full(LANES, -1.0)])
    assert (multiplied_and_added(rows) == 0).all()  # fused it would be -2**-60


@numba.njit
def moved(rows):
    store(rows, 2, load(rows, 1))


@given(ANY_DOUBLES)
def test_a_row_is_moved_and_no_other_touched(rows):
    before = rows.copy()
    moved(rows)
    assert np.array_equal(rows, before[[0, 1, 1]], equal_nan=True)


@given(st.integers(0, 300))
def test_aligned_rows_begin_where_cache_lines_do(n):
    kept = [aligned_rows(n + i) for i in range(4)]  # at the same time, so at different places
    assert [rows.shape for rows in kept] == [(n + i, LANES) for i in range(4)]
    assert all(rows.ctypes.data % 64 == 0 and rows.flags.c_contiguous for rows in kept)
