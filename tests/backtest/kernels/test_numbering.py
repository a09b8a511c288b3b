"""Rows, accounts and look-alikes are numbered and found as a slow reading would."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from src.backtest.kernels import accounts, look_alikes
from src.backtest.kernels import words as loops
from src.backtest.kernels.columns import SECRET


@given(st.lists(st.integers(0, 5)), st.integers(0, 2**64 - 1))
def test_rows_are_numbered_by_first_appearance_whatever_the_seed(values, seed):
    words = np.array(values, np.uint64).reshape(-1, 1)
    number, first = loops.number_rows(words, np.uint64(seed))
    order = list(dict.fromkeys(values))
    assert number.tolist() == [order.index(value) for value in values]
    assert first.tolist() == [values.index(value) for value in order]


def test_thousands_of_rows_are_numbered_as_well():
    values = np.random.default_rng(0).integers(0, 5_000, 20_000).tolist()  # the table grows thrice
    number, first = loops.number_rows(np.array(values, np.uint64).reshape(-1, 1), np.uint64(7))
    order = {value: place for place, value in enumerate(dict.fromkeys(values))}
    assert number.tolist() == [order[value] for value in values]
    assert first.tolist() == [values.index(value) for value in order]


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40),
            st.integers(0, 4),
            st.integers(0, 4) | st.none(),
        ),
        max_size=6,
    )
)
def test_accounts_are_numbered_by_transaction(transactions):
    moves = [move for moved, _, _ in transactions for move in moved]
    sizes = [len(moved) for moved, _, _ in transactions]

    def words(numbers):
        return np.array([[a, 2**64 - 1 if a else 0, a] for a in numbers], np.uint64).reshape(-1, 3)

    sender, recipient, origin, called, most = accounts.number_accounts(
        np.cumsum([0, *sizes]), words([a for a, _ in moves]), words([b for _, b in moves]),
        words([o for _, o, _ in transactions]), words([c or 0 for _, _, c in transactions]),
        np.array([c is not None for _, _, c in transactions], np.bool_), SECRET,
    )  # fmt: skip
    at, largest = 0, 1
    for tx, (moved, sent_by, to) in enumerate(transactions):
        number = {0: 0}
        for move in moved:
            for account in move:
                number.setdefault(account, len(number))
        part = {account for move in moved for account in move}
        for payer, payee in moved:
            assert (sender[at], recipient[at]) == (number[payer], number[payee])
            at += 1
        assert called[tx] == (number[to] if to in part else -1)
        assert origin[tx] == number.setdefault(sent_by, len(number))
        largest = max(largest, len(number))
    assert most == largest


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=60))
def test_look_alikes_are_searched_where_they_can_be(moves):
    # Twelve accounts of three looks; 0 is the zero address.
    address = [0, *(((n % 3) << 150) | (n << 60) | n % 3 | 1 << 20 for n in range(1, 12))]
    words = np.array(
        [[a >> 128, (a >> 64) % 2**64, a % 2**64] for a in address], np.uint64
    )  # fmt: skip
    payer = np.array([a for a, _ in moves], np.int32)
    payee = np.array([b for _, b in moves], np.int32)
    found = look_alikes.may_look_alike(payer, payee, words[payer], words[payee], 12, 16, SECRET)
    entered = [(row, *pair) for row, (a, b) in enumerate(moves) for pair in ((a, b), (b, a))
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
    assert set(np.flatnonzero(found).tolist()) == expected


def test_many_distinct_rows_keep_their_numbers():
    words = np.arange(20_000, dtype=np.uint64).reshape(-1, 1)
    number, _ = loops.number_rows(np.concatenate([words, words[::-1]]), np.uint64(1))
    assert (number[:20_000] == number[20_000:][::-1]).all()
