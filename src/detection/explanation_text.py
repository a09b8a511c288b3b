"""An explanation as the JSON text that findings carry, written by a kernel.

Thirty numbers with so and so many decimals take Python some 15 microseconds amid a transaction, a
sixth of all that a row of inputs costs which has not been seen before.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

_MOST_SCALED = 2.0**53  # from here on a double does not tell neighbouring integers apart
_NUMBER_LENGTH = 20  # characters: sign, 16 digits, point, and some to spare


def _ascii(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode("ascii"), dtype=np.uint8)


_WEIGHT, _FACTOR = _ascii(', "weight": '), _ascii(', "factor": ')
_FIRST, _NEXT, _LAST = _ascii("["), _ascii("}, "), _ascii("}]")
_MINUS, _POINT, _ZERO = np.uint8(ord("-")), np.uint8(ord(".")), np.uint8(ord("0"))


@dataclass(frozen=True, slots=True)
class ExplanationForm:
    """Writes explanations of rows of certain inputs.

    Attributes:
        names: of the inputs.
        openings: the text before each input's value, one after another.
        starts: where each of them begins; one entry more than there are inputs.
    """

    names: Sequence[str]
    openings: NDArray[np.uint8]
    starts: NDArray[np.int64]

    @classmethod
    def for_inputs(cls, names: Sequence[str]) -> "ExplanationForm":
        """Prepare the texts that do not depend on the row."""
        openings = [_ascii(f'{{"feature": {json.dumps(name)}, "value": ') for name in names]
        return cls(
            names=names,
            openings=np.concatenate([*openings, _ascii("")]),
            starts=np.cumsum([0, *map(len, openings)]),
        )

    def write(
        self, row: NDArray[np.float64], weights: NDArray[np.float64], order: NDArray[np.int64]
    ) -> str:
        """One JSON list: feature, value, signed weight and factor (2**weight) of each input.

        Args:
            row: values of all inputs.
            weights: of all inputs.
            order: the inputs to write, which come in this order.

        Returns:
            Values and weights with six decimals, factors with four.
        """
        between = 3 * _NUMBER_LENGTH + len(_WEIGHT) + len(_FACTOR) + len(_NEXT)
        text = np.empty(len(self.openings) + between * len(order) + 3, np.uint8)
        length = _write(row, weights, order, self.openings, self.starts, text)
        if length < 0:
            return self._write_large(row, weights, order)
        return text[:length].tobytes().decode("ascii")

    def _write_large(
        self, row: NDArray[np.float64], weights: NDArray[np.float64], order: NDArray[np.int64]
    ) -> str:
        """The same for numbers that the kernel does not take."""
        listed = [
            f'{{"feature": {json.dumps(self.names[i])}, "value": {row[i]:.6f}, '
            f'"weight": {weights[i]:.6f}, "factor": {2.0 ** weights[i]:.4f}}}'
            for i in order.tolist()
        ]
        return f"[{', '.join(listed)}]"


@numba.njit(nogil=True)
def _append(text: NDArray[np.uint8], at: int, piece: NDArray[np.uint8]) -> int:
    for i in range(len(piece)):
        text[at + i] = piece[i]
    return at + len(piece)


@numba.njit(nogil=True)
def _append_number(text: NDArray[np.uint8], at: int, value: float, decimals: int) -> int:
    """Append a number, rounded to the nearest; return where the text goes on, -1 if it is large."""
    scaled = np.rint(abs(value) * 10.0**decimals)
    if not scaled < _MOST_SCALED:
        return -1
    if math.copysign(1.0, value) < 0:
        text[at] = _MINUS
        at += 1
    digits = np.int64(scaled)
    length, power = decimals + 1, 10 ** (decimals + 1)
    while digits >= power:
        length += 1
        power *= 10
    for i in range(length, -1, -1):
        if i == length - decimals:
            text[at + i] = _POINT
        else:
            text[at + i] = _ZERO + np.uint8(digits % 10)
            digits //= 10
    return at + length + 1


_READ_ONLY = numba.types.Array(numba.float64, 1, "C", readonly=True)


@numba.njit(
    numba.int64(
        _READ_ONLY, numba.float64[::1], numba.int64[::1], numba.uint8[::1], numba.int64[::1],
        numba.uint8[::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def _write(
    row: NDArray[np.float64],
    weights: NDArray[np.float64],
    order: NDArray[np.int64],
    openings: NDArray[np.uint8],
    starts: NDArray[np.int64],
    text: NDArray[np.uint8],
) -> int:
    """Write into `text`, which is long enough; return its length, -1 if a number is too large."""
    at = _append(text, 0, _FIRST)
    for k in range(len(order)):
        i = order[k]
        at = _append(text, at, openings[starts[i] : starts[i + 1]])
        at = _append_number(text, at, row[i], 6)
        if at < 0:
            return at
        at = _append(text, at, _WEIGHT)
        at = _append_number(text, at, weights[i], 6)
        if at < 0:
            return at
        at = _append(text, at, _FACTOR)
        at = _append_number(text, at, 2.0 ** weights[i], 4)
        if at < 0:
            return at
        at = _append(text, at, _NEXT if k < len(order) - 1 else _LAST)
    if len(order) == 0:
        at = _append(text, at, _LAST[1:])
    return at
