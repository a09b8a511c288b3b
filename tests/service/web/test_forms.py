"""What people send by forms is read, or refused by name."""

import math
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.service.http.problems import Problem
from src.service.web import forms


@pytest.mark.parametrize(
    "sent",
    ["https://evil.example", "//evil.example", "/ui/../x", "/ui/a\r\nSet-Cookie: x", "/alerts"],
)
def test_forms_return_to_our_own_pages_only(sent: str) -> None:
    assert forms.back_to(sent) == "/ui/alerts"


def test_forms_return_to_where_the_reader_was() -> None:
    there = "/ui/alerts?sort=score&order=asc&since=2024-05-30T12%3A00#alert-7"
    assert forms.back_to(there) == there


@settings(deadline=None)
@given(st.text(max_size=40) | st.integers(-10, 10**20).map(str))
def test_a_form_s_number_is_a_number_or_a_problem(sent: str) -> None:
    with suppress(Problem):
        value = forms.whole_or_none("First block", sent)
        assert value is None or 0 <= value < 10**16


@settings(deadline=None)
@given(st.text(max_size=40) | st.datetimes().map(str))
def test_a_form_s_time_is_a_time_or_a_problem(sent: str) -> None:
    with suppress(Problem):
        value = forms.time_or_none("From", sent)
        assert value is None or value >= 0


@settings(deadline=None)
@given(st.text(max_size=40) | st.floats().map(str))
def test_a_form_s_bound_is_a_number_or_a_problem(sent: str) -> None:
    with suppress(Problem):
        value = forms.number_or_none("Value", sent)
        assert value is None or 0 <= value < math.inf


@pytest.mark.parametrize(
    ("read", "sent", "value"),
    [
        (forms.whole_or_none, " 17 ", 17),
        (forms.whole_or_none, "0\x1f", 0),
        (forms.whole_or_none, "", None),
        (forms.time_or_none, "1970-01-01T01:00", 3600),
        (forms.time_or_none, "1970-01-01T03:00+02:00", 3600),
        (forms.time_or_none, "1970-01-01T01:00Z", 3600),
        (forms.time_or_none, "", None),
        (forms.number_or_none, " 1.5e-3 ", 0.0015),
        (forms.number_or_none, "", None),
    ],
)
def test_forms_are_read(read, sent: str, value: float | None) -> None:
    assert read("It", sent) == value


@pytest.mark.parametrize(
    ("read", "sent"),
    [
        (forms.whole_or_none, "-1"),
        (forms.whole_or_none, "1e3"),
        (forms.number_or_none, "-0.1"),
        (forms.number_or_none, "nan"),
        (forms.number_or_none, "1e999"),
        (forms.number_or_none, "much"),
        (forms.whole_or_none, "٣"),
        (forms.time_or_none, "yesterday"),
    ],
)
def test_what_a_form_cannot_mean_is_named(read, sent: str) -> None:
    with pytest.raises(Problem, match="First block must be") as caught:
        read("First block", sent)
    assert caught.value.status == 400
