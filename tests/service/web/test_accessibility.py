"""axe, the accessibility checker, finds nothing on any page: in light, in dark, on a phone.

The pages that it opens are kept as pictures under `build/pages`, which Git ignores.
"""

import re

import pytest
from playwright.sync_api import Browser

from src.demo.contracts import ROOT
from tests.conftest import USDC
from tests.service.web.browsing import quiet_page, theft

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
PICTURES = ROOT / "build" / "pages"
PAGES = {
    "overview": "/ui/",
    "alerts": "/ui/alerts?state=new",
    "screenings": "/ui/screenings",
    "ranges": "/ui/ranges",
    "models": "/ui/models",
    "search": "/ui/search?q=usdc",
    "block": "/ui/search?q=385",
    "nothing": "/ui/search?q=nothing",
    "token": f"/ui/tokens/{USDC}",
    "account": "/ui/addresses/0x14dc79964da2c08b23698b3d3cc7ca32193d9955",
}
VIOLATIONS = """async (options) => (await axe.run(options)).violations.flatMap(
    rule => rule.nodes.map(node =>
        `${rule.id}: ${node.html.slice(0, 160)} ${node.any.map(check => check.message)}`))"""
OPEN_ALL = "document.querySelectorAll('details').forEach(one => one.open = true)"
# All that a scheme of colours can change.
RULES = {"light": {}, "dark": {"runOnly": ["color-contrast"]}}


@pytest.mark.integration
@pytest.mark.parametrize("width", [1440, 390])
def test_axe_finds_nothing_on_any_page(demo: str, browser: Browser, width: int) -> None:
    with quiet_page(browser, viewport={"width": width, "height": 900}) as page:
        page.goto(f"{demo}/ui/ranges")
        page.get_by_role("button", name="Analyse").click()
        page.wait_for_url("**/ui/analyses/*")
        analysis = re.sub(r"^https?://[^/]+", "", page.url)
        found = {}
        more = {"range": analysis, "transaction": f"/ui/transactions/{theft(demo)}"}
        for name, path in (PAGES | more).items():
            page.goto(f"{demo}{path}")
            for scheme in RULES:
                page.emulate_media(color_scheme=scheme)
                page.screenshot(path=PICTURES / f"{width}-{scheme}" / f"web-{name}.png")
            page.evaluate(OPEN_ALL)
            page.evaluate(AXE.read_text())
            for scheme, rules in RULES.items():
                page.emulate_media(color_scheme=scheme)
                if violations := page.evaluate(VIOLATIONS, rules):
                    found[path, scheme] = violations
    assert found == {}
