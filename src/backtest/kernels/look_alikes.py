"""The compiled search for accounts with counterparties whose addresses look alike."""

import numba
import numpy as np
from numpy.typing import NDArray

from src.backtest.kernels.accounts import mixed

_SHARE = 16_384


@numba.njit(cache=True, nogil=True)
def _pair_hash(
    account: NDArray[np.uint64],
    other: NDArray[np.uint64],
    row: int,
    shift: np.uint64,
    tail: np.uint64,
    secret: NDArray[np.uint64],
) -> np.uint64:
    """Of an account and of what a glance sees of another address, whose first word has 32 bits."""
    look = ((other[row, 0] >> shift) << np.uint64(32)) | (other[row, 2] & tail)
    total = look * secret[3]
    for column in range(3):
        total += account[row, column] * secret[column]
    return mixed(total)


@numba.njit(
    numba.boolean[::1](
        numba.int32[::1], numba.int32[::1], numba.uint64[:, ::1], numba.uint64[:, ::1],
        numba.int64, numba.int64, numba.uint64[::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def may_look_alike(
    sender: NDArray[np.int32],
    recipient: NDArray[np.int32],
    payer: NDArray[np.uint64],
    payee: NDArray[np.uint64],
    head_bits: int,
    tail_bits: int,
    secret: NDArray[np.uint64],
) -> NDArray[np.bool_]:
    """Transfers of an account that has two counterparties that begin and end alike.

    All of them, and perhaps one in 2**64 others. The pairs are dealt out by their hash first, so
    that each share's table fits into the processor's cache.

    Args:
        sender: number of each transfer's payer within its transaction, 0 for the zero address,
        recipient: and of its payee.
        payer: address of the payer,
        payee: and of the payee.
        head_bits: how many first bits, at most 32,
        tail_bits: and last bits make addresses read alike, at most 32.
        secret: see `number_accounts`.
    """
    count = len(sender)
    shares = 1
    while 2 * count > _SHARE * shares:
        shares *= 2
    by_share = np.uint64(shares - 1)
    shift = np.uint64(32 - head_bits)
    tail = (np.uint64(1) << np.uint64(tail_bits)) - np.uint64(1)
    hashes = np.empty((count, 2), np.uint64)
    starts = np.zeros(shares + 1, np.int64)
    for row in range(count):
        if sender[row] == recipient[row] or sender[row] == 0 or recipient[row] == 0:
            continue
        hashes[row, 0] = _pair_hash(payer, payee, row, shift, tail, secret)
        hashes[row, 1] = _pair_hash(payee, payer, row, shift, tail, secret)
        starts[np.int64(hashes[row, 0] & by_share) + 1] += 1
        starts[np.int64(hashes[row, 1] & by_share) + 1] += 1
    largest = 0
    for share in range(shares):
        largest = max(largest, int(starts[share + 1]))
        starts[share + 1] += starts[share]
    dealt = np.empty(starts[shares], np.uint64)  # hashes, and
    items = np.empty(starts[shares], np.int32)  # twice the row, and the side
    free = starts[:shares].copy()
    for row in range(count):
        if sender[row] == recipient[row] or sender[row] == 0 or recipient[row] == 0:
            continue
        for side in range(2):
            own = np.int64(hashes[row, side] & by_share)
            dealt[free[own]] = hashes[row, side]
            items[free[own]] = 2 * row + side
            free[own] += 1

    capacity = 16
    while capacity < 2 * largest:
        capacity *= 2
    mask = np.uint64(capacity - 1)
    table = np.zeros(capacity, np.int64)  # 1 + where the first of its kind stands in `dealt`
    slots = np.empty(largest, np.int32)
    differ = np.zeros(capacity, np.bool_)
    found = np.zeros(count, np.bool_)
    for share in range(shares):
        start, stop = starts[share], starts[share + 1]
        table[:] = 0
        any_differ = False
        for at in range(start, stop):
            slot = (dealt[at] >> np.uint64(32)) & mask
            while table[slot] != 0 and dealt[table[slot] - 1] != dealt[at]:
                slot = (slot + np.uint64(1)) & mask
            slots[at - start] = slot
            if table[slot] == 0:
                table[slot] = at + 1
                differ[slot] = False
                continue
            one, two = items[table[slot] - 1], items[at]
            for column in range(3):
                first = payee[one // 2, column] if one % 2 == 0 else payer[one // 2, column]
                other = payee[two // 2, column] if two % 2 == 0 else payer[two // 2, column]
                if first != other:
                    differ[slot] = True
                    any_differ = True
        if any_differ:
            for at in range(start, stop):
                if differ[slots[at - start]]:
                    found[items[at] // 2] = True
    return found
