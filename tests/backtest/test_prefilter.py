"""What the conditions pass over must be nothing to the detectors."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from src.backtest.scoring.decisions import MovedTransfer
from src.backtest.scoring.prefilter import Considered, candidates, look_alike_rows
from src.backtest.scoring.scoring import Scores
from src.backtest.scoring.transactions import batch_of
from src.datasets.store import SCHEMA
from src.detection.detectors.base import Equipment
from src.detection.detectors.flash_loan_profit import FlashLoanProfitDetector
from src.detection.detectors.losses import DrainedAccountDetector
from src.detection.detectors.phished_allowance import DrainerSplitDetector
from src.detection.evidence import Evidence
from src.detection.features.definitions import TokenProfile, read
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


def raw(text):
    return None if text is None else bytes.fromhex(text[2:])


def batch_of_transactions(transactions):
    """Of (transfers, sender, called) each, as a store holds them."""
    rows = [
        {
            "block_number": at, "tx_hash": at.to_bytes(32), "from_address": raw(sender),
            "to_address": raw(called),
            "transfers": [
                {
                    "log_index": log, "token_address": raw(moved.token),
                    "from_address": raw(moved.sender), "to_address": raw(moved.recipient),
                    "amount": moved.amount.to_bytes(32),
                }
                for log, moved in enumerate(transfers)
            ],
        }
        for at, (transfers, sender, called) in enumerate(transactions)
    ]  # fmt: skip
    return batch_of(pa.Table.from_pylist(rows, SCHEMA))


def is_candidate(detector, parameters, transfers, origin, called):
    """Whether a table's condition selects this transaction.

    Another one before it has all the accounts, so that ids and numbers of accounts differ.
    """
    crowd = [MovedTransfer(TOKENS[2], account, ACCOUNTS[1], 1) for account in reversed(ACCOUNTS)]
    batch = batch_of_transactions([(crowd, ACCOUNTS[3], None), (transfers, origin, called)])
    reading = read(batch.transfers, replace(TokenProfile.from_amounts({}), values=VALUES))
    none = np.zeros((2, 0))
    dealings = (reading.position, reading.payer, reading.payee)
    scores = Scores(none, none, *(np.zeros(2) for _ in range(3)), *dealings)
    seen = Considered(batch, scores, 1.0, {}, frozenset(), np.zeros(2, np.bool_))
    return candidates(detector, seen, parameters)[1]


@settings(max_examples=150, deadline=None)
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
    found = is_candidate(
        "flash_loan_profit", {"min_transfers": 3.0}, transfers, ACCOUNTS[origin], to
    )
    assert found or not verdict.action


@settings(max_examples=150, deadline=None)
@given(histories, st.integers(1, 5), st.integers(-1, 5), st.integers(1, 3), st.integers(2, 3))
@example([(0, 2, 3, 400), (1, 2, 3, 1), (0, 4, 2, 3)], 1, -1, 1, 3)  # it is given a trifle
@example([(0, 2, 1, 9), (0, 3, 1, 9)], 1, -1, 3, 2)  # two accounts
def test_no_drained_account_is_passed_over(parts, origin, called, min_tokens, min_accounts):
    transfers = transfers_of(parts)
    to = ACCOUNTS[called] if called >= 0 else None
    evidence = Evidence(transfers=transfers, sender=ACCOUNTS[origin], to=to, values=VALUES)
    parameters = {"min_tokens": min_tokens, "min_accounts": min_accounts, "max_nonce": 1000}
    verdict = DrainedAccountDetector(**parameters).evaluate(evidence)
    found = is_candidate("drained_account", parameters, transfers, ACCOUNTS[origin], to)
    assert found or not verdict.action


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([(3, 1, 2), (1, 2, 3), (4, 2, 3), (2, 3, 4)]),
    st.sampled_from([10**5, 10**18 + 7, 2**255 + 3]),
    st.sampled_from([20, 25, 40, 41, 66, 79, 80]),  # of 200
    st.integers(-1, 1),
    st.lists(moves, max_size=4),
    st.integers(1, 5),
    st.integers(-1, 5),
)
@example((3, 1, 2), 10**18 + 7, 40, 0, [], 5, 4)  # plainly
@example((3, 1, 2), 10**18 + 7, 40, 0, [(0, 2, 3, 400), (1, 4, 3, 1)], 5, 4)  # a trifle back
def test_no_share_of_a_drainer_is_passed_over(roles, total, share, off, parts, origin, called):
    victim, one, other = roles
    less = total * share // 200 + off
    split = [(1, victim, one, less), (1, victim, other, total - less)]
    transfers = transfers_of([*split, *parts])
    to = ACCOUNTS[called] if called >= 0 else None
    evidence = Evidence(transfers=transfers, sender=ACCOUNTS[origin], to=to, values=VALUES)
    parameters = {"min_share": 0.1, "max_share": 0.4, "max_transfers": 5.0}
    verdict = DrainerSplitDetector.build(parameters, Equipment()).evaluate(evidence)
    found = is_candidate("drainer_split", parameters, transfers, ACCOUNTS[origin], to)
    assert found or not verdict.action
    if not parts and off == 0 and victim not in (origin, called) and origin not in (one, other):
        assert verdict.action


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=60))
def test_look_alikes_are_searched_where_they_can_be(pairs):
    # Twelve accounts of three looks; 0 is the zero address.
    address = [0, *(((n % 3) << 150) | (n << 60) | n % 3 | 1 << 20 for n in range(1, 12))]
    text = [f"0x{number:040x}" for number in address]
    moved = [MovedTransfer(TOKENS[0], text[payer], text[payee], 1) for payer, payee in pairs]
    found = look_alike_rows(batch_of_transactions([(moved, ACCOUNTS[1], None)]))
    entered = [(row, *pair) for row, (a, b) in enumerate(pairs) for pair in ((a, b), (b, a))
               if a != b and 0 not in (a, b)]  # fmt: skip
    expected = {
        row
        for row, account, other in entered
        if any(
            account == same and other != one and address[other] % 2**16 == address[one] % 2**16
            and address[other] >> 148 == address[one] >> 148
            for _, same, one in entered
        )
    }  # fmt: skip
    assert set(found.tolist()) == expected
