"""Compiled loops over addresses, hashes and amounts as rows of 64-bit words.

The most significant word is first: 20 bytes take three words, 32 bytes four. Comparing words is
exact and several times faster than comparing text. All release the GIL.
"""

import math

import numba
import numpy as np
from numpy.typing import NDArray

ADDRESS_BYTES = 20
WORD_BYTES = 32

_ONES = np.uint64(0x0101010101010101)
_LOW = np.uint64(0x0F0F0F0F0F0F0F0F)
_EVEN_BYTES = np.uint64(0x00FF00FF00FF00FF)
_EVEN_PAIRS = np.uint64(0x0000FFFF0000FFFF)


@numba.njit(numba.float64[::1](numba.uint64[:, ::1]), cache=True, nogil=True)
def to_floats(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Unsigned 256-bit numbers as float64, rounded as Python's `float(int)` rounds: half to even.

    The top 64 significant bits, the last of them set when anything below it is, round like the
    whole number; scaling by a power of two is exact.
    """
    floats = np.zeros(len(words), np.float64)
    for i in range(len(words)):
        first = 0
        while first < 4 and words[i, first] == 0:
            first += 1
        if first >= 3:  # one word, which the processor rounds alike
            floats[i] = float(words[i, 3])
            continue
        top = words[i, first]
        shift = np.uint64(0)
        for bits in (32, 16, 8, 4, 2, 1):
            if top >> np.uint64(64 - bits) == 0:
                top <<= np.uint64(bits)
                shift += np.uint64(bits)
        exponent = 64 * (3 - first) - np.int64(shift)
        if first < 3:
            following = words[i, first + 1]
            if shift > 0:
                top |= following >> (np.uint64(64) - shift)
                following <<= shift
            sticky = following != 0
            for column in range(first + 2, 4):
                sticky |= words[i, column] != 0
            if sticky:
                top |= np.uint64(1)
        floats[i] = math.ldexp(float(top), int(exponent))
    return floats


@numba.njit(inline="always")
def _find(
    words: NDArray[np.uint64],
    row: int,
    first: NDArray[np.int64],
    table: NDArray[np.int32],
    factors: NDArray[np.uint64],
) -> tuple[np.uint64, int]:
    """Where a row belongs in an open-addressing table, and its number or -1."""
    mask = np.uint64(len(table) - 1)
    mixed = np.uint64(0)
    for column in range(words.shape[1]):  # products need not wait for one another
        mixed += words[row, column] * factors[column]
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    slot = (mixed ^ (mixed >> np.uint64(31))) & mask
    while True:
        number = table[slot]
        if number < 0:
            return slot, -1
        same = True
        for column in range(words.shape[1]):
            if words[first[number], column] != words[row, column]:
                same = False
                break
        if same:
            return slot, number
        slot = (slot + np.uint64(1)) & mask


@numba.njit(cache=True, nogil=True)
def _number_some(
    words: NDArray[np.uint64],
    start: int,
    numbers: NDArray[np.int32],
    first: NDArray[np.int64],
    found: int,
    table: NDArray[np.int32],
    factors: NDArray[np.uint64],
) -> tuple[int, int]:
    """Number rows from `start` on until the table is half full.

    A function by itself because numba counts the references to an array that may be replaced, row
    by row.

    Returns:
        Where it stopped, and how many distinct rows there are.
    """
    count, width = words.shape
    for i in range(start, count):
        if i > 0:
            same = True
            for column in range(width):
                if words[i, column] != words[i - 1, column]:
                    same = False
                    break
            if same:
                numbers[i] = numbers[i - 1]
                continue
        slot, number = _find(words, i, first, table, factors)
        if number < 0:
            number = found
            table[slot] = found
            first[found] = i
            found += 1
        numbers[i] = number
        if 2 * found > len(table):
            return i + 1, found
    return count, found


@numba.njit(
    "Tuple((int32[::1], int64[::1]))(uint64[:, ::1], uint64)",
    cache=True, nogil=True,
)  # fmt: skip
def number_rows(
    words: NDArray[np.uint64], seed: np.uint64
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number distinct rows in order of first appearance.

    Args:
        words: the rows.
        seed: of the hash; changes nothing in the result. A secret one keeps those who choose
            addresses from choosing collisions.

    Returns:
        The number of each row, and the first row of each number.
    """
    count, width = words.shape
    factors = np.empty(width, np.uint64)
    factor = seed
    for column in range(width):
        factor = (factor ^ (factor >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        factor = (factor ^ (factor >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        factors[column] = factor | np.uint64(1)
    numbers = np.empty(count, np.int32)
    first = np.empty(count, np.int64)
    # Starts small and grows: few distinct rows stay in the processor's cache.
    capacity = 1024
    done = found = 0
    while done < count:
        table = np.full(capacity, -1, np.int32)
        for number in range(found):
            slot, _ = _find(words, first[number], first, table, factors)
            table[slot] = number
        done, found = _number_some(words, done, numbers, first, found, table, factors)
        capacity *= 4
    return numbers, first[:found].copy()


@numba.njit(
    numba.uint8[::1](numba.uint64[:, ::1], numba.int64), cache=True, nogil=True
)  # fmt: skip
def hex_text(words: NDArray[np.uint64], n_bytes: int) -> NDArray[np.uint8]:
    """`0x` and lowercase hex digits of each row of `n_bytes` (a multiple of 4), one after another.

    Eight digits at once, a byte each.
    """
    length = 2 * n_bytes + 2
    width = words.shape[1]
    groups = n_bytes // 4
    text = np.empty(len(words) * length, np.uint8)
    for i in range(len(words)):
        at = np.uint64(i * length)
        text[at] = 48
        text[at + np.uint64(1)] = 120
        at += np.uint64(2)
        for group in range(groups):
            back = groups - 1 - group
            value = words[i, width - 1 - back // 2] >> np.uint64(32 * (back % 2))
            value &= np.uint64(0xFFFFFFFF)
            value = (value | (value << np.uint64(16))) & _EVEN_PAIRS
            value = (value | (value << np.uint64(8))) & _EVEN_BYTES
            value = (value | (value << np.uint64(4))) & _LOW
            is_letter = ((value + np.uint64(6) * _ONES) >> np.uint64(4)) & _ONES
            value += np.uint64(0x30) * _ONES + is_letter * np.uint64(0x27)
            for k in range(8):
                text[at + np.uint64(k)] = (value >> np.uint64(56 - 8 * k)) & np.uint64(255)
            at += np.uint64(8)
    return text


@numba.njit(
    numba.int32[:, ::1](numba.float64[:, ::1], numba.float32[::1], numba.int64[::1]),
    cache=True, nogil=True,
)  # fmt: skip
def cell_codes(
    rows: NDArray[np.float64], thresholds: NDArray[np.float32], starts: NDArray[np.int64]
) -> NDArray[np.int32]:
    """For each value, how many thresholds of its column are below it; -1 where it is not finite.

    Args:
        rows: compared as float32, as the trees do.
        thresholds: column i has thresholds[starts[i]:starts[i + 1]], rising.
        starts: one more than there are columns.
    """
    count, width = rows.shape
    codes = np.empty((count, width), np.int32)
    for i in range(count):
        for column in range(width):
            value = np.float32(rows[i, column])
            if not np.isfinite(value):
                codes[i, column] = -1
                continue
            low, high = starts[column], starts[column + 1]
            while low < high:
                middle = (low + high) // 2
                if value > thresholds[middle]:
                    low = middle + 1
                else:
                    high = middle
            codes[i, column] = low - starts[column]
    return codes
