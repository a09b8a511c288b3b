"""A report as a self-contained HTML file. Text is escaped, since it may be untrusted."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark;
  --text: #1b1f24; --back: #fff; --line: #d8dee4; --quiet: #57606a }}
@media (prefers-color-scheme: dark) {{
  :root {{ --text: #e6edf3; --back: #0d1117; --line: #30363d; --quiet: #9198a1 }}
}}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--text); background: var(--back) }}
table {{ border-collapse: collapse; font-size: .9rem }}
th, td {{ border-bottom: 1px solid var(--line); padding: .2rem .6rem; text-align: left }}
td {{ overflow-wrap: anywhere }}
figure {{ margin: 1.5rem 0 }} img {{ max-width: 100% }} figcaption {{ color: var(--quiet) }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report.

    Attributes:
        heading: its title.
        paragraphs: plain text.
        header: the columns of its table; empty for none.
        rows: the table's cells.
        pictures: captions and PNG plots.
    """

    heading: str
    paragraphs: Sequence[str] = ()
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    pictures: Sequence[tuple[str, bytes]] = ()


def to_html(title: str, sections: Sequence[Section]) -> str:
    """A page of sections."""
    return page(title, "\n".join(_section(section) for section in sections))


def page(title: str, body: str) -> str:
    """A complete HTML file; `body` is HTML, below a heading with the title."""
    return _PAGE.format(title=html.escape(title), body=body)


def figure(caption: str, png: bytes) -> str:
    """A plot embedded in the page, with its caption."""
    shown, encoded = html.escape(caption), base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{shown}" src="data:image/png;base64,{encoded}">'
        f"<figcaption>{shown}</figcaption></figure>"
    )


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.heading)}</h2>"]
    parts += [f"<p>{html.escape(paragraph)}</p>" for paragraph in section.paragraphs]
    if section.header:
        parts.append("<table>")
        parts.append(_row("th", section.header))
        parts += [_row("td", row) for row in section.rows]
        parts.append("</table>")
    parts += [figure(caption, picture) for caption, picture in section.pictures]
    return "\n".join(parts)


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"
