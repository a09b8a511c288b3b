"""Names of tokens, which strangers choose, stay text on every page."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from src.chain.names.book import open_address_book
from src.decision.tokens import TokenView
from src.service.database.chain import find_tokens, store_tokens
from src.service.database.engine import Database
from src.service.web.rendering import environment
from tests.service.web.browsing import theft
from tests.service.web.test_accessibility import SIDEWAYS

HOSTILE = "<img src=x onerror=document.title='owned'>"

RIGHT_TO_LEFT = "\u202eאבג CDSU"


def test_templates_escape_what_strangers_write() -> None:
    template = environment(open_address_book(1)).from_string(
        '{% from "macros.html" import token, swatch %}'
        '{{ token(name, name) }}{{ swatch("x", name) }}'
    )
    shown = template.render(name=HOSTILE + '"')
    assert "<img" not in shown
    assert 'title="&lt;img' in shown


@pytest.mark.integration
def test_names_of_tokens_are_inert(demo: str, home: Path, page: Page) -> None:
    tx_hash = theft(demo)
    database = Database(f"sqlite:///{home / 'service.db'}")
    with database.reading() as connection:
        rows = connection.exec_driver_sql(
            "SELECT DISTINCT token FROM transfers WHERE tx_hash = ? ORDER BY token", (tx_hash,)
        ).all()
    (first, second), names = (rows[0][0], rows[1][0]), (HOSTILE, RIGHT_TO_LEFT)
    with database.writing() as connection:
        # As if the sanitiser had let them through: the templates must stand alone.
        hostile = [TokenView(a, n, n, 18) for a, n in zip((first, second), names, strict=True)]
        store_tokens(connection, 1, hostile)
    database.close()
    for path in (f"/ui/transactions/{tx_hash}", "/ui/alerts", "/ui/?span=all"):
        page.goto(f"{demo}{path}")
        assert page.locator("img").count() == 0
        assert "owned" not in page.title()
        expect(page.locator("bdi", has_text="onerror").first).to_be_attached()
        outside = page.locator("td, th, dd").filter(has_text="אבג").first
        assert outside.locator("bdi", has_text="אבג").count() == 1


LONG = "W" * 64


@pytest.mark.integration
@pytest.mark.parametrize("width", [1440, 390])
def test_a_long_symbol_widens_no_page(demo: str, home: Path, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    tx_hash = theft(demo)
    database = Database(f"sqlite:///{home / 'service.db'}")
    with database.reading() as connection:
        token, owner = connection.exec_driver_sql(
            "SELECT token, sender FROM transfers WHERE tx_hash = ? ORDER BY token", (tx_hash,)
        ).all()[0]
        before = find_tokens(connection, 1, [token])
    with database.writing() as connection:
        store_tokens(connection, 1, [TokenView(token, LONG, LONG, 18)])
    for path in (
        f"transactions/{tx_hash}", "alerts", "?span=all", f"search?q={LONG}", f"tokens/{token}",
        f"addresses/{owner}",
    ):  # fmt: skip
        page.goto(f"{demo}/ui/{path}")
        assert page.locator("bdi", has_text="WWWWWWWWWWWW").count(), path
        assert page.evaluate(SIDEWAYS) == [], path
    with database.writing() as connection:
        store_tokens(connection, 1, before.values())
    database.close()


FOREIGN = """() => ({
    scripts: [...document.scripts].filter(s => !s.src.includes('/ui/static/')).length,
    frames: document.querySelectorAll('iframe, object, embed, img, base').length,
    attributes: [...document.querySelectorAll('*')].flatMap(e => [...e.attributes]).filter(
        a => a.name.startsWith('on') || a.name === 'style' ||
            (/^(href|src|action|formaction|xlink:href)$/.test(a.name) &&
             /^\\s*(javascript|data|vbscript):/i.test(a.value))).map(a => a.name),
    title: document.title.includes('owned') || window.owned === true,
})"""

ESCAPES = (
    "<script>window.owned = true</script>",
    '"><script>window.owned = true</script>',
    "' onmouseover='window.owned = true' x='",
    '" autofocus onfocus="window.owned = true" x="',
    "javascript:window.owned=true",
    "</title><script>window.owned = true</script>",
    "</svg></table></textarea><iframe srcdoc='<script>parent.owned = true</script>'>",
    "<svg/onload=window.owned=true>",
    "{{ 7 * 7 }}{% raw %}${7*7}",
    "\u202e>tpircs/<\u2066>tpircs<\u2069",
    "]]><!--",
)


@pytest.mark.integration
def test_no_name_of_a_token_becomes_markup(demo: str, home: Path, page: Page) -> None:
    tx_hash = theft(demo)
    database = Database(f"sqlite:///{home / 'service.db'}")
    with database.reading() as connection:
        token = connection.exec_driver_sql(
            "SELECT MIN(token) FROM transfers WHERE tx_hash = ?", (tx_hash,)
        ).scalar_one()
    clean = {"scripts": 0, "frames": 0, "attributes": [], "title": False}
    for name in ESCAPES:
        with database.writing() as connection:
            store_tokens(connection, 1, [TokenView(token, name, name, 18)])
        for path in (f"/ui/transactions/{tx_hash}", "/ui/alerts"):
            page.goto(f"{demo}{path}")
            for shown in page.locator("bdi:visible").filter(has_text=name[:8]).all()[:2]:
                shown.hover()
            assert page.evaluate(FOREIGN) == clean, (name, path)
            assert "49" not in page.title()
            texts = page.locator("bdi").all_text_contents()
            assert any(name[:8] in text for text in texts), (name, path)  # shown, and as text
    database.close()
