"""Amounts and times as pages show them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.service import formatting


@pytest.mark.parametrize(
    ("raw", "decimals", "shown"),
    [
        (0, 18, "0"),
        (1_500_000, 6, "1.5"),
        (5_000_000 * 10**6, 6, "5,000,000"),
        (1, 18, "1e-18"),
        (2**256 - 1, 0, "1.16e+77"),
        (10**21, 18, "1,000"),
    ],
)
def test_amounts_are_short_enough_for_a_picture(raw: int, decimals: int, shown: str) -> None:
    assert formatting.amount(raw, decimals) == shown


def test_an_exact_amount_keeps_every_digit() -> None:
    amount = formatting.exact_amount(2**256 - 1, 18)
    assert amount.replace(",", "").replace(".", "") == str(2**256 - 1)


@settings(deadline=None)
@given(st.floats(allow_nan=False) | st.integers(-(10**40), 10**40))
def test_no_time_is_too_strange_to_show(seconds: float) -> None:
    assert formatting.moment(seconds).endswith("UTC")
