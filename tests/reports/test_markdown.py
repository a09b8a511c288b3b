"""Names from data stay text in Markdown and in HTML."""

import pytest

from src.reports.markdown import markdown_to_html, plain, table

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "a | b",
    "`code` **bold** [link](https://evil.example)",
    "two\nlines",
    "| --- |",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_shown_as_it_is(name: str) -> None:
    shown = markdown_to_html(table(["name", "value"], [[plain(name), "1"]]))
    assert shown.count("<td>") == 2
    assert not any(tag in shown for tag in ("<img", "<b>", "<code>", "<a "))
    assert markdown_to_html(plain(name)).count("<") == 2  # of the paragraph itself


def test_a_usual_name_needs_no_escaping() -> None:
    assert plain("sender_age (minutes) & more") == "sender_age (minutes) & more"
