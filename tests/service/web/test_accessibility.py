"""axe, the accessibility checker, finds nothing on any page: in light, in dark, on a phone."""

import re

import pytest
from playwright.sync_api import Browser

from src.demo.contracts import ROOT
from tests.conftest import USDC
from tests.service.web.browsing import quiet_page, theft

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
PAGES = (
    "/ui/",
    "/ui/alerts?state=new",
    "/ui/screenings",
    "/ui/ranges",
    "/ui/models",
    "/ui/search?q=usdc",
    "/ui/search?q=385",
    "/ui/search?q=nothing",
    f"/ui/tokens/{USDC}",
    "/ui/addresses/0x14dc79964da2c08b23698b3d3cc7ca32193d9955",
)
VIOLATIONS = """async () => (await axe.run()).violations.flatMap(rule => rule.nodes.map(
    node => `${rule.id}: ${node.html.slice(0, 160)} ${node.any.map(check => check.message)}`))"""


@pytest.mark.integration
@pytest.mark.parametrize(
    ("width", "scheme"), [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]
)
def test_axe_finds_nothing_on_any_page(
    demo: str, browser: Browser, width: int, scheme: str
) -> None:
    screen = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    with quiet_page(browser, **screen) as page:
        page.goto(f"{demo}/ui/ranges")
        page.get_by_role("button", name="Analyse").click()
        page.wait_for_url("**/ui/analyses/*")
        analysis = re.sub(r"^https?://[^/]+", "", page.url)
        found = {}
        for path in (*PAGES, analysis, f"/ui/transactions/{theft(demo)}"):
            page.goto(f"{demo}{path}")
            page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
            page.evaluate(AXE.read_text())
            if violations := page.evaluate(VIOLATIONS):
                found[path] = violations
    assert found == {}
