"""What the view and the features share: transfers as arrays, and the flows of each account.

A *flow* is what one account receives and sends of one token. Accounts, tokens, flows and hops get
dense numbers in order of first appearance, so that work is linear in the transfers.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

NET_TOLERANCE = 1e-9
"""A net flow within this share of the gross flow is zero: amounts are rounded to 53 bits."""

ZERO_ACCOUNT = 0  # `TransferBatch` gives the zero address this id


class Transfers(NamedTuple):
    """The arrays of a `TransferBatch`. Ids are not checked here."""

    offsets: NDArray[np.int64]
    token: NDArray[np.int32]
    sender: NDArray[np.int32]
    recipient: NDArray[np.int32]
    amount: NDArray[np.float64]
    origin: NDArray[np.int32]


class Transaction(NamedTuple):
    """One transaction's transfers in log order, and the id of its sender."""

    token: NDArray[np.int32]
    payer: NDArray[np.int32]
    payee: NDArray[np.int32]
    amount: NDArray[np.float64]
    origin: int


class Flows(NamedTuple):
    """What each account received and sent of each token, one entry a (token, account)."""

    # of_payer, of_payee: one entry a transfer: the flows of its two sides.
    of_payer: NDArray[np.int64]
    of_payee: NDArray[np.int64]
    # token, account: whose flow it is.
    token: NDArray[np.int64]
    account: NDArray[np.int64]
    net: NDArray[np.float64]  # received minus sent
    lowest: NDArray[np.float64]  # the lowest that `net` was on the way, at most 0
    # Received plus sent. Transfers from an account to itself count in neither.
    gross: NDArray[np.float64]
    # received, sent: numbers of transfers.
    received: NDArray[np.int64]
    sent: NDArray[np.int64]


TRANSFERS_TYPE = numba.types.NamedTuple(  # type: ignore[no-untyped-call]
    [
        numba.int64[::1], numba.int32[::1], numba.int32[::1], numba.int32[::1],
        numba.float64[::1], numba.int32[::1],
    ],
    Transfers,
)  # fmt: skip


@numba.njit(nogil=True)
def numbered(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Number distinct keys in order of first appearance: each key's number, and how many."""
    capacity = 8
    while capacity < 2 * len(keys):
        capacity *= 2
    mask = capacity - 1
    first = np.full(capacity, -1, np.int64)  # an open-addressing table of positions in `keys`
    numbers = np.empty(len(keys), np.int64)
    count = 0
    for i in range(len(keys)):
        # The finaliser of SplitMix64 (Steele, Lea, Flood 2014): consecutive keys spread evenly.
        mixed = np.uint64(keys[i])
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        slot = np.int64((mixed ^ (mixed >> np.uint64(31))) & np.uint64(mask))
        while first[slot] >= 0 and keys[first[slot]] != keys[i]:
            slot = (slot + 1) & mask
        if first[slot] < 0:
            first[slot] = i
            numbers[i] = count
            count += 1
        else:
            numbers[i] = numbers[first[slot]]
    return numbers, count


@numba.njit(nogil=True)
def pair_key(one: int, other: int) -> np.int64:
    """Two ids, below 2**31, as one key."""
    return np.int64(one) << 32 | np.int64(other)


@numba.njit(nogil=True)
def flows_of(transaction: Transaction) -> Flows:
    """Follow the transfers in order."""
    token, payer, payee, amount, _ = transaction
    keys = np.empty(2 * len(token), np.int64)
    for i in range(len(token)):
        keys[2 * i] = pair_key(token[i], payer[i])
        keys[2 * i + 1] = pair_key(token[i], payee[i])
    numbers, count = numbered(keys)
    # Few large arrays: in a transaction of a few transfers, most time is spent on making them.
    numbers_of, amounts = np.zeros((4, count), np.int64), np.zeros((3, count))
    flows = Flows(
        numbers[::2], numbers[1::2], numbers_of[0], numbers_of[1],
        amounts[0], amounts[1], amounts[2], numbers_of[2], numbers_of[3],
    )  # fmt: skip
    for i in range(len(token)):
        out, into = flows.of_payer[i], flows.of_payee[i]
        flows.token[out] = flows.token[into] = token[i]
        flows.account[out], flows.account[into] = payer[i], payee[i]
        flows.sent[out] += 1
        flows.received[into] += 1
        if out != into:
            flows.net[out] -= amount[i]
            flows.net[into] += amount[i]
            flows.gross[out] += amount[i]
            flows.gross[into] += amount[i]
            flows.lowest[out] = min(flows.lowest[out], flows.net[out])
    return flows
