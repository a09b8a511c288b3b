"""Cheap vectorised conditions that select the transactions for each detector.

Detectors are written in Python and take tens of microseconds per transaction, but a history has
billions. So each has a condition here that is *necessary* for a verdict other than `ALLOW`:
transactions that fail it need not be evaluated. A condition may select too many transactions, never
too few: the tests compare each one with its detector on all transactions. A detector without a
condition evaluates everything.

A transaction that fails a detector's condition may still need its verdict, because another detector
reports it or because it is an anomaly. The detector then gets the transaction without its
transfers, which must not change the verdict; the tests check this as well.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from src.backtest.kernels.balances import (
    may_be_drained,
    may_mint,
    may_profit,
    names_strangers,
)
from src.backtest.kernels.columns import SECRET
from src.backtest.kernels.look_alikes import may_look_alike
from src.backtest.scoring.scoring import Scores
from src.backtest.scoring.transactions import TransactionBatch
from src.detection.counterparties import FIRST_DIGITS, LAST_DIGITS
from src.detection.detectors.fresh_account_large_value import large_amount
from src.detection.detectors.supervised import ATTACK_REVIEW_AT
from src.detection.features.view import View
from src.detection.forest.manifest import TokenAmounts

Mask = NDArray[np.bool_]

_DIGIT_BITS = 4


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Inputs of the conditions besides transactions and scores.

    Attributes:
        parameters: the detector's, from the policy.
        anomaly_threshold: scores at or above it are anomalies.
        token_amounts: usual amounts of each known token.
        impersonators: contracts whose symbol looks like a well-known token's.
        look_alike: transactions with a counterparty that imitates another.
        values: by token id, what one raw unit is worth in ETH; 0 where it is not known.
        view: the transfers between parties.
    """

    parameters: Mapping[str, float | None]
    anomaly_threshold: float
    token_amounts: Mapping[str, TokenAmounts]
    impersonators: frozenset[str]
    look_alike: Mask
    values: NDArray[np.float64]
    view: View


Condition = Callable[[TransactionBatch, Scores, Surroundings], Mask]


def candidates(
    detector: str, batch: TransactionBatch, scores: Scores, around: Surroundings
) -> Mask:
    """Transactions that this detector must evaluate, shape (n_tx,)."""
    condition = CONDITIONS.get(detector)
    if condition is None:
        return np.ones(len(batch), np.bool_)
    return condition(batch, scores, around)


def look_alike_rows(batch: TransactionBatch) -> Mask:
    """Transfers that can be part of a look-alike: an account has counterparties that read alike.

    Shape (n_transfers,). The rest could be left out of a `CounterpartyBook` that forgets nothing.
    """
    transfers = batch.transfers
    found: Mask = may_look_alike(
        transfers.sender, transfers.recipient, batch.payer, batch.payee,
        _DIGIT_BITS * FIRST_DIGITS, _DIGIT_BITS * LAST_DIGITS, SECRET,
    )  # fmt: skip
    return found


