"""What is done to JSON from outside before it is parsed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.chain.clients.json_text import is_nested_deeper, without_comments

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='"\\[]{}/*a\n\u225b\u5b22'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)
# Each took a pattern that insists on the end of a string or comment time that grows with the square
# of its length: a test that does not end is one that fails.
LONG = 500_000
UNENDING = {
    "escaped quotes": '"' + '\\"' * LONG,
    "escaped quotes outside": "[" * 100 + '\\"' * LONG + "x",
    "backslashes": '"' + "\\" * (2 * LONG + 1),
    "quotes": '"' * (2 * LONG + 1),
    "comments": "/*" * LONG,
    "stars": "/*" + "*" * LONG,
    "slashes": "/ " * LONG,
    "brackets": "[{" * LONG,
    "closing": "]" * LONG + "[" * LONG,
}


def depth(value):
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 0


@given(VALUES, st.integers(0, 4), st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-32-be"]))
def test_depth_is_that_of_the_value_in_every_encoding_that_the_parser_reads(
    value, levels, encoding
):
    text = json.dumps(value, ensure_ascii=False)
    assert is_nested_deeper(text, levels) == (depth(value) > levels)
    content = text.encode(encoding, "surrogatepass")
    assert json.loads(content) == value
    assert is_nested_deeper(content, levels) == (depth(value) > levels)


@given(VALUES)
def test_json_without_comments_stays_what_it_is(value):
    text = json.dumps(value)
    assert without_comments(text) == text


@given(VALUES, st.sampled_from(['// a "quote\n', '/* [ " */', "/***/", "//\r\n"]))
def test_comments_between_the_parts_are_passed_over(value, comment):
    text = json.dumps([value, value], indent=1, separators=(f"{comment},{comment}", ":"))
    assert json.loads(without_comments(comment + text + comment)) == [value, value]


@pytest.mark.parametrize("text", UNENDING.values(), ids=UNENDING)
def test_hostile_texts_take_time_by_their_length_alone(text):
    is_nested_deeper("[" * 70 + text, 64)
    is_nested_deeper(("[" * 70 + text).encode(), 64)
    without_comments(text)


def test_bytes_in_no_encoding_are_left_to_the_parser():
    assert not is_nested_deeper(b"[" * 100 + b"\xff", 64)
