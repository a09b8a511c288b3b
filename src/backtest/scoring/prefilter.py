"""Cheap vectorised conditions that select the transactions that detectors must evaluate.

Detectors are written in Python and take hundreds of microseconds per transaction, but a history has
billions. So each has a condition here that is *necessary* for a verdict other than `ALLOW`. A
condition may select too many transactions, never too few: the tests compare each one with its
detector on all transactions. A detector without a condition evaluates everything.

Amounts here are rounded to 53 bits, so everything that could be true within rounding counts as
true.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from src.backtest.scoring.scoring import Scores
from src.backtest.scoring.transactions import TransactionBatch
from src.datasets.fixed_bytes import hex_column
from src.detection.counterparties import FIRST_DIGITS, LAST_DIGITS
from src.detection.detectors.fresh_account_large_value import large_amount
from src.detection.detectors.phished_allowance import MIN_LOSS, STEPS
from src.detection.detectors.supervised import ATTACK_REVIEW_AT
from src.detection.features.flows import NET_TOLERANCE, ZERO_ACCOUNT
from src.detection.forest.manifest import TokenAmounts

Mask = NDArray[np.bool_]
Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Considered:
    """What the conditions read."""

    # batch, scores: the transactions.
    batch: TransactionBatch
    scores: Scores
    anomaly_threshold: float  # scores at or above it are anomalies
    token_amounts: Mapping[str, TokenAmounts]  # usual amounts of each known token
    impersonators: frozenset[str]  # contracts whose symbol looks like a well-known token's
    look_alike: Mask  # transactions with a counterparty that imitates another


def candidates(detector: str, seen: Considered, parameters: Parameters) -> Mask:
    """Transactions that this detector must evaluate, shape (n_tx,)."""
    condition = CONDITIONS.get(detector)
    return np.ones(len(seen.batch), np.bool_) if condition is None else condition(seen, parameters)


def look_alike_rows(batch: TransactionBatch) -> NDArray[np.int64]:
    """Transfers of accounts that have two counterparties that read alike.

    The rest could be left out of a `CounterpartyBook` that forgets nothing.
    """
    text, transfers = hex_column(batch.accounts), batch.transfers
    head = pc.utf8_slice_codeunits(text, 2, 2 + FIRST_DIGITS)
    tail = pc.utf8_slice_codeunits(text, -LAST_DIGITS)
    joined = pc.binary_join_element_wise(head, tail, pa.scalar("", text.type))
    look = np.asarray(joined.dictionary_encode().indices, np.int64)
    shared = (np.bincount(look) > 1)[look]
    one, two = transfers.sender, transfers.recipient
    between = (one != two) & (one != ZERO_ACCOUNT) & (two != ZERO_ACCOUNT)
    rows = np.flatnonzero(between & (shared[one] | shared[two]))
    account, other = np.append(one[rows], two[rows]), np.append(two[rows], one[rows])
    relation = account * len(look) + look[other]  # one for all others who read alike
    others = pa.table({"relation": relation, "other": other}).group_by("relation")
    bounds = others.aggregate([("other", "min"), ("other", "max")])
    differs = pc.not_equal(bounds["other_min"], bounds["other_max"])
    found = np.isin(relation, bounds["relation"].filter(differs).to_numpy())
    return rows[found.reshape(2, -1).any(axis=0)]


def owners(offsets: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The transactions of some transfers."""
    found: NDArray[np.int64] = np.searchsorted(offsets, rows, side="right") - 1
    return found


def _with(batch: TransactionBatch, rows: Mask) -> Mask:
    """Transactions with such a transfer."""
    found = np.zeros(len(batch), np.bool_)
    found[owners(batch.transfers.offsets, np.flatnonzero(rows))] = True
    return found


def _at(batch: TransactionBatch, transactions: pa.ChunkedArray) -> Mask:
    found = np.zeros(len(batch), np.bool_)
    found[transactions.to_numpy()] = True
    return found


def _listed(batch: TransactionBatch, wanted: frozenset[str]) -> Mask:
    """Which token ids belong to these tokens."""
    return np.array([token in wanted for token in batch.transfers.token_addresses], np.bool_)


def _large(seen: Considered, parameters: Parameters) -> NDArray[np.float64]:
    """The threshold of large amounts by token id; infinite for unknown tokens."""
    known = seen.token_amounts
    return np.array(
        [
            large_amount(known[token], parameters["min_deviations"]) if token in known else np.inf
            for token in seen.batch.transfers.token_addresses
        ],
        np.float64,
    )


def _isolation_forest(seen: Considered, parameters: Parameters) -> Mask:
    review_at, score = parameters["review_at"], seen.scores.score
    high = score >= (seen.anomaly_threshold if review_at is None else review_at)
    return high | np.isnan(score) if parameters["review_unscored"] else high


