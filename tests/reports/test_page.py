"""One look for all reports: the summary first, pictures before tables, links, nothing unescaped."""

import io
import re

import pytest
from matplotlib.axes import Axes
from matplotlib.image import imread

from src.reports.page import Section, page, table, tiles, to_html
from src.reports.pictures import ALARM, draw

HASH = "0x" + "ab" * 32
PLOT = b"\x89PNG"


def order(shown: str, *parts: str) -> list[int]:
    return [shown.index(part) for part in parts]


def test_the_summary_comes_first_and_pictures_before_tables() -> None:
    section = Section("Part", ("words",), ("name",), (("cell",),), [("caption", PLOT)])
    shown = to_html("Title", [section], summary=[("42", "alerts")])
    places = order(shown, "<h1>Title", "<b>42</b>alerts", "<h2>Part", "words", "<img", "<table")
    assert places == sorted(places)


def test_many_headings_are_linked_from_the_top() -> None:
    shown = to_html("T", [Section(f"Part <{n}>") for n in range(5)])
    assert re.findall(r'<a href="#(s\d)">', shown) == [f"s{n}" for n in range(5)]
    for n in range(5):
        assert f'<h2 id="s{n}">Part &lt;{n}&gt;</h2>' in shown
    assert "<nav" not in to_html("T", [Section("Part")])


def test_the_hash_of_a_transaction_is_a_link_where_its_chain_has_an_explorer() -> None:
    section = Section("Worst", (), ("transaction",), ((HASH,),))
    assert f'<a href="https://etherscan.io/tx/{HASH}"' in to_html("T", [section])
    elsewhere = Section("Worst", (), ("transaction",), ((HASH,),), chain_id=424_242)
    assert f"<code>{HASH}</code>" in to_html("T", [elsewhere])
    assert "<a href=" not in to_html("T", [elsewhere])


@pytest.mark.parametrize("evil", ["<script>alert(1)</script>", '"><img src=x>', "</style><b>"])
def test_text_is_escaped_everywhere(evil: str) -> None:
    shown = to_html(
        evil,
        [Section(evil, (evil,), (evil,), ((evil,),), [(evil, PLOT)])],
        summary=[(evil, evil)],
    )
    assert evil not in shown
    assert evil not in tiles([(evil, evil)])


def test_a_wide_table_scrolls_by_itself() -> None:
    assert table(("a",), [("b",)]).startswith('<div class="wide" tabindex="0" ')
    assert "width=device-width" in page("T", "")


def test_a_legend_covers_no_bar() -> None:
    """Its lowest pixels are the axis' own, and the bars reach the top of the axes."""

    def paint(axes: Axes) -> None:
        axes.bar(range(50), [1.0] * 50, width=1.0, color=ALARM, label="a bar")
        axes.set(ylim=(0, 1), xlim=(-0.5, 49.5))

    pixels = imread(io.BytesIO(draw(paint)))[:, :, :3]
    red = (pixels[:, :, 0] > 0.7) & (pixels[:, :, 1] < 0.3)
    columns = red.sum(axis=0)
    tall = columns[columns > columns.max() / 2]  # the columns of bars, not of the legend's sample
    assert tall.max() - tall.min() <= 20
    assert len(tall) > pixels.shape[1] * 0.7
