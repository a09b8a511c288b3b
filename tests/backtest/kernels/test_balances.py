"""What the compiled conditions pass over must be nothing to the detectors."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from src.backtest.kernels.balances import may_be_drained, may_profit
from src.backtest.scoring.decisions import MovedTransfer
from src.detection.detectors.drained_account import DrainedAccountDetector
from src.detection.detectors.flash_loan_profit import FlashLoanProfitDetector
from src.detection.evidence import Evidence
from src.detection.features.batch import TransferBatch
from src.detection.features.view import view_of
from src.detection.records import ZERO_ADDRESS

ACCOUNTS = [ZERO_ADDRESS, *(f"0x{number:040x}" for number in range(1, 6))]
TOKENS = [f"0x{number:040x}" for number in range(100, 103)]
VALUES = {TOKENS[0]: 0.25}

small = st.integers(0, 4)
amounts = st.one_of(small, small.map(lambda x: x * (2**200 + 1)), st.sampled_from([99, 100, 400]))
moves = st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 5), amounts)
histories = st.lists(moves, min_size=3, max_size=9)


def transfers_of(parts):
    return [
        MovedTransfer(TOKENS[token], ACCOUNTS[payer], ACCOUNTS[payee], amount)
        for token, payer, payee, amount in parts
    ]


def table_of(transfers, origin, called):
    """The view, the values and the words of a table with this transaction, and the id of `called`.

    Another one before it has all the accounts, so that ids and numbers of accounts differ.
    """
    crowd = [MovedTransfer(TOKENS[2], account, ACCOUNTS[1], 1) for account in reversed(ACCOUNTS)]
    batch = TransferBatch.from_transactions([(crowd, ACCOUNTS[3]), (transfers, origin)])
    values = np.array([VALUES.get(token, 0.0) for token in batch.token_addresses])
    view = view_of(batch.arrays, values, batch.n_accounts)
    amounts = [transfer.amount for transfer in (*crowd, *transfers)]
    words = np.array(
        [[amount >> shift & (2**64 - 1) for shift in (192, 128, 64, 0)] for amount in amounts],
        np.uint64,
    )
    ids = {m.sender: i for m, i in zip(crowd, batch.sender.tolist(), strict=False)}
    takes_part = any(called in (m.sender, m.recipient) for m in transfers)
    to = np.array([-1, ids[called] if takes_part else -1], np.int32)
    return batch, view, values, words, to


@settings(max_examples=400, deadline=None)
@given(histories, st.integers(1, 5), st.integers(-1, 5))
@example([(0, 2, 1, 9), (0, 1, 2, 5), (0, 1, 2, 4), (1, 3, 1, 1)], 1, -1)  # back in two parts
@example([(0, 2, 1, 9), (0, 1, 2, 5), (0, 2, 1, 1), (0, 1, 2, 5), (1, 3, 1, 1)], 1, -1)
@example([(0, 1, 1, 9), (0, 1, 1, 9), (1, 3, 1, 1)], 1, 2)  # to himself
@example([(1, 0, 2, 9), (1, 2, 0, 9), (2, 3, 2, 1)], 1, -1)  # a flash mint
@example([(0, 2, 1, 400), (0, 1, 2, 400), (1, 3, 1, 1), (0, 1, 4, 3)], 1, -1)  # a trifle is paid
def test_no_profit_from_a_loan_is_passed_over(parts, origin, called):
    transfers = transfers_of(parts)
    to = ACCOUNTS[called] if called >= 0 else None
    evidence = Evidence(transfers=transfers, sender=ACCOUNTS[origin], to=to, values=VALUES)
    verdict = FlashLoanProfitDetector(3).evaluate(evidence)
    _, view, values, _, called_id = table_of(transfers, ACCOUNTS[origin], to)
    found = may_profit(view.transfers, values, called_id, view.party, 3)
    assert found[1] or not verdict.action


@settings(max_examples=400, deadline=None)
@given(histories, st.integers(1, 5), st.integers(-1, 5), st.integers(1, 3))
@example([(0, 2, 3, 400), (1, 2, 3, 1), (0, 4, 2, 3)], 1, -1, 1)  # it is given a trifle
def test_no_drained_account_is_passed_over(parts, origin, called, min_tokens):
    transfers = transfers_of(parts)
    to = ACCOUNTS[called] if called >= 0 else None
    evidence = Evidence(transfers=transfers, sender=ACCOUNTS[origin], to=to, values=VALUES)
    verdict = DrainedAccountDetector(min_tokens).evaluate(evidence)
    batch, view, values, words, called_id = table_of(transfers, ACCOUNTS[origin], to)
    found = may_be_drained(
        view.transfers, words[view.position], values, batch.origin, called_id, batch.n_accounts,
        min_tokens,
    )  # fmt: skip
    assert found[1] or not verdict.action