def _supervised(seen: Considered, parameters: Parameters) -> Mask:
    review_at = parameters["review_at"]
    return seen.scores.attack >= (ATTACK_REVIEW_AT if review_at is None else review_at)


def _impersonated_token(seen: Considered, _: Parameters) -> Mask:
    listed = _listed(seen.batch, seen.impersonators)
    return _with(seen.batch, listed[seen.batch.transfers.token])


def _address_poisoning(seen: Considered, _: Parameters) -> Mask:
    """A look-alike, or a transfer of nothing or of a counterfeit."""
    moved = seen.batch.transfers
    is_nothing = moved.amount == 0.0  # only 0 is rounded to 0
    is_nothing |= _listed(seen.batch, seen.impersonators)[moved.token]
    return seen.look_alike | _with(seen.batch, is_nothing)


def _fresh_account(seen: Considered, parameters: Parameters) -> Mask:
    nonce, transfers = seen.batch.nonce, seen.batch.transfers
    is_fresh: Mask = (nonce >= 0) & (nonce <= parameters["max_nonce"])
    is_large = transfers.amount >= _large(seen, parameters)[transfers.token]
    return is_fresh & _with(seen.batch, is_large)


def _flash_loan(seen: Considered, parameters: Parameters) -> Mask:
    """Some party pays another a token and is paid the same by it."""
    dealings, tx = _of_long(seen, parameters["min_transfers"])
    one, two = seen.scores.payer[dealings], seen.scores.payee[dealings]
    pairs = {
        "tx": tx, "token": _tokens(seen, dealings), "low": np.minimum(one, two),
        "high": np.maximum(one, two), "direction": one,
    }  # fmt: skip
    table = pa.table(pairs).group_by(["tx", "token", "low", "high"], use_threads=False)
    found = table.aggregate([("direction", "min"), ("direction", "max")])
    both = pc.not_equal(found["direction_min"], found["direction_max"])
    return _at(seen.batch, found.filter(both)["tx"])


def _drained_account(seen: Considered, parameters: Parameters) -> Mask:
    """Some account that did not sign pays enough tokens, or enough accounts pay."""
    dealings, tx = _of_long(seen, parameters["min_tokens"])
    payer, token = seen.scores.payer[dealings], _tokens(seen, dealings)
    signer = np.where(seen.batch.has_sender, seen.batch.transfers.origin, np.int32(-1))
    other = (payer != signer[tx]) & (payer != seen.batch.called[tx]) & (payer != ZERO_ACCOUNT)
    paid = pa.table({"tx": tx, "payer": payer, "token": token}).filter(other)
    counted = paid.group_by(["tx", "payer"], use_threads=False)
    found = counted.aggregate([("token", "count_distinct")])
    enough = pc.greater_equal(found["token_count_distinct"], parameters["min_tokens"])
    return _at(seen.batch, found.filter(enough)["tx"]) | _many_payers(seen, parameters)


def _many_payers(seen: Considered, parameters: Parameters) -> Mask:
    batch, least = seen.batch, parameters["min_accounts"]
    few = batch.has_sender & (batch.nonce <= parameters["max_nonce"])  # negative: unknown
    rows = np.flatnonzero(np.repeat(few, batch.transfers.n_transfers))
    tx, payer = owners(batch.transfers.offsets, rows), batch.transfers.sender[rows]
    counted = pa.table({"tx": tx, "payer": payer}).group_by(["tx"], use_threads=False)
    found = counted.aggregate([("payer", "count_distinct")])
    return _at(batch, found.filter(pc.greater_equal(found["payer_count_distinct"], least))["tx"])


