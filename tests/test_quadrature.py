"""Gauss-Radau rules, held against integrals that are known."""

import numpy as np
import pytest

from src.detection.quadrature import RadauRule

MOST_POINTS = 16


def error_of_power(rule, degree):
    """Sum minus integral of t**degree."""
    at_zero = rule.weight_at_zero if degree == 0 else 0.0
    return at_zero + float(rule.weights @ rule.points**degree) - 1 / (degree + 1)


@pytest.mark.parametrize("n", range(1, MOST_POINTS + 1))
def test_polynomials_are_integrated_exactly_up_to_the_degree_that_is_promised(n):
    rule = RadauRule.with_points(n)
    assert len(rule.points) == n
    assert (np.diff(rule.points, prepend=0.0, append=1.0) > 0).all()
    assert (rule.weights > 0).all()
    assert max(abs(error_of_power(rule, degree)) for degree in range(2 * n + 1)) < 1e-14


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_the_next_degree_misses_by_the_remainder(n):
    rule = RadauRule.with_points(n)
    assert rule.remainder == pytest.approx(-error_of_power(rule, 2 * n + 1), abs=1e-15)
    assert rule.remainder > 1e-6  # so that the line above says something
