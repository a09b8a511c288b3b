"""How rare a value is among background transactions, and the attack score that follows from two.

Rarity is resolved where it matters, in the tail.
"""

import math
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

_RESOLUTION: Final = 0.01
"""Distance between two knots in surprise: one percent of the share that ranks higher."""

_TAIL: Final = math.log(10)

_MAX_SURPRISE: Final = 25.0
"""More than any background has: half of one row in 36 billion."""

_TREES_WEIGHT: Final = 2.0
"""How much the trees' surprise counts against the forest's."""

_MAX_COMBINED: Final = 36.0  # beyond it 1 - exp(-surprise) would be 1


@dataclass(frozen=True, slots=True)
class Ranking:
    """From a value to its surprise, -log(share of the background that ranks no lower).

    Background values that equal the value count half. Between two knots the surprise is linear, so
    it never falls. Below the smallest background value it is 0. Beyond the largest nothing was
    measured: the share is extrapolated as falling inversely with the distance, one unit of which
    is the stretch over which it fell by its last factor of ten. So the order of values is kept
    there too, and no share is ever said to be zero.

    Raises:
        ValueError: the knots are not of this form.
    """

    values: NDArray[np.float64]  # of the knots, strictly ascending
    surprises: NDArray[np.float64]  # at the knots, positive, strictly ascending
    _unit: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for knots in (self.values, self.surprises):
            if knots.ndim != 1 or len(knots) == 0 or not np.isfinite(knots).all():
                raise ValueError("a ranking needs finite knots")
            if (np.diff(knots) <= 0).any():
                raise ValueError("a ranking's knots do not ascend")
        if len(self.values) != len(self.surprises):
            raise ValueError("a ranking has knots without a surprise")
        if self.surprises[0] < 0 or self.surprises[-1] > _MAX_SURPRISE:
            raise ValueError(f"a ranking's surprise lies outside [0, {_MAX_SURPRISE:g}]")
        with np.errstate(over="ignore"):
            slopes = np.diff(self.surprises) / np.diff(self.values)
        if not np.isfinite(slopes).all():
            raise ValueError("a ranking's knots lie too close together")
        since = np.interp(self.surprises[-1] - _TAIL, self.surprises, self.values)
        object.__setattr__(self, "_unit", float(self.values[-1] - since) or 1.0)

    @classmethod
    def of(cls, background: NDArray[np.float64]) -> Self:
        """The ranking among these values, shape (n,), at least one.

        Knots that are closer in surprise than 0.01 are left out, but for the last.
        """
        distinct, counts = np.unique(background, return_counts=True)
        higher = len(background) - np.cumsum(counts)
        surprises = np.log(len(background)) - np.log(higher + counts / 2)
        kept = [0]
        for knot in range(1, len(distinct)):
            is_last = knot == len(distinct) - 1
            if is_last or surprises[knot] - surprises[kept[-1]] >= _RESOLUTION:
                kept.append(knot)
        return cls(distinct[kept], surprises[kept])

    def surprise(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The surprise of each value, 0 or more."""
        beyond = np.maximum(values - self.values[-1], 0.0) / self._unit
        within = np.interp(values, self.values, self.surprises, left=0.0)
        surprises: NDArray[np.float64] = within + np.log1p(beyond)
        return surprises


@dataclass(frozen=True, slots=True)
class Calibration:
    """What makes an attack score of a forest's score and the trees' output.

        combined = surprise(forest's score) + 2 * surprise(trees' output)
        attack_score = 1 - exp(-surprise(combined))

    That is the share of background transactions that rank lower by `combined`; those of the very
    same rank count half.
    """

    # Of the forest's scores, of the trees' outputs and of their combination, among the same
    # background transactions, which neither model was fitted on.
    forest: Ranking
    trees: Ranking
    combined: Ranking
    background: int  # how many they are

    @classmethod
    def of(cls, forest_scores: NDArray[np.float64], outputs: NDArray[np.float64]) -> Self:
        """Calibrate on background, shape (n,), that neither model was fitted on."""
        forest, trees = Ranking.of(forest_scores), Ranking.of(outputs)
        combined = _combine(forest.surprise(forest_scores), trees.surprise(outputs))
        return cls(forest, trees, Ranking.of(combined), len(outputs))

    def attack_scores(
        self, forest_scores: NDArray[np.float64], outputs: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Attack scores, in [0, 1), shape (n,)."""
        combined = _combine(self.forest.surprise(forest_scores), self.trees.surprise(outputs))
        surprise = np.minimum(self.combined.surprise(combined), _MAX_COMBINED)
        scores: NDArray[np.float64] = -np.expm1(-surprise)
        return scores


def _combine(forest: NDArray[np.float64], trees: NDArray[np.float64]) -> NDArray[np.float64]:
    return forest + _TREES_WEIGHT * trees