def _of_long(seen: Considered, min_transfers: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Transfers between parties, of transactions with so many, and these transactions."""
    tx = owners(seen.batch.transfers.offsets, seen.scores.position)
    dealings = np.flatnonzero(np.bincount(tx, minlength=len(seen.batch))[tx] >= min_transfers)
    return dealings, tx[dealings]


def _tokens(seen: Considered, dealings: NDArray[np.int64]) -> NDArray[np.int32]:
    """The tokens of transfers between parties."""
    return seen.batch.transfers.token[seen.scores.position[dealings]]


def _approval_phishing(seen: Considered, parameters: Parameters) -> Mask:
    """The one transfer is of the token called, and not from the sender."""
    batch, nonce, tokens = seen.batch, seen.batch.nonce, seen.batch.transfers.token_addresses
    found: Mask = (batch.transfers.n_transfers == 1) & batch.has_sender & (nonce >= 0)
    found &= nonce <= parameters["max_nonce"]
    first = batch.transfers.offsets[:-1]
    payer = batch.transfers.sender[first]
    found &= (payer != ZERO_ACCOUNT) & (payer != batch.transfers.origin) & (payer != batch.called)
    (positions,) = np.nonzero(found)
    called = hex_column(batch.to.take(pa.array(positions))).to_pylist()
    moved = [tokens[token] for token in batch.transfers.token[first[positions]]]
    found[positions] = [one == other for one, other in zip(called, moved, strict=True)]
    return found


def _drainer_split(seen: Considered, parameters: Parameters) -> Mask:
    """What one account loses of a token is what two others gain, in round shares."""
    batch = seen.batch
    dealings, tx = _of_long(seen, 2)
    few = batch.has_sender & (batch.transfers.n_transfers <= parameters["max_transfers"])
    dealings, tx = dealings[few[tx]], tx[few[tx]]
    amount = batch.transfers.amount[seen.scores.position[dealings]]
    account = np.append(seen.scores.payer[dealings], seen.scores.payee[dealings])
    columns = {
        "tx": np.tile(tx, 2), "token": np.tile(_tokens(seen, dealings), 2), "account": account,
        "net": np.append(-amount, amount), "gross": np.tile(amount, 2),
    }  # fmt: skip
    counts = (account != ZERO_ACCOUNT) & (account < batch.transfers.n_accounts)
    sides = pa.table(columns).filter(counts).group_by(["tx", "token", "account"], use_threads=False)
    changes = sides.aggregate([("net", "sum"), ("gross", "sum")])
    tx, account, net, gross = (
        changes[name].to_numpy() for name in ("tx", "account", "net_sum", "gross_sum")
    )
    takes_part = (account == batch.transfers.origin[tx]) & (abs(net) > NET_TOLERANCE * gross)
    takes_part |= (account == batch.called[tx]) & (net < -NET_TOLERANCE * gross)
    tokens = changes.append_column("takes_part", pa.array(takes_part)).group_by(
        ["tx", "token"], use_threads=False
    )
    wanted = [("net_sum", "sum"), ("net_sum", "min"), ("net_sum", "max"), ("gross_sum", "sum")]
    found = tokens.aggregate([*wanted, ("takes_part", "any")])
    total, lowest, highest, gross = (found["_".join(names)].to_numpy() for names in wanted)
    lost = np.maximum(-lowest, MIN_LOSS / 2)
    smaller = STEPS * (total - lowest - highest) / lost  # of the two gains
    nearest = np.round(smaller)
    fits = abs(smaller - nearest) <= STEPS * (1.0 + NET_TOLERANCE * gross) / lost
    fits &= nearest >= np.floor(STEPS * parameters["min_share"])
    fits &= nearest <= np.ceil(STEPS * parameters["max_share"])
    fits &= ~found["takes_part_any"].to_numpy()
    return _at(batch, found.filter(fits)["tx"])


def _disproportionate_mint(seen: Considered, parameters: Parameters) -> Mask:
    """Ignores burns, which the detector subtracts from mints."""
    transfers, large = seen.batch.transfers, _large(seen, parameters)
    rows = np.flatnonzero(transfers.sender == ZERO_ACCOUNT)
    columns = {
        "tx": owners(transfers.offsets, rows), "token": transfers.token[rows],
        "amount": transfers.amount[rows],
    }  # fmt: skip
    minted = pa.table(columns).group_by(["tx", "token"], use_threads=False)
    tx, token, amount = minted.aggregate([("amount", "sum")]).columns
    limit = large[token.to_numpy()] * (1 - NET_TOLERANCE)
    return _at(seen.batch, tx.filter(pa.array(amount.to_numpy() >= limit)))


def _never(seen: Considered, _: Parameters) -> Mask:
    """Never asks for more than `ALLOW` here: evaluated on what others select."""
    return np.zeros(len(seen.batch), np.bool_)


CONDITIONS: Final[Mapping[str, Callable[[Considered, Parameters], Mask]]] = {
    "isolation_forest": _isolation_forest,
    "impersonated_token": _impersonated_token,
    "address_poisoning": _address_poisoning,
    "fresh_account_large_value": _fresh_account,
    "flash_loan_profit": _flash_loan,
    "drained_account": _drained_account,
    "drainer_split": _drainer_split,
    "approval_phishing": _approval_phishing,
    "disproportionate_mint": _disproportionate_mint,
    "supervised": _supervised,
    "known_bad_address": _never,  # the list would apply today's knowledge to the past
    "fresh_contract_drain": _never,  # the age of contracts is in no history
    "emptied_account": _never,  # what accounts held is in no history
    "inflated_supply": _never,  # nor are supplies
    "arbitrage": _never,
    "balanced": _never,
}
