"""axe, the accessibility checker, finds nothing on any page: in light, in dark, on a phone.

Nothing but the picture of the flow is scrolled sideways.

The pages that it opens are kept as pictures under `build/pages`, which Git ignores.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from src.demo.contracts import ROOT
from src.detection.records import Action
from src.service.database.engine import Database
from src.service.database.screenings import add_screenings
from tests.conftest import USDC
from tests.service.database.rows import screening
from tests.service.guard.guarding import BAD, RAW, Script, guard, node
from tests.service.web.browsing import quiet_page, theft

RECEIVER = "0x976ea74026e726554db657fa54763abd0c3a0aa9"
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
PICTURES = ROOT / "build" / "pages"
PAGES = {
    "overview": "/ui/",
    "zoomed": "/ui/?since=2024-05-30T00:15&until=2024-05-31T00:00",
    "alerts": "/ui/alerts?state=new",
    "screenings": "/ui/screenings",
    "screening": "/ui/screenings/u1",
    "ranges": "/ui/ranges",
    "models": "/ui/models",
    "search": "/ui/search?q=usdc",
    "names": "/ui/search?q=router",
    "block": "/ui/search?q=385",
    "nothing": "/ui/search?q=nothing",
    "token": f"/ui/tokens/{USDC}",
    "account": "/ui/addresses/0x14dc79964da2c08b23698b3d3cc7ca32193d9955",
    "receiver": f"/ui/addresses/{RECEIVER}",
}
SCREENINGS = (
    screening(
        1, source="guard", action=2, outcome="blocked", is_enforced=True, client="127.0.0.1",
        method="eth_sendRawTransaction", summary=f"{RECEIVER} gained 3,279 WETH and 4.32 M USDC.",
        reasons=["more unusual than all of the training transactions", f"{RECEIVER} repays a loan"],
    ),
    screening(2, source="guard", action=0, outcome="passed", is_enforced=False, client="w" * 40),
    screening(3, status="unknown", summary="", problem="the node does not simulate"),
)  # fmt: skip
VIOLATIONS = """async (options) => (await axe.run(options)).violations.flatMap(
    rule => rule.nodes.map(node =>
        `${rule.id}: ${node.html.slice(0, 160)} ${node.any.map(check => check.message)}`))"""
SIDEWAYS = """() => [...document.querySelectorAll('html, .scroll:not(.flow-pane)')]
    .filter(one => one.scrollWidth > one.clientWidth + 1)
    .map(one => one.ariaLabel || one.tagName)"""
OPEN_ALL = "document.querySelectorAll('details').forEach(one => one.open = true)"
# All that a scheme of colours can change, which a width does not change again.
DARK = {"dark": {"runOnly": ["color-contrast"]}}
RULES: dict[int, dict[str, dict[str, list[str]]]] = {1440: {"light": {}} | DARK, 390: {"light": {}}}


@pytest.mark.integration
@pytest.mark.parametrize("width", RULES)
def test_axe_finds_nothing_on_any_page(demo: str, home: Path, browser: Browser, width: int) -> None:
    database = Database(f"sqlite:///{home / 'service.db'}")
    with database.writing() as connection:
        add_screenings(connection, SCREENINGS)
    database.close()
    with quiet_page(browser, viewport={"width": width, "height": 900}) as page:
        page.goto(f"{demo}/ui/ranges")
        page.get_by_role("button", name="Analyse").click()
        page.wait_for_url("**/ui/analyses/*")
        analysis = re.sub(r"^https?://[^/]+", "", page.url)
        more = {"range": analysis, "part": f"{analysis}?value_from=1000"}
        more |= {"transaction": f"/ui/transactions/{theft(demo)}"}
        assert faults(page, demo, width, PAGES | more) == {}


@pytest.mark.integration
@pytest.mark.parametrize("width", RULES)
def test_axe_finds_nothing_on_the_guard_s_pages(browser: Browser, width: int) -> None:
    with (
        node() as upstream,
        guard(upstream.url, Script(Action.REVIEW), hold_review=True) as guarded,
        quiet_page(browser, viewport={"width": width, "height": 900}) as page,
    ):
        guarded.call("eth_sendRawTransaction", BAD)
        held = guarded.call("eth_sendRawTransaction", RAW)["error"]["data"]["decision"]
        pages = {"guard": "/ui/screenings", "guard-held": f"/ui/screenings/{held}"}
        assert faults(page, guarded.url, width, pages) == {}
        expect(page.locator("p.lead-action")).to_contain_text("Release it or drop it.")
        page.get_by_role("button", name="Drop").click()
        expect(page.locator("p.lead-action")).to_contain_text("Nothing to do: it was not sent.")


def faults(page: Page, base: str, width: int, paths: Mapping[str, str]) -> dict[object, object]:
    """What is wrong with these pages, whose pictures it takes."""
    found: dict[object, object] = {}
    for name, path in paths.items():
        page.goto(f"{base}{path}")
        for scheme in RULES[width]:
            page.emulate_media(color_scheme=scheme)
            page.screenshot(path=PICTURES / f"{width}-{scheme}" / f"web-{name}.png")
        page.evaluate(OPEN_ALL)
        if sideways := page.evaluate(SIDEWAYS):
            found[path, "sideways"] = sideways
        page.evaluate(AXE.read_text())
        for scheme, rules in RULES[width].items():
            page.emulate_media(color_scheme=scheme)
            if violations := page.evaluate(VIOLATIONS, rules):
                found[path, scheme] = violations
    return found
