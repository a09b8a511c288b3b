"""The compiled kernel behind `definitions`: all features of one or many transactions in one pass.

What each feature means is documented in `definitions.FEATURES`. *Inner* transfers are those with
neither side the zero address; every structural feature reads those alone. A *flow* is what one
account receives and sends of one token. Accounts, tokens, flows and hops get dense numbers in order
of first appearance, so that work is linear in the transfers.
"""

import math
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

NET_TOLERANCE = 1e-9
"""A net flow within this share of the gross flow is zero: amounts are rounded to 53 bits."""

EXCESS_START = 2.0
"""Robust standard deviations from which on an amount is extraordinary."""

EXCESS_CAP = 4.0
"""Beyond this much excess, more says nothing more."""

N_FEATURES = 18

_ZERO_ACCOUNT = 0  # `TransferBatch` gives the zero address this id

# Columns, in the order of `definitions.FEATURES`.
(
    _REVERSE_HOPS,
    _REVERSE_SHARE,
    _REPAID_HOPS,
    _RESTORED_BALANCES,
    _PAIR_HOPS,
    _EDGE_REPEATS,
    _LEGS_PER_TOKEN,
    _PASS_THROUGH,
    _THROUGH_DEGREE,
    _DENSITY,
    _ORIGIN_ABSENT,
    _OUTSIDER_LOSS,
    _UNATTENDED_LOSS,
    _ORIGIN_FREE_GAIN,
    _UNFUNDED_RETURNS,
    _UNFUNDED_PAIR_HOPS,
    _FOREIGN_EXCESS,
    _TAKEN_EXCESS,
) = range(N_FEATURES)


class Transfers(NamedTuple):
    """The arrays of a `TransferBatch`. Ids are not checked here."""

    offsets: NDArray[np.int64]
    token: NDArray[np.int32]
    sender: NDArray[np.int32]
    recipient: NDArray[np.int32]
    amount: NDArray[np.float64]
    origin: NDArray[np.int32]


class Profile(NamedTuple):
    """What training transfers of each token moved.

    Attributes:
        row: by token id, the token's row in the other arrays; -1 where it is not known.
        center: median of log10(raw amount) of a known token's training transfers.
        scale: their robust standard deviation, positive.
    """

    row: NDArray[np.int32]
    center: NDArray[np.float64]
    scale: NDArray[np.float64]


class _Transaction(NamedTuple):
    """One transaction's transfers in log order, and the id of its sender."""

    token: NDArray[np.int32]
    payer: NDArray[np.int32]
    payee: NDArray[np.int32]
    amount: NDArray[np.float64]
    origin: int


class _Flows(NamedTuple):
    """What each account received and sent of each token, one entry a (token, account).

    Attributes:
        of_payer, of_payee: one entry a transfer: the flows of its two sides.
        token, account: whose flow it is.
        net: received minus sent.
        lowest: the lowest that `net` was on the way, at most 0.
        gross: received plus sent. Transfers from an account to itself count in neither.
        received, sent: numbers of transfers.
    """

    of_payer: NDArray[np.int64]
    of_payee: NDArray[np.int64]
    token: NDArray[np.int64]
    account: NDArray[np.int64]
    net: NDArray[np.float64]
    lowest: NDArray[np.float64]
    gross: NDArray[np.float64]
    received: NDArray[np.int64]
    sent: NDArray[np.int64]


class _Hops(NamedTuple):
    """Counts of hops, see `definitions.FEATURES`: distinct ones, reverse ones, repaid ones."""

    distinct: int
    reverse: int
    repaid: int


class _Accounts(NamedTuple):
    """What the accounts of a transaction did.

    Attributes:
        total: how many there are.
        relayed: most transfers that one account both received and sent.
        outsider_loss: most tokens of which one account but the origin ends poorer.
        origin_present: whether the origin is one of them.
        origin_gain, origin_loss: numbers of tokens of which the origin ends richer and poorer.
    """

    total: int
    relayed: int
    outsider_loss: int
    origin_present: bool
    origin_gain: int
    origin_loss: int


