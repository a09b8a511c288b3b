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

from src.detection.features.flows import (
    NET_TOLERANCE,
    TRANSFERS_TYPE,
    ZERO_ACCOUNT,
    Flows,
    Transaction,
    Transfers,
    flows_of,
    numbered,
    pair_key,
)
from src.detection.features.view import view_of

EXCESS_START = 2.0
"""Robust standard deviations from which on an amount is extraordinary."""

EXCESS_CAP = 4.0
"""Beyond this much excess, more says nothing more."""

MAGNITUDE_CAP = 5.0
"""Values from about 10,000 ETH on say no more."""

N_FEATURES = 27

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
    _ROUND_LOSS,
    _MAX_IN_DEGREE,
    _MAX_OUT_DEGREE,
    _ROUND_FLOWS,
    _TRANSFERS_PER_ACCOUNT,
    _TWO_TOKEN_EDGES,
    _KEPT_VALUE,
    _REVERSED_KEPT_VALUE,
    _LOST_VALUE,
) = range(N_FEATURES)


class Profile(NamedTuple):
    """What training transfers of each token moved, and what it is worth."""

    # By token id, what one raw unit is worth in ETH; 0 where it is not known.
    value: NDArray[np.float64]
    # By token id, the token's row in `center` and `scale`; -1 where it is not known.
    row: NDArray[np.int32]
    center: NDArray[np.float64]  # median of log10(raw amount) of a known token's training transfers
    scale: NDArray[np.float64]  # their robust standard deviation, positive


class _Hops(NamedTuple):
    """Counts of hops, see `definitions.FEATURES`: distinct ones, reverse ones, repaid ones."""

    distinct: int
    reverse: int
    repaid: int


class _Accounts(NamedTuple):
    """What the accounts of a transaction did."""

    total: int  # how many there are
    # received, sent: most transfers into one of them and out of one of them.
    received: int
    sent: int
    relayed: int  # most transfers that one account both received and sent
    outsider_loss: int  # most tokens of which one account but the origin ends poorer
    origin_present: bool  # whether the origin is one of them
    # origin_gain, origin_loss: numbers of tokens of which the origin ends richer and poorer.
    origin_gain: int
    origin_loss: int
    # Largest value, in ETH, that an account keeps that paid and was paid and ends poorer of no
    # token.
    kept: float
    origin_kept: float  # value that the origin keeps if it ends poorer of no token
    lost: float  # largest value by which an account but the origin ends poorer, all tokens together


@numba.njit(nogil=True)
def _inner_of(transaction: Transaction) -> Transaction:
    """The transaction with its inner transfers alone; itself if it has no others."""
    token, payer, payee, amount, origin = transaction
    n_inner = 0
    for i in range(len(token)):
        n_inner += ZERO_ACCOUNT not in (payer[i], payee[i])
    if n_inner == len(token):  # as most: copies would be a good part of a backtest's work
        return transaction
    kept = np.flatnonzero((payer != ZERO_ACCOUNT) & (payee != ZERO_ACCOUNT))
    return Transaction(token[kept], payer[kept], payee[kept], amount[kept], origin)


@numba.njit(nogil=True)
def _hops_of(flows: Flows, amount: NDArray[np.float64]) -> _Hops:
    """Count hops: transfers that move a token from one account to another, and back."""
    keys = np.empty(2 * len(amount), np.int64)
    for i in range(len(amount)):  # a token's two flows say from where to where it moves
        keys[2 * i] = pair_key(flows.of_payer[i], flows.of_payee[i])
        keys[2 * i + 1] = pair_key(flows.of_payee[i], flows.of_payer[i])
    numbers, count = numbered(keys)
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
def _most_between_two(transaction: Transaction) -> int:
    """Largest number of transfers between the same two accounts, in either direction."""
    keys = np.empty(len(transaction.payer), np.int64)
    for i in range(len(keys)):
        payer, payee = transaction.payer[i], transaction.payee[i]
        keys[i] = pair_key(min(payer, payee), max(payer, payee))
    return int(np.bincount(numbered(keys)[0]).max())


