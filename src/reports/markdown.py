"""Markdown of reports: tables, and conversion to HTML."""

import html
import re
from collections.abc import Iterable, Sequence

from src.reports import page

_MARKUP = re.compile(r"[\\`*\[\]<>|]")
_EMPHASIS = re.compile(r"\*(\w[^*<]*)\*")
_REFERENCE = re.compile(r"&amp;#(\d+);")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plain(text: object) -> str:
    """Text from data as Markdown that shows as itself: no markup, HTML, link or table column."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", " ".join(str(text).split()))


def span(interval: Sequence[float], digits: int = 3) -> str:
    """An interval as text."""
    return f"{interval[0]:.{digits}f}–{interval[1]:.{digits}f}"


def percent_span(interval: Sequence[float], digits: int = 0) -> str:
    """An interval of shares as text, in percent."""
    return f"{interval[0] * 100:.{digits}f}–{interval[1] * 100:.{digits}f}%"


def markdown_to_html(markdown: str) -> str:
    """A report's Markdown as HTML: paragraphs, bullets, tables, bold, emphasis, code; escaped."""
    blocks = []
    for block in markdown.split("\n\n"):
        lines = block.split("\n")
        if lines[0].startswith("| "):
            cells = [[_text(c) for c in line[2:-2].split(" | ")] for line in lines]
            blocks.append(page.table(cells[0], cells[2:]))
        elif lines[0].startswith("- "):
            items = "".join(f"<li>{_text(line[2:])}</li>" for line in lines)
            blocks.append(f"<ul>{items}</ul>")
        else:
            blocks.append(f"<p>{_text(block)}</p>")
    return "\n".join(blocks)


def _text(text: str) -> str:
    escaped = _REFERENCE.sub(r"&#\1;", html.escape(text))
    for mark, tag in (("**", "b"), ("`", "code")):
        pieces = escaped.split(mark)
        escaped = pieces[0] + "".join(
            f"<{'/' * (place % 2)}{tag}>{piece}" for place, piece in enumerate(pieces[1:])
        )
    return _EMPHASIS.sub(r"<em>\1</em>", escaped)
