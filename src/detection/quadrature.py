"""Gauss-Radau quadrature on [0, 1]: integrals of polynomials as sums over a few points.

With n points of which one is 0, the sum is the integral of every polynomial of degree 2n - 2 and
less (Davis and Rabinowitz, Methods of Numerical Integration, 2nd ed., 2.7.1). One degree further it
misses by the leading coefficient times a constant that is known as well.
"""

from dataclasses import dataclass
from math import factorial

import numpy as np
from numpy.polynomial import Legendre
from numpy.typing import NDArray

_NEWTON_STEPS = 3  # each doubles the digits, and the eigenvalues that they start from have twelve


@dataclass(frozen=True, slots=True)
class RadauRule:
    """A rule with 0 among its points.

    Attributes:
        points: the other points, ascending, in (0, 1).
        weights: of these.
        weight_at_zero: of the point 0.
        remainder: what the sum lacks of the integral of a polynomial of degree 2n - 1 with leading
            coefficient 1, n being the number of all points.
    """

    points: NDArray[np.float64]
    weights: NDArray[np.float64]
    weight_at_zero: float
    remainder: float

    @classmethod
    def with_points(cls, n: int) -> "RadauRule":
        """The rule with n points besides 0, from 1 on."""
        total = n + 1
        last = Legendre.basis(n)
        polynomial = (last + Legendre.basis(total)) // Legendre([1, 1])
        x = np.sort(polynomial.roots().real)
        for _ in range(_NEWTON_STEPS):
            x = x - polynomial(x) / polynomial.deriv()(x)
        points = (x + 1) / 2
        return cls(
            points=points,
            weights=(1 - x) / (total * last(x)) ** 2 / 2,
            weight_at_zero=1 / total**2,
            # The integral of t times the square of the monic polynomial with zeros at the points: a
            # Jacobi polynomial (Abramowitz and Stegun, 22.2.2 with p = q = 2).
            remainder=(factorial(n) * factorial(total)) ** 2
            / ((2 * n + 2) * factorial(2 * n + 1) ** 2),
        )
