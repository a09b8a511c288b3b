"""A report as one HTML file that needs no other. Text is escaped: it may come from strangers."""

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
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto }}
body {{ padding: 0 1rem }}
table {{ border-collapse: collapse; font-size: .9rem }}
th, td {{ border-bottom: 1px solid #ccc; padding: .2rem .6rem; text-align: left }}
td {{ overflow-wrap: anywhere }}
figure {{ margin: 1.5rem 0 }} img {{ max-width: 100% }} figcaption {{ color: #555 }}
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
        pictures: captions and PNG images.
    """

    heading: str
    paragraphs: Sequence[str] = ()
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    pictures: Sequence[tuple[str, bytes]] = ()


def to_html(title: str, sections: Sequence[Section]) -> str:
    """The whole page."""
    body = "\n".join(_section(section) for section in sections)
    return _PAGE.format(title=html.escape(title), body=body)


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.heading)}</h2>"]
    parts += [f"<p>{html.escape(paragraph)}</p>" for paragraph in section.paragraphs]
    if section.header:
        parts.append("<table>")
        parts.append(_row("th", section.header))
        parts += [_row("td", row) for row in section.rows]
        parts.append("</table>")
    for caption, picture in section.pictures:
        encoded = base64.b64encode(picture).decode()
        shown = html.escape(caption)
        parts.append(
            f'<figure><img alt="{shown}" src="data:image/png;base64,{encoded}">'
            f"<figcaption>{shown}</figcaption></figure>"
        )
    return "\n".join(parts)


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"
