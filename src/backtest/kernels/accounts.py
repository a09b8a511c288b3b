"""The compiled loop that numbers the accounts of each transaction."""

import numba
import numpy as np
from numpy.typing import NDArray

_ZERO_ACCOUNT = 0
_FEW = 16  # transfers of a transaction


@numba.njit(cache=True, nogil=True)
def mixed(total: np.uint64) -> np.uint64:
    """A number whose every bit depends on every bit of another: the end of a hash."""
    total = (total ^ (total >> np.uint64(32))) * np.uint64(0x94D049BB133111EB)
    return total ^ (total >> np.uint64(29))


@numba.njit(cache=True, nogil=True)
def _hash(words: NDArray[np.uint64], row: int, secret: NDArray[np.uint64]) -> np.uint64:
    """The words' products with secret odd numbers, added: they need not wait for one another."""
    total = np.uint64(0)
    for column in range(words.shape[1]):
        total += words[row, column] * secret[column]
    return mixed(total)


@numba.njit(cache=True, nogil=True)
def _same(one: NDArray[np.uint64], row: int, two: NDArray[np.uint64], other: int) -> bool:
    for column in range(one.shape[1]):  # noqa: SIM110  numba has no generators in all()
        if one[row, column] != two[other, column]:
            return False
    return True


# Here and in the calling loops: numba counts references to array arguments unless it can prove this
# unnecessary, as in functions with few arrays and return statements. Counting takes longer than the
# search.
@numba.njit(cache=True, nogil=True)
def _among_few(known: NDArray[np.uint64], count: int, words: NDArray[np.uint64], row: int) -> int:
    """The number of an address among the known ones; `count` if it is new."""
    for number in range(1, count):
        if (
            known[number, 2] == words[row, 2]
            and known[number, 1] == words[row, 1]
            and known[number, 0] == words[row, 0]
        ):
            return number
    return count


@numba.njit(cache=True, nogil=True)
def _among_many(
    known: NDArray[np.uint64],
    count: int,
    words: NDArray[np.uint64],
    row: int,
    table: NDArray[np.int32],
    mask: np.uint64,
    secret: NDArray[np.uint64],
) -> int:
    """The same, by a table of the numbers, where a new address gets the place of `count`.

    Only the places up to `mask` are used. One way out, so that numba counts no references.
    """
    slot = _hash(words, row, secret) & mask
    while table[slot] != 0 and table[slot] != count and not _same(known, table[slot], words, row):
        slot = (slot + np.uint64(1)) & mask
    if table[slot] == 0:
        table[slot] = count
    return int(table[slot])


@numba.njit(inline="always")
def _enter(known: NDArray[np.uint64], count: int, words: NDArray[np.uint64], row: int) -> None:
    for column in range(3):  # a row at once would be an array, whose references are counted
        known[count, column] = words[row, column]


@numba.njit(cache=True, nogil=True)
def _is_zero(words: NDArray[np.uint64], row: int) -> bool:
    return bool((words[row, 0] | words[row, 1] | words[row, 2]) == np.uint64(0))


@numba.njit(
    "Tuple((int32[::1], int32[::1], int32[::1], int32[::1], int64))("
    "int64[::1], uint64[:, ::1], uint64[:, ::1], uint64[:, ::1], uint64[:, ::1], boolean[::1],"
    "uint64[::1])",
    cache=True, nogil=True,
)  # fmt: skip
def number_accounts(
    offsets: NDArray[np.int64],
    payer: NDArray[np.uint64],
    payee: NDArray[np.uint64],
    origin: NDArray[np.uint64],
    called: NDArray[np.uint64],
    has_called: NDArray[np.bool_],
    secret: NDArray[np.uint64],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], int]:
    """Number the accounts of each transaction by itself: what is looked up stays in the cache.

    Args:
        offsets: transaction t has the transfers offsets[t]:offsets[t + 1].
        payer: address of each transfer's payer,
        payee: and payee.
        origin: address of each transaction's sender,
        called: and of the contract that it calls,
        has_called: where there is one.
        secret: four odd numbers for the hash; they change nothing in the result, but keep those who
            choose addresses from choosing collisions.

    Returns:
        Numbers of the payers, the payees, the origins, and the contracts called: -1 for those that
        have no part in the transfers. The zero address is 0, the others count from 1 in order of
        first appearance. Last, how many numbers there are in the largest transaction.
    """
    longest = 0
    for tx in range(len(offsets) - 1):
        longest = max(longest, offsets[tx + 1] - offsets[tx])
    known = np.zeros((2 * longest + 3, 3), np.uint64)
    reach = 8
    while reach < 4 * longest + 4:
        reach *= 2
    places = np.zeros(reach, np.int32)
    sender = np.empty(len(payer), np.int32)
    recipient = np.empty(len(payer), np.int32)
    of_origin = np.empty(len(origin), np.int32)
    of_called = np.full(len(origin), -1, np.int32)
    most = 1
    for tx in range(len(offsets) - 1):
        start, stop = offsets[tx], offsets[tx + 1]
        few = stop - start <= _FEW
        mask = np.uint64(0)
        if not few:
            reach = 8
            while reach < 4 * (stop - start) + 4:
                reach *= 2
            mask = np.uint64(reach - 1)
            for place in range(reach):
                places[place] = 0
        count = 1
        has_zero = False
        for row in range(start, stop):
            if _is_zero(payer, row):
                has_zero = True
                sender[row] = _ZERO_ACCOUNT
            else:
                if few:
                    number = _among_few(known, count, payer, row)
                else:
                    number = _among_many(known, count, payer, row, places, mask, secret)
                sender[row] = number
                if number == count:
                    _enter(known, count, payer, row)
                    count += 1
            if _is_zero(payee, row):
                has_zero = True
                recipient[row] = _ZERO_ACCOUNT
            else:
                if few:
                    number = _among_few(known, count, payee, row)
                else:
                    number = _among_many(known, count, payee, row, places, mask, secret)
                recipient[row] = number
                if number == count:
                    _enter(known, count, payee, row)
                    count += 1
        if has_called[tx]:
            if _is_zero(called, tx):
                of_called[tx] = _ZERO_ACCOUNT if has_zero else -1
            else:
                if few:
                    number = _among_few(known, count, called, tx)
                else:
                    number = _among_many(known, count, called, tx, places, mask, secret)
                if number < count:
                    of_called[tx] = number
        if _is_zero(origin, tx):
            of_origin[tx] = _ZERO_ACCOUNT
        else:
            if few:
                number = _among_few(known, count, origin, tx)
            else:
                number = _among_many(known, count, origin, tx, places, mask, secret)
            of_origin[tx] = number
            count = max(count, number + 1)
        most = max(most, count)
    return sender, recipient, of_origin, of_called, most