@numba.njit(nogil=True)
def _numbered(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
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
def _pair_key(one: int, other: int) -> np.int64:
    """Two ids, below 2**31, as one key."""
    return np.int64(one) << 32 | np.int64(other)


@numba.njit(nogil=True)
def _inner_of(transaction: _Transaction) -> _Transaction:
    """The transaction with its inner transfers alone; itself if it has no others."""
    token, payer, payee, amount, origin = transaction
    n_inner = 0
    for i in range(len(token)):
        n_inner += _ZERO_ACCOUNT not in (payer[i], payee[i])
    if n_inner == len(token):  # as most: copies would be a good part of a backtest's work
        return transaction
    kept = np.flatnonzero((payer != _ZERO_ACCOUNT) & (payee != _ZERO_ACCOUNT))
    return _Transaction(token[kept], payer[kept], payee[kept], amount[kept], origin)


@numba.njit(nogil=True)
def _flows_of(transaction: _Transaction) -> _Flows:
    """Follow the transfers in order."""
    token, payer, payee, amount, _ = transaction
    keys = np.empty(2 * len(token), np.int64)
    for i in range(len(token)):
        keys[2 * i] = _pair_key(token[i], payer[i])
        keys[2 * i + 1] = _pair_key(token[i], payee[i])
    numbers, count = _numbered(keys)
    flows = _Flows(
        numbers[::2], numbers[1::2], np.empty(count, np.int64), np.empty(count, np.int64),
        np.zeros(count), np.zeros(count), np.zeros(count),
        np.zeros(count, np.int64), np.zeros(count, np.int64),
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


@numba.njit(nogil=True)
def _hops_of(flows: _Flows, amount: NDArray[np.float64]) -> _Hops:
    """Count hops: transfers that move a token from one account to another, and back."""
    keys = np.empty(2 * len(amount), np.int64)
    for i in range(len(amount)):  # a token's two flows say from where to where it moves
        keys[2 * i] = _pair_key(flows.of_payer[i], flows.of_payee[i])
        keys[2 * i + 1] = _pair_key(flows.of_payee[i], flows.of_payer[i])
    numbers, count = _numbered(keys)
    made, moved = np.zeros(count, np.bool_), np.zeros(count)
    reverse = repaid = 0
    for i in range(len(amount)):
        hop, opposite = numbers[2 * i], numbers[2 * i + 1]
        made[hop] = True
        moved[hop] += amount[i]
        if hop != opposite and made[opposite]:
            reverse += 1
            repaid += amount[i] >= moved[opposite] * (1.0 - NET_TOLERANCE)
    return _Hops(made.sum(), reverse, repaid)


@numba.njit(nogil=True)
def _most_between_two(transaction: _Transaction) -> int:
    """Largest number of transfers between the same two accounts, in either direction."""
    keys = np.empty(len(transaction.payer), np.int64)
    for i in range(len(keys)):
        payer, payee = transaction.payer[i], transaction.payee[i]
        keys[i] = _pair_key(min(payer, payee), max(payer, payee))
    return int(np.bincount(_numbered(keys)[0]).max())


@numba.njit(nogil=True)
def _accounts_of(flows: _Flows, origin: int) -> _Accounts:
    """Add up each account's flows."""
    numbers, count = _numbered(flows.account)
    received, sent = np.zeros(count, np.int64), np.zeros(count, np.int64)
    gained, lost = np.zeros(count, np.int64), np.zeros(count, np.int64)
    origin_number = -1
    for flow in range(len(numbers)):
        account = numbers[flow]
        if flows.account[flow] == origin:
            origin_number = account
        received[account] += flows.received[flow]
        sent[account] += flows.sent[flow]
        tolerance = NET_TOLERANCE * flows.gross[flow]
        gained[account] += flows.net[flow] > tolerance
        lost[account] += flows.net[flow] < -tolerance
    relayed = outsider_loss = 0
    for account in range(count):
        relayed = max(relayed, min(received[account], sent[account]))
        if account != origin_number:
            outsider_loss = max(outsider_loss, lost[account])
    if origin_number < 0:
        return _Accounts(count, relayed, outsider_loss, False, 0, 0)
    origin_gain, origin_loss = gained[origin_number], lost[origin_number]
    return _Accounts(count, relayed, outsider_loss, True, origin_gain, origin_loss)


@numba.njit(nogil=True)
def _fill_structure(inner: _Transaction, flows: _Flows, out: NDArray[np.float64]) -> None:
    """Fill the structural features of a transaction that has inner transfers."""
    n = len(inner.token)
    hops = _hops_of(flows, inner.amount)
    accounts = _accounts_of(flows, inner.origin)
    _, tokens = _numbered(inner.token.astype(np.int64))
    payers = payees = restored = pass_through = 0
    for flow in range(len(flows.net)):
        tolerance = NET_TOLERANCE * flows.gross[flow]
        sent, received = flows.sent[flow] > 0, flows.received[flow] > 0
        payers += sent
        payees += received
        pass_through += sent and received and abs(flows.net[flow]) <= tolerance
        restored += flows.lowest[flow] < -tolerance and flows.net[flow] >= -tolerance

    out[_REVERSE_HOPS] = math.log2(1.0 + hops.reverse)
    out[_REVERSE_SHARE] = hops.reverse / n
    out[_REPAID_HOPS] = math.log2(1.0 + hops.repaid)
    out[_RESTORED_BALANCES] = math.log2(1.0 + restored)
    out[_PAIR_HOPS] = math.log2(_most_between_two(inner))
    out[_EDGE_REPEATS] = math.log2(n / hops.distinct)
    out[_LEGS_PER_TOKEN] = max(0.0, math.log2(min(payers, payees) / tokens))
    out[_PASS_THROUGH] = math.log2(1.0 + pass_through)
    out[_THROUGH_DEGREE] = math.log2(1.0 + accounts.relayed)
    out[_DENSITY] = max(0.0, hops.distinct / accounts.total - 1.0)
    out[_OUTSIDER_LOSS] = math.log2(1.0 + accounts.outsider_loss)
    if not accounts.origin_present:
        out[_ORIGIN_ABSENT] = 1.0
        out[_UNATTENDED_LOSS] = out[_OUTSIDER_LOSS]
    if accounts.origin_loss == 0:
        out[_ORIGIN_FREE_GAIN] = math.log2(1.0 + accounts.origin_gain)
        out[_UNFUNDED_RETURNS] = out[_REVERSE_HOPS]
        out[_UNFUNDED_PAIR_HOPS] = out[_PAIR_HOPS]


@numba.njit(nogil=True)
def _excess(value: float, token: int, profile: Profile) -> float:
    """Robust z of log10(value) beyond EXCESS_START, 0 to EXCESS_CAP; 0 for unknown tokens."""
    known = profile.row[token]
    if known < 0 or value <= 0.0:
        return 0.0
    excess = (math.log10(value) - profile.center[known]) / profile.scale[known] - EXCESS_START
    return float(min(max(excess, 0.0), EXCESS_CAP))


@numba.njit(nogil=True)
def _fill_amounts(
    transaction: _Transaction, flows: _Flows, profile: Profile, out: NDArray[np.float64]
) -> None:
    """Fill the features that compare amounts, mints and burns included."""
    token, payer, _, amount, origin = transaction
    for i in range(len(token)):
        if payer[i] != origin:
            excess = _excess(amount[i], token[i], profile)
            out[_FOREIGN_EXCESS] = max(out[_FOREIGN_EXCESS], excess)
    for flow in range(len(flows.net)):
        loss = -flows.net[flow]
        if loss > NET_TOLERANCE * flows.gross[flow] and flows.account[flow] != origin:
            excess = _excess(loss, flows.token[flow], profile)
            out[_TAKEN_EXCESS] = max(out[_TAKEN_EXCESS], excess)


_TRANSFERS_TYPE = numba.types.NamedTuple(  # type: ignore[no-untyped-call]
    [
        numba.int64[::1], numba.int32[::1], numba.int32[::1], numba.int32[::1],
        numba.float64[::1], numba.int32[::1],
    ],
    Transfers,
)  # fmt: skip
_PROFILE_TYPE = numba.types.NamedTuple(  # type: ignore[no-untyped-call]
    [numba.int32[::1], numba.float64[::1], numba.float64[::1]], Profile
)


@numba.njit(numba.float64[:, ::1](_TRANSFERS_TYPE, _PROFILE_TYPE), cache=True, nogil=True)
def transaction_features(transfers: Transfers, profile: Profile) -> NDArray[np.float64]:
    """Features of all transactions, shape (n_tx, N_FEATURES)."""
    n_tx = len(transfers.offsets) - 1
    features = np.zeros((n_tx, N_FEATURES), np.float64)
    for tx in range(n_tx):
        begin, end = transfers.offsets[tx], transfers.offsets[tx + 1]
        transaction = _Transaction(
            transfers.token[begin:end], transfers.sender[begin:end],
            transfers.recipient[begin:end], transfers.amount[begin:end], transfers.origin[tx],
        )  # fmt: skip
        flows = _flows_of(transaction)
        _fill_amounts(transaction, flows, profile, features[tx])
        inner = _inner_of(transaction)
        if len(inner.token) < len(transaction.token):
            flows = _flows_of(inner)
        if len(inner.token) > 0:
            _fill_structure(inner, flows, features[tx])
    return features
