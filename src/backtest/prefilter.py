"""Which transactions a detector may have something to say about: cheap conditions over arrays.

Detectors are Python and take tens of microseconds a transaction, history has billions. So each has
a condition here that is *necessary* for it to ask for more than `ALLOW`: what fails the condition
need not be shown to it. A condition may let through too much, never too little: the tests hold
every one against its detector on all transactions. A detector without one here sees everything.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from src.backtest.assemble import TransactionBatch
from src.backtest.balance_kernels import may_be_drained, may_profit
from src.backtest.columns import numbered
from src.backtest.judge import Scores
from src.detection.counterparties import FIRST_DIGITS, LAST_DIGITS
from src.detection.detectors.fresh_account_large_value import large_amount
from src.detection.features import FEATURE_NAMES
from src.detection.manifest import TokenAmounts

Mask = NDArray[np.bool_]

_SLACK = 1 - 1e-9
"""Sums of rounded amounts may fall short of the rounded exact sum by this much."""

_REVERSE_HOPS = FEATURE_NAMES.index("reverse_hops")
_ZERO_ACCOUNT = 0
_DIGIT_BITS = 4
_TOP_WORD_BITS = 32


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What conditions read besides transactions and scores.

    Attributes:
        parameters: the detector's, from the policy.
        anomaly_threshold: score from which a transaction is an anomaly.
        token_amounts: how much of each known token ordinary transfers move.
        impersonators: contracts whose symbol reads like a well-known token's.
        look_alike: transactions with a counterparty that imitates another.
    """

    parameters: Mapping[str, float | None]
    anomaly_threshold: float
    token_amounts: Mapping[str, TokenAmounts]
    impersonators: frozenset[str]
    look_alike: Mask


Condition = Callable[[TransactionBatch, Scores, Surroundings], Mask]


def candidates(
    detector: str, batch: TransactionBatch, scores: Scores, around: Surroundings
) -> Mask:
    """Transactions that this detector must see, shape (n_tx,)."""
    condition = CONDITIONS.get(detector)
    if condition is None:
        return np.ones(len(batch), np.bool_)
    return condition(batch, scores, around)


def look_alike_rows(batch: TransactionBatch) -> Mask:
    """Transfers that can be part of a look-alike: an account has counterparties that read alike.

    Shape (n_transfers,). The rest could be left out of a `CounterpartyBook` that forgets nothing.
    """
    transfers = batch.transfers
    payer, payee = transfers.sender.astype(np.uint64), transfers.recipient.astype(np.uint64)
    rows = np.flatnonzero(
        (transfers.sender != transfers.recipient)
        & (transfers.sender != _ZERO_ACCOUNT)
        & (transfers.recipient != _ZERO_ACCOUNT)
    )
    looks = [
        (words[rows, 0] >> np.uint64(_TOP_WORD_BITS - _DIGIT_BITS * FIRST_DIGITS))
        << np.uint64(_DIGIT_BITS * LAST_DIGITS)
        | words[rows, 2] & np.uint64((1 << _DIGIT_BITS * LAST_DIGITS) - 1)
        for words in (batch.payee, batch.payer)
    ]
    account = np.concatenate([payer[rows], payee[rows]])
    other = np.concatenate([payee[rows], payer[rows]])
    group, first = numbered((account << np.uint64(32) | np.concatenate(looks))[:, np.newaxis])
    mixed = np.zeros(len(first), np.bool_)
    mixed[group[other != other[first][group]]] = True
    entered = mixed[group]
    found = np.zeros(len(batch.payer), np.bool_)
    found[rows] = entered[: len(rows)] | entered[len(rows) :]
    return found


def owners(batch: TransactionBatch) -> NDArray[np.int64]:
    """The transaction of each transfer."""
    return np.repeat(np.arange(len(batch)), batch.transfers.n_transfers)


def _any(batch: TransactionBatch, rows: Mask) -> Mask:
    """Transactions with such a transfer."""
    found = np.zeros(len(batch), np.bool_)
    found[owners(batch)[rows]] = True
    return found


def _tokens_in(batch: TransactionBatch, wanted: frozenset[str]) -> Mask:
    listed = np.array([token in wanted for token in batch.transfers.token_addresses], np.bool_)
    return listed[batch.transfers.token] if len(listed) else np.zeros(0, np.bool_)


def _large(batch: TransactionBatch, around: Surroundings) -> NDArray[np.float64]:
    """From which amount on a transfer is large for its token; infinite for unknown tokens."""
    deviations = around.parameters["min_deviations"]
    assert deviations is not None  # noqa: S101  it has a default
    known = around.token_amounts
    large = [
        large_amount(known[token], deviations) if token in known else np.inf
        for token in batch.transfers.token_addresses
    ]
    return np.array(large, np.float64)[batch.transfers.token]


def _isolation_forest(_batch: TransactionBatch, scores: Scores, around: Surroundings) -> Mask:
    review_at = around.parameters["review_at"]
    return scores.score >= (around.anomaly_threshold if review_at is None else review_at)


def _impersonated_token(batch: TransactionBatch, _scores: Scores, around: Surroundings) -> Mask:
    return _any(batch, _tokens_in(batch, around.impersonators))