def owners(batch: TransactionBatch, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The transactions of some transfers."""
    found: NDArray[np.int64] = np.searchsorted(batch.transfers.offsets, rows, side="right") - 1
    return found


def _any(batch: TransactionBatch, rows: Mask) -> Mask:
    """Transactions with such a transfer."""
    found = np.zeros(len(batch), np.bool_)
    found[owners(batch, np.flatnonzero(rows))] = True
    return found


def _listed(batch: TransactionBatch, wanted: frozenset[str]) -> Mask:
    """Which token ids belong to these tokens."""
    return np.array([token in wanted for token in batch.transfers.token_addresses], np.bool_)


def _large(batch: TransactionBatch, around: Surroundings) -> NDArray[np.float64]:
    """The threshold of large amounts by token id; infinite for unknown tokens."""
    deviations = around.parameters["min_deviations"]
    assert deviations is not None  # noqa: S101  it has a default
    known = around.token_amounts
    large = [
        large_amount(known[token], deviations) if token in known else np.inf
        for token in batch.transfers.token_addresses
    ]
    return np.array(large, np.float64)


def _isolation_forest(_batch: TransactionBatch, scores: Scores, around: Surroundings) -> Mask:
    review_at = around.parameters["review_at"]
    high = scores.score >= (around.anomaly_threshold if review_at is None else review_at)
    return high | np.isnan(scores.score) if around.parameters["review_unscored"] else high


def _informational(_batch: TransactionBatch, scores: Scores, around: Surroundings) -> Mask:
    """Never asks for more than `ALLOW`: only what is reported anyway needs its word."""
    is_reported = (scores.score >= around.anomaly_threshold) | np.isnan(scores.score)
    return is_reported | (scores.attack >= ATTACK_REVIEW_AT)


def _supervised(_batch: TransactionBatch, scores: Scores, around: Surroundings) -> Mask:
    review_at = around.parameters["review_at"]
    return scores.attack >= (ATTACK_REVIEW_AT if review_at is None else review_at)


def _impersonated_token(batch: TransactionBatch, _scores: Scores, around: Surroundings) -> Mask:
    listed = _listed(batch, around.impersonators)
    if not listed.any():
        return np.zeros(len(batch), np.bool_)
    return _any(batch, listed[batch.transfers.token])


def _address_poisoning(batch: TransactionBatch, _scores: Scores, around: Surroundings) -> Mask:
    """A look-alike, or zero transfers in the name of an account without real transfers."""
    transfers = batch.transfers
    return around.look_alike | names_strangers(
        transfers.offsets, transfers.token, transfers.sender, transfers.recipient,
        transfers.amount, _listed(batch, around.impersonators), transfers.origin,
        transfers.n_accounts,
    )  # fmt: skip


def _fresh_account(batch: TransactionBatch, _scores: Scores, around: Surroundings) -> Mask:
    max_nonce = around.parameters["max_nonce"]
    assert max_nonce is not None  # noqa: S101  it has a default
    fresh = (batch.nonce >= 0) & (batch.nonce <= max_nonce)
    transfers = batch.transfers
    return fresh & _any(batch, transfers.amount >= _large(batch, around)[transfers.token])


def _flash_loan(batch: TransactionBatch, _scores: Scores, around: Surroundings) -> Mask:
    min_transfers = around.parameters["min_transfers"]
    assert min_transfers is not None  # noqa: S101  it has a default
    view = around.view
    return may_profit(view.transfers, around.values, batch.called, view.party, int(min_transfers))


def _drained_account(batch: TransactionBatch, _scores: Scores, around: Surroundings) -> Mask:
    min_tokens = around.parameters["min_tokens"]
    assert min_tokens is not None  # noqa: S101  it has a default
    view, transfers = around.view, batch.transfers
    return may_be_drained(
        view.transfers, batch.amount[view.position], around.values,
        np.where(batch.has_sender, transfers.origin, np.int32(-1)), batch.called,
        transfers.n_accounts, int(min_tokens),
    )  # fmt: skip


def _disproportionate_mint(batch: TransactionBatch, _scores: Scores, around: Surroundings) -> Mask:
    """Ignores burns, which the detector subtracts from mints."""
    transfers = batch.transfers
    return may_mint(
        transfers.offsets, transfers.token, transfers.sender, transfers.amount,
        _large(batch, around),
    )  # fmt: skip


BLIND_TO_TRANSFERS: Final = frozenset({"isolation_forest", "known_bad_address", "supervised"})
"""Detectors that never read transfers or tokens."""

INFORMATIONAL: Final = frozenset({"arbitrage", "balanced", "fresh_contract_drain"})
"""Detectors that never ask for more than `ALLOW` here: evaluated on what others report."""

CONDITIONS: Final[Mapping[str, Condition]] = {
    "isolation_forest": _isolation_forest,
    "impersonated_token": _impersonated_token,
    "address_poisoning": _address_poisoning,
    "fresh_account_large_value": _fresh_account,
    "flash_loan_profit": _flash_loan,
    "drained_account": _drained_account,
    "disproportionate_mint": _disproportionate_mint,
    "known_bad_address": lambda batch, _scores, _around: np.zeros(len(batch), np.bool_),
    "supervised": _supervised,
    "fresh_contract_drain": _informational,  # the age of contracts is in no history
    "arbitrage": _informational,
    "balanced": _informational,
}
