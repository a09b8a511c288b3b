"""Outside text becomes one short printable line without bridge markers."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.chain.text import BRIDGE_MARKERS, in_short, sanitise_text

PIECES = ["!*", "*!", "-", ":", "forta_finding", "forta_", "finding", "\u200b", "\n", " "]
ODD_CHARACTERS = ["\uff01", "\uff0a", "\ufe0f", "\u0301", "\ufdfa"]
FRAGMENTS = st.sampled_from([*BRIDGE_MARKERS, *PIECES, *ODD_CHARACTERS])
HOSTILE_TEXT = st.lists(FRAGMENTS | st.text(max_size=5), max_size=30).map("".join)


@given(HOSTILE_TEXT, st.integers(min_value=1, max_value=80))
def test_result_is_harmless_bounded_and_stable(text: str, max_length: int) -> None:
    result = sanitise_text(text, max_length)
    assert len(result) <= max_length
    assert not any(marker in result.lower() for marker in BRIDGE_MARKERS)
    assert not any(
        unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for c in result
    )
    assert sanitise_text(result, max_length) == result


@pytest.mark.parametrize("marker", BRIDGE_MARKERS)
def test_removing_a_marker_does_not_assemble_another(marker: str) -> None:
    for cut in range(1, len(marker)):
        nested = marker[:cut] + marker + marker[cut:]
        assert marker not in sanitise_text(nested)


def test_marker_hidden_by_zero_width_or_fullwidth_characters_is_removed() -> None:
    assert sanitise_text("a !*forta\u200b_finding*!: b") == "a b"
    assert sanitise_text("a \uff01\uff0aforta_finding\uff0a\uff01 b") == "a b"


def test_line_breaks_become_blanks_and_bidirectional_marks_vanish() -> None:
    assert sanitise_text("USD\nCoin\u2028x") == "USD Coin x"
    assert sanitise_text("\u202eCDSU\u202c") == "CDSU"


def test_stacked_combining_marks_are_cut() -> None:
    assert len(sanitise_text("Z" + "\u0334" * 50)) <= 3


@pytest.mark.parametrize("value", [None, 7, b"USDC", ["USDC"], {"a": 1}, True])
def test_what_is_not_a_string_becomes_empty(value: object) -> None:
    assert sanitise_text(value) == ""


@pytest.mark.parametrize("text", ["USD Coin", "Tether USD", "€ÜÑ", "柴犬", "🐶 Doge", "1INCH"])
def test_ordinary_names_are_kept(text: str) -> None:
    assert sanitise_text(text) == text


def test_a_megabyte_of_input_is_cut_before_it_is_looked_at() -> None:
    looked_at = 0

    class CountingText(str):
        def __getitem__(self, key: object) -> str:
            nonlocal looked_at
            cut = super().__getitem__(key)  # type: ignore[index]
            looked_at += len(cut)
            return cut

    assert sanitise_text(CountingText("\u200bA\u0301" * 350_000), 64)
    assert looked_at <= 1024


@pytest.mark.parametrize(
    ("text", "length", "shown"),
    [
        ("a b c d", 7, "a b c d"),
        ("a b c d", 5, "a b …"),
        ("one two, three", 10, "one two, …"),
        ("non-finite numbers", 9, "non-fini…"),
        ("😀" * 10, 9, "😀" * 8 + "…"),
        (None, 9, ""),
    ],
)
def test_what_is_too_long_ends_after_a_word(text: object, length: int, shown: str) -> None:
    assert in_short(text, length) == shown