def _address_poisoning(batch: TransactionBatch, _scores: Scores, around: Surroundings) -> Mask:
    """A look-alike, or nothing moves in the name of a stranger who moves nothing in earnest."""
    transfers = batch.transfers
    nothing = (batch.amount == 0).all(axis=1) | _tokens_in(batch, around.impersonators)
    owner = owners(batch)
    from_stranger = (
        (transfers.sender != transfers.origin[owner])
        & (transfers.sender != _ZERO_ACCOUNT)
        & (transfers.recipient != _ZERO_ACCOUNT)
        & (transfers.sender != transfers.recipient)
    )
    suspects = np.flatnonzero(nothing & from_stranger)
    concerned = np.zeros(len(batch), np.bool_)
    concerned[owner[suspects]] = True
    earnest = np.flatnonzero(concerned[owner] & ~nothing)
    moving = np.concatenate(
        [owner[earnest] << 32 | side[earnest] for side in (transfers.sender, transfers.recipient)]
    )
    named_only = ~np.isin(owner[suspects] << 32 | transfers.sender[suspects], moving)
    found = around.look_alike.copy()
    found[owner[suspects[named_only]]] = True
    return found


def _fresh_account(batch: TransactionBatch, _scores: Scores, around: Surroundings) -> Mask:
    max_nonce = around.parameters["max_nonce"]
    assert max_nonce is not None  # noqa: S101  it has a default
    fresh = (batch.nonce >= 0) & (batch.nonce <= max_nonce)
    return fresh & _any(batch, batch.transfers.amount >= _large(batch, around))


def _flash_loan(batch: TransactionBatch, scores: Scores, around: Surroundings) -> Mask:
    min_transfers = around.parameters["min_transfers"]
    assert min_transfers is not None  # noqa: S101  it has a default
    transfers = batch.transfers
    returned = scores.all_features[:, _REVERSE_HOPS] > 0
    to_itself = _any(batch, transfers.sender == transfers.recipient)
    looked_at = (transfers.n_transfers >= min_transfers) & (returned | to_itself)
    return may_profit(
        transfers.offsets, transfers.token, transfers.sender, transfers.recipient,
        transfers.amount, transfers.origin, _called(batch), looked_at,
    )  # fmt: skip


def _called(batch: TransactionBatch) -> NDArray[np.int32]:
    """Account id of each transaction's `to`; -1 where it has no part in the transfers."""
    transfers = batch.transfers
    owner = owners(batch)
    called = np.full(len(batch), -1, np.int32)
    for words, account in ((batch.payer, transfers.sender), (batch.payee, transfers.recipient)):
        rows = batch.has_to[owner] & (words == batch.to[owner]).all(axis=1)
        called[owner[rows]] = account[rows]
    return called


def _drained_account(batch: TransactionBatch, _scores: Scores, around: Surroundings) -> Mask:
    """Some account but sender, contract called and zero address may lose enough and gain none."""
    min_tokens = around.parameters["min_tokens"]
    assert min_tokens is not None  # noqa: S101  it has a default
    transfers = batch.transfers
    owner = owners(batch)
    found = np.zeros(len(batch), np.bool_)
    is_to = transfers.sender == _called(batch)[owner]
    is_origin = batch.has_sender[owner] & (transfers.sender == transfers.origin[owner])
    rows = np.flatnonzero(
        (transfers.n_transfers >= min_tokens)[owner]
        & ~is_to & ~is_origin & (transfers.sender != _ZERO_ACCOUNT)
    )  # fmt: skip
    if not len(rows):
        return found
    account = owner[rows].astype(np.uint64) << np.uint64(32) | transfers.sender[rows].astype(
        np.uint64
    )
    _, first = numbered(np.stack([account, transfers.token[rows].astype(np.uint64)], axis=1))
    of_account, one = numbered(account[first][:, np.newaxis])
    many = np.bincount(of_account, minlength=len(one)) >= min_tokens
    pairs = rows[first[one[many]]]
    drained = may_be_drained(
        transfers.offsets, transfers.token, transfers.sender, transfers.recipient,
        transfers.amount, np.ascontiguousarray(batch.amount[:, 3]), owner[pairs],
        transfers.sender[pairs], int(min_tokens),
    )  # fmt: skip
    found[owner[pairs[drained]]] = True
    return found


def _disproportionate_mint(batch: TransactionBatch, _scores: Scores, around: Surroundings) -> Mask:
    """Some mint is at least the large amount divided by the number of transfers."""
    transfers = batch.transfers
    share = _large(batch, around) / transfers.n_transfers[owners(batch)]
    return _any(batch, (transfers.sender == _ZERO_ACCOUNT) & (transfers.amount >= share * _SLACK))


CONDITIONS: Final[Mapping[str, Condition]] = {
    "isolation_forest": _isolation_forest,
    "impersonated_token": _impersonated_token,
    "address_poisoning": _address_poisoning,
    "fresh_account_large_value": _fresh_account,
    "flash_loan_profit": _flash_loan,
    "drained_account": _drained_account,
    "disproportionate_mint": _disproportionate_mint,
    "known_bad_address": lambda batch, _scores, _around: np.zeros(len(batch), np.bool_),
    "supervised": lambda batch, _scores, _around: np.zeros(len(batch), np.bool_),
}
