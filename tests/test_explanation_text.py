"""The text of explanations, held against Python's own formatting."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from src.detection.explanation_text import ExplanationForm

NAMES = ("density", 'a "quoted" name', "größe\n", "pair_hops")
FORM = ExplanationForm.for_inputs(NAMES)


def as_python_writes(row, weights, order):
    return (
        "["
        + ", ".join(
            f'{{"feature": {json.dumps(NAMES[i])}, "value": {row[i]:.6f}, '
            f'"weight": {weights[i]:.6f}, "factor": {2.0 ** weights[i]:.4f}}}'
            for i in order
        )
        + "]"
    )


def numbers(magnitude):
    return arrays(np.float64, len(NAMES), elements=st.floats(-magnitude, magnitude))


@given(numbers(1e4), numbers(5.0), st.permutations(range(4)), st.integers(0, 4))
def test_numbers_are_rounded_to_the_nearest(row, weights, order, most):
    order = np.array(order[:most], dtype=np.int64)
    told = json.loads(FORM.write(row, weights, order))
    assert [one["feature"] for one in told] == [NAMES[i] for i in order]
    for one, i in zip(told, order, strict=True):
        # Half a unit of the last decimal, and the products' own rounding.
        assert one["value"] == pytest.approx(row[i], abs=0.5e-6 * (1 + 1e-9), rel=1e-15)
        assert one["weight"] == pytest.approx(weights[i], abs=0.5e-6 * (1 + 1e-9), rel=1e-15)
        assert one["factor"] == pytest.approx(2.0 ** weights[i], abs=0.5e-4 * (1 + 1e-9))


def test_the_text_is_pythons_but_for_numbers_half_way_between_two():
    rng = np.random.default_rng(0)
    order = np.array([2, 0, 3, 1])
    for scale in (1e-9, 1e-3, 1.0, 1e3, 1e6):
        for _ in range(200):
            row, weights = scale * rng.normal(size=4), min(scale, 1.0) * rng.normal(size=4)
            row[0], row[1] = np.rint(row[0]), -0.0
            assert FORM.write(row, weights, order) == as_python_writes(row, weights, order)


@given(arrays(np.float64, 4, elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_numbers_of_any_size_are_written(row):
    order = np.arange(4)
    told = json.loads(FORM.write(row, np.zeros(4), order))
    for one, value in zip(told, row, strict=True):
        assert one["value"] == pytest.approx(value, abs=0.5e-6 * (1 + 1e-9), rel=1e-15)


@pytest.mark.parametrize("at", ["row", "weights"])
def test_numbers_that_are_too_large_for_the_kernel_are_written_by_python(at):
    row, weights = np.array([1.5, 2.0, 3.0, 4.0]), np.array([0.1, -0.2, 0.3, 0.0])
    (row if at == "row" else weights)[1] = 1e12 if at == "row" else 60.0
    order = np.array([1, 3], dtype=np.int64)
    assert FORM.write(row, weights, order) == as_python_writes(row, weights, order)


def test_an_explanation_of_nothing_is_an_empty_list():
    nothing = np.array([], dtype=np.int64)
    assert FORM.write(np.zeros(4), np.zeros(4), nothing) == "[]"
    assert ExplanationForm.for_inputs(()).write(np.zeros(0), np.zeros(0), nothing) == "[]"
