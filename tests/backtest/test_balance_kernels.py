"""What the compiled conditions pass over must be nothing to the detectors."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from src.backtest.kernels.balances import may_profit
from src.backtest.scoring.decisions import MovedTransfer
from src.detection.detectors.flash_loan_profit import FlashLoanProfitDetector
from src.detection.evidence import Evidence
from src.detection.records import ZERO_ADDRESS

ACCOUNTS = [ZERO_ADDRESS, *(f"0x{number:040x}" for number in range(1, 5))]
TOKENS = [f"0x{number:040x}" for number in range(100, 102)]
DETECTOR = FlashLoanProfitDetector(3)

amounts = st.one_of(st.integers(0, 4), st.integers(0, 4).map(lambda x: x * (2**200 + 1)))
moves = st.tuples(st.integers(0, 1), st.integers(0, 4), st.integers(0, 4), amounts)


@settings(max_examples=400, deadline=None)
@given(st.lists(moves, min_size=3, max_size=9), st.integers(1, 4), st.integers(-1, 4))
@example([(0, 2, 1, 9), (0, 1, 2, 5), (0, 1, 2, 4), (1, 3, 1, 1)], 1, -1)  # back in two parts
@example([(0, 2, 1, 9), (0, 1, 2, 5), (0, 2, 1, 1), (0, 1, 2, 5), (1, 3, 1, 1)], 1, -1)
@example([(0, 1, 1, 9), (0, 1, 1, 9), (1, 3, 1, 1)], 1, 2)  # to himself
def test_no_profit_from_a_loan_is_passed_over(parts, origin, called):
    transfers = [
        MovedTransfer(TOKENS[token], ACCOUNTS[payer], ACCOUNTS[payee], amount)
        for token, payer, payee, amount in parts
    ]
    to = ACCOUNTS[called] if called >= 0 else None
    said = DETECTOR.evaluate(Evidence(transfers=transfers, sender=ACCOUNTS[origin], to=to))
    columns = list(zip(*parts, strict=True))
    token, payer, payee = (np.array(column, np.int32) for column in columns[:3])
    found = may_profit(
        np.array([0, len(parts)]), token, payer, payee, np.array(columns[3], np.float64),
        np.array([origin], np.int32), np.array([called], np.int32), np.ones(1, np.bool_),
    )  # fmt: skip
    assert found[0] or not said.action