@numba.njit(nogil=True)
def _two_token_edges(transaction: Transaction) -> int:
    """Number of (payer, payee) that more than one token is moved between, in that direction."""
    keys = np.empty(len(transaction.payer), np.int64)
    for i in range(len(keys)):
        keys[i] = pair_key(transaction.payer[i], transaction.payee[i])
    numbers, count = numbered(keys)
    token, several = np.full(count, -1, np.int64), np.zeros(count, np.bool_)
    for i in range(len(keys)):
        edge = numbers[i]
        several[edge] |= token[edge] >= 0 and token[edge] != transaction.token[i]
        token[edge] = transaction.token[i]
    return int(several.sum())


@numba.njit(nogil=True)
def _accounts_of(flows: Flows, origin: int, value: NDArray[np.float64]) -> _Accounts:
    """Add up each account's flows."""
    numbers, count = numbered(flows.account)
    received, sent = np.zeros(count, np.int64), np.zeros(count, np.int64)
    gained, lost = np.zeros(count, np.int64), np.zeros(count, np.int64)
    worth = np.zeros(count)
    origin_number = -1
    for flow in range(len(numbers)):
        account = numbers[flow]
        if flows.account[flow] == origin:
            origin_number = account
        received[account] += flows.received[flow]
        sent[account] += flows.sent[flow]
        net, tolerance = flows.net[flow], NET_TOLERANCE * flows.gross[flow]
        gained[account] += net > tolerance
        lost[account] += net < -tolerance
        if abs(net) > tolerance:
            worth[account] += net * value[flows.token[flow]]
    relayed = outsider_loss = 0
    most_kept = most_lost = origin_kept = 0.0
    for account in range(count):
        relayed = max(relayed, min(received[account], sent[account]))
        if lost[account] == 0 and received[account] > 0 and sent[account] > 0:
            most_kept = max(most_kept, worth[account])
        if account != origin_number:
            outsider_loss = max(outsider_loss, lost[account])
            most_lost = max(most_lost, -worth[account])
    origin_gain = origin_loss = 0
    if origin_number >= 0:
        origin_gain, origin_loss = gained[origin_number], lost[origin_number]
        origin_kept = worth[origin_number] if origin_loss == 0 else 0.0
    return _Accounts(
        count, received.max(), sent.max(), relayed, outsider_loss, origin_number >= 0,
        origin_gain, origin_loss, most_kept, origin_kept, most_lost,
    )  # fmt: skip


@numba.njit(nogil=True)
def _magnitude(eth: float) -> float:
    """A value on the scale of the features: log10(1 + 10 * eth), at most MAGNITUDE_CAP."""
    return min(math.log10(1.0 + 10.0 * eth), MAGNITUDE_CAP)


