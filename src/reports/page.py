"""A report as a self-contained HTML file: one look for all. Text is escaped, it may be untrusted.

A report begins with what a reader wants to know first, the tiles of its summary; pictures come
before tables, and wide tables scroll by themselves on a phone.
"""

import base64
import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from src.chain.networks import network

_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --back: #fff; --line: #d8dee4; --quiet: #57606a;
  --link: #0969da; --stop: #cf222e; --bad: #a40e26; --tile: #f6f8fa }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --back: #0d1117; --line: #30363d;
  --quiet: #9198a1; --link: #4493f8; --stop: #f85149; --bad: #ff7b72; --tile: #161b22 } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 74rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--text); background: var(--back) }
h1 { font-size: 1.6rem; margin-bottom: .2rem; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin-top: 2.2rem } p, li { max-width: 75ch }
.quiet, caption, figcaption { color: var(--quiet) } caption { text-align: left; max-width: 100cqi }
nav { font-size: .9rem; margin-bottom: .8rem } nav a { display: inline-block; margin-right: 1rem }
a { color: var(--link) }
table { border-collapse: collapse; width: 100% }
.wide { overflow-x: auto; max-width: 100%; container-type: inline-size }
th, td { padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; min-width: 4rem }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
code { font-size: .8rem } code, .long { overflow-wrap: anywhere }
td code { display: inline-block; max-width: 13rem; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; vertical-align: bottom } .sentence { display: block; min-width: 17rem }
.missed { color: var(--bad); font-weight: 600 } summary { cursor: pointer; margin: .6rem 0 }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .8rem }
.tile { background: var(--tile); border-radius: .5rem; padding: .7rem 1rem }
.tile b { display: block; font-size: 1.5rem; line-height: 1.3; overflow-wrap: anywhere }
.pictures { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)) }
figure { margin: .6rem 0 }
img { max-width: 100%; height: auto; background: #fff; border-radius: .4rem }
svg { width: 100%; display: block } .bar { fill: var(--link) } .stop { fill: var(--stop) }
.axis { display: flex; justify-content: space-between; border-top: 1px solid var(--line);
  color: var(--quiet); font-size: .85rem }
.key { color: var(--link) } .key.s { color: var(--stop) }
@media print { a { color: inherit } .wide { overflow: visible } td code { max-width: none }
  figure, .tile { break-inside: avoid } }
"""
_HEADING = re.compile(r"<h2>(.*?)</h2>", re.DOTALL)
_TX_HASH = re.compile(r"0x[0-9a-f]{64}")
_FEW_HEADINGS = 3
_LONG_WORD = 24


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report."""

    heading: str
    paragraphs: Sequence[str] = ()  # plain text
    header: Sequence[str] = ()  # the columns of its table; empty for none
    rows: Sequence[Sequence[str]] = ()  # the table's cells; the hash of a transaction is a link
    pictures: Sequence[tuple[str, bytes]] = ()  # captions and PNG plots, shown before the table
    chain_id: int = 1  # of the transactions


def to_html(
    title: str, sections: Sequence[Section], *, summary: Iterable[tuple[str, str]] = ()
) -> str:
    """A page of sections, below the tiles of the summary."""
    return page(title, tiles(summary) + "\n".join(_section(section) for section in sections))


def page(title: str, body: str) -> str:
    """A complete HTML file.

    Args:
        title: plain text, its heading.
        body: HTML. Links to its second-level headings come first where there are many.
    """
    headings = _HEADING.findall(body)
    if len(headings) > _FEW_HEADINGS:
        numbers = iter(range(len(headings)))
        body = _HEADING.sub(lambda found: f'<h2 id="s{next(numbers)}">{found[1]}</h2>', body)
        links = (f'<a href="#s{number}">{text}</a> ' for number, text in enumerate(headings))
        body = f'<nav aria-label="Contents">{"".join(links)}</nav>{body}'
    shown = html.escape(title)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{shown}</title><style>{_STYLE}</style></head>\n"
        f"<body><main><h1>{shown}</h1>\n{body}\n</main></body></html>\n"
    )


def tiles(values: Iterable[tuple[str, str]]) -> str:
    """The figures that matter most: values and what they are, as plain text."""
    shown = "".join(
        f'<div class="tile"><b>{html.escape(value)}</b>{html.escape(what)}</div>'
        for value, what in values
    )
    return f'<div class="tiles">{shown}</div>' if shown else ""


def pictures(captioned: Iterable[tuple[str, bytes]]) -> str:
    """PNG plots side by side where there is room, with their captions."""
    shown = "".join(
        f'<figure><img alt="{html.escape(caption)}" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for caption, png in captioned
    )
    return f'<div class="pictures">{shown}</div>' if shown else ""


def table(
    names: Sequence[str], rows: Iterable[Sequence[str]], *, note: str = "",
    numeric: int | None = None, until: int | None = None,
) -> str:  # fmt: skip
    """A table of HTML cells; columns from `numeric` to `until` are numbers."""

    def cells(tag: str, row: Sequence[str]) -> str:
        first = len(row) if numeric is None else numeric
        last = len(row) if until is None else until
        shown = []
        for at, text in enumerate(row):
            kind = " class=n" if first <= at < last else ""
            own = tag if text else "td"  # a cell without text heads nothing
            shown.append(f"<{own}{kind}>{text}</{own}>")
        return "".join(shown)

    head = f"<thead><tr>{cells('th', names)}</tr></thead>" if any(names) else ""
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    caption = f"<caption>{html.escape(note)}</caption>" if note else ""
    # It scrolls by itself where it is wide, also by the keyboard.
    return (
        '<div class="wide" tabindex="0" role="group" aria-label="Table">'
        f"<table>{caption}{head}<tbody>{body}</tbody></table></div>"
    )


def transaction(tx_hash: str, chain_id: int) -> str:
    """A transaction's hash, with a link to a block explorer where the chain has one."""
    explorer = network(chain_id).explorer
    text = f"<code>{html.escape(tx_hash)}</code>"
    return (
        text
        if explorer is None
        else f'<a href="{html.escape(f"{explorer}/tx/{tx_hash}")}">{text}</a>'
    )


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.heading)}</h2>"]
    parts += [f"<p>{html.escape(paragraph)}</p>" for paragraph in section.paragraphs]
    parts.append(pictures(section.pictures))
    if section.header:
        parts.append(
            table(
                [html.escape(name) for name in section.header],
                [[_cell(cell, section.chain_id) for cell in row] for row in section.rows],
            )
        )
    return "\n".join(parts)


def _cell(text: str, chain_id: int) -> str:
    if _TX_HASH.fullmatch(text):
        return transaction(text, chain_id)
    shown = html.escape(text)
    if any(len(word) > _LONG_WORD for word in text.split()):  # it may be cut anywhere
        return f'<span class="long">{shown}</span>'
    return shown
