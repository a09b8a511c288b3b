import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.chain.quantities import as_int


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [(0, 0), (17, 17), ("17", 17), ("0x11", 17), ("0X11", 17), (f"0x{2**256 - 1:x}", 2**256 - 1)],
)
def test_reads_the_forms_in_which_integers_arrive(given_value, expected):
    assert as_int(given_value) == expected


@pytest.mark.parametrize(
    "nonsense",
    [None, True, -1, 1.5, "", "0x", "-1", "+1", " 1", "1_0", "0x-1", "٣", "1e5", "9" * 81],
)
def test_refuses_everything_else(nonsense):
    assert as_int(nonsense) is None


@given(st.text())
def test_no_text_can_make_it_raise(text):
    number = as_int(text)
    assert number is None or number >= 0


@given(
    st.integers(-(2**300), 2**300),
    st.sampled_from([str, hex, "{:#X}".format, "0{}".format, "+{}".format, "{}.0".format]),
)
def test_a_number_in_any_notation_is_read_as_itself_or_refused(number, notation):
    text = notation(number)
    assert as_int(text) in (None, number)
    assert as_int(number) == (number if number >= 0 else None)