@numba.njit(nogil=True)
def _fill_structure(
    inner: Transaction, flows: Flows, value: NDArray[np.float64], out: NDArray[np.float64]
) -> None:
    """Fill the structural features of a transaction that has inner transfers."""
    n = len(inner.token)
    hops = _hops_of(flows, inner.amount)
    accounts = _accounts_of(flows, inner.origin, value)
    _, tokens = numbered(inner.token.astype(np.int64))
    payers = payees = restored = pass_through = round_flows = 0
    round_loss = 0.0
    for flow in range(len(flows.net)):
        tolerance = NET_TOLERANCE * flows.gross[flow]
        sent, received = flows.sent[flow] > 0, flows.received[flow] > 0
        payers += sent
        payees += received
        if sent and received:
            round_flows += 1
            pass_through += abs(flows.net[flow]) <= tolerance
            if flows.net[flow] < -tolerance:  # (out - in) / out, from their difference and sum
                share = -2.0 * flows.net[flow] / (flows.gross[flow] - flows.net[flow])
                round_loss = max(round_loss, share)
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
    out[_ROUND_LOSS] = max(0.0, math.log10(round_loss) + 2.0) if round_loss > 0.0 else 0.0
    out[_MAX_IN_DEGREE] = math.log2(1.0 + accounts.received)
    out[_MAX_OUT_DEGREE] = math.log2(1.0 + accounts.sent)
    out[_ROUND_FLOWS] = math.log2(1.0 + round_flows)
    out[_TRANSFERS_PER_ACCOUNT] = max(0.0, math.log2(n / accounts.total))
    out[_TWO_TOKEN_EDGES] = math.log2(1.0 + _two_token_edges(inner))
    out[_KEPT_VALUE] = _magnitude(accounts.kept)
    if hops.reverse > 0:
        out[_REVERSED_KEPT_VALUE] = _magnitude(max(accounts.kept, accounts.origin_kept))
    out[_LOST_VALUE] = _magnitude(accounts.lost)
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
    transaction: Transaction, flows: Flows, profile: Profile, out: NDArray[np.float64]
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


_PROFILE_TYPE = numba.types.NamedTuple(  # type: ignore[no-untyped-call]
    [numba.float64[::1], numba.int32[::1], numba.float64[::1], numba.float64[::1]], Profile
)


_TABLE = numba.float64[:, ::1]


@numba.njit(nogil=True)
def _fill(transfers: Transfers, tx: int, profile: Profile, out: NDArray[np.float64]) -> None:
    """Fill the features of one transaction."""
    begin, end = transfers.offsets[tx], transfers.offsets[tx + 1]
    transaction = Transaction(
        transfers.token[begin:end], transfers.sender[begin:end],
        transfers.recipient[begin:end], transfers.amount[begin:end], transfers.origin[tx],
    )  # fmt: skip
    flows = flows_of(transaction)
    _fill_amounts(transaction, flows, profile, out)
    inner = _inner_of(transaction)
    if len(inner.token) < len(transaction.token):
        flows = flows_of(inner)
    if len(inner.token) > 0:
        _fill_structure(inner, flows, profile.value, out)


@numba.njit(nogil=True)
def _is_same(one: Transfers, other: Transfers, tx: int) -> bool:
    """Whether the view of a transaction is what was logged."""
    begin, start = one.offsets[tx], other.offsets[tx]
    n = one.offsets[tx + 1] - begin
    if other.offsets[tx + 1] - start != n:
        return False
    for i in range(n):
        if (
            one.sender[begin + i] != other.sender[start + i]
            or one.recipient[begin + i] != other.recipient[start + i]
        ):
            return False
    return True


@numba.njit(
    numba.types.Tuple(  # type: ignore[no-untyped-call]
        (_TABLE, _TABLE, numba.int64[::1], numba.int32[::1], numba.int32[::1], numba.int64[::1])
    )(TRANSFERS_TYPE, _PROFILE_TYPE, numba.int64),
    cache=True, nogil=True,
)  # fmt: skip
def transaction_features(
    transfers: Transfers, profile: Profile, first_lender: int
) -> tuple[
    NDArray[np.float64], NDArray[np.float64],
    NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.int64],
]:  # fmt: skip
    """The fields of `definitions.Reading` after its batch, by one call from Python."""
    n_tx = len(transfers.offsets) - 1
    view = view_of(transfers, profile.value, first_lender)
    logged, in_view = np.zeros((n_tx, N_FEATURES)), np.zeros((n_tx, N_FEATURES))
    for tx in range(n_tx):
        _fill(transfers, tx, profile, logged[tx])
        if _is_same(transfers, view.transfers, tx):  # as nearly always
            in_view[tx] = logged[tx]
        else:
            _fill(view.transfers, tx, profile, in_view[tx])
    return (
        logged, in_view, view.position, view.transfers.sender, view.transfers.recipient, view.party
    )  # fmt: skip
