"""The pages in a real browser on the real service."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import USDC
from tests.service.web.browsing import quiet_page, theft

PAGES = (
    "/ui/", "/ui/?span=all", "/ui/alerts", "/ui/ranges", "/ui/models", "/ui/search?q=usdc",
    f"/ui/tokens/{USDC}", "/ui/addresses/0x14dc79964da2c08b23698b3d3cc7ca32193d9955",
)  # fmt: skip


@pytest.mark.integration
def test_the_front_page_leads_to_what_was_found(demo: str, page: Page) -> None:
    page.goto(demo)
    expect(page).to_have_url(f"{demo}/ui/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    over_time = page.get_by_role("group", name="Alerts over time by severity")
    expect(over_time.locator("svg")).to_be_visible()
    expect(page.get_by_role("img", name="Distribution of anomaly scores")).to_be_visible()
    page.get_by_role("region", name="Waiting for a person").get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Transaction")


@pytest.mark.integration
def test_the_keyboard_reaches_the_content_first(demo: str, page: Page) -> None:
    page.goto(f"{demo}/ui/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{demo}/ui/#main")


@pytest.mark.integration
def test_alerts_are_filtered_and_sorted(demo: str, page: Page) -> None:
    page.goto(f"{demo}/ui/alerts")
    scores = page.locator(".case-facts div:has(dt:text-is('Score')) dd")
    page.get_by_text("Filter", exact=True).click()
    page.get_by_label("Severity").select_option("Critical")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator(".case")).to_have_count(1)
    expect(page.locator(".case")).to_contain_text("Anomalous Transaction")
    page.get_by_role("link", name="Clear").click()
    sort = page.get_by_role("navigation", name="Sort by")
    sort.get_by_role("link", name="score").click()
    expect(sort.locator("[aria-current]")).to_have_text(re.compile("score.*descending"))
    shown = [float(text) for text in scores.all_inner_texts()]
    assert shown == sorted(shown, reverse=True)
    sort.get_by_role("link", name="score").click()
    expect(sort.locator("[aria-current]")).to_have_text(re.compile("score.*ascending"))
    shown = [float(text) for text in scores.all_inner_texts()]
    assert shown == sorted(shown)
    assert len(shown) > 1


@pytest.mark.integration
def test_a_form_without_our_token_is_refused(demo: str, page: Page) -> None:
    page.goto(f"{demo}/ui/alerts")
    answer = page.request.post(
        f"{demo}/ui/alerts/1/feedback", form={"verdict": "true", "csrf": "x" * 40}
    )
    assert answer.status == 403
    assert "text/html" in answer.headers["content-type"]
    assert page.request.post(f"{demo}/ui/ranges", form={"start_block": "1"}).status == 403


@pytest.mark.integration
def test_the_documentation_works_without_inline_styles_or_scripts(demo: str, page: Page) -> None:
    page.goto(f"{demo}/docs")
    page.locator(".opblock").filter(has_text="/healthz").locator("button").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table")).to_contain_text("200")


@pytest.mark.integration
def test_models_are_described(demo: str, page: Page) -> None:
    page.goto(f"{demo}/ui/models")
    expect(page.get_by_role("region", name="Champion")).to_contain_text("SHA-256")
    expect(page.get_by_role("region", name="Evaluation")).to_contain_text("known exploits")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/ui/alerts?action=EXPLODE", 400, "action must be one of"),
        ("/ui/alerts?token=0x12", 422, "token must be an address"),
        ("/ui/transactions/hello", 422, "64 hex digits"),
        ("/ui/addresses/hello", 422, "40 hex digits"),
        ("/ui/jobs/nothing", 404, "Job not found"),
        ("/ui/analyses/nothing", 404, "Analysis not found"),
        ("/ui/elsewhere", 404, "does not exist"),
        ("/ui/transactions/0x" + "00" * 32, 404, "No block of the chain contains"),
    ],
)
def test_errors_are_shown_as_pages(
    demo: str, browser: Browser, path: str, status: int, words: str
) -> None:
    page = browser.new_page()
    answer = page.goto(f"{demo}{path}")
    assert answer.status == status
    expect(page.get_by_role("alert")).to_contain_text(words)
    page.close()


@pytest.mark.integration
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_a_phone_and_names_its_parts(
    demo: str, browser: Browser, scheme: str
) -> None:
    phone = {"viewport": {"width": 375, "height": 740}, "color_scheme": scheme}
    with quiet_page(browser, **phone) as page:
        for path in (*PAGES, f"/ui/transactions/{theft(demo)}"):
            page.goto(f"{demo}{path}")
            too_wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert too_wide <= 0, path
            assert page.locator("h1").count() == 1
            unnamed = page.evaluate(
                """() => [
                    ...[...document.querySelectorAll('input:not([type=hidden]), select, progress')]
                        .filter(e => !e.labels.length),
                    ...[...document.querySelectorAll('table')].filter(e => !e.caption),
                    ...[...document.querySelectorAll('svg')].filter(
                        e => !e.ariaLabel && e.getAttribute('aria-hidden') !== 'true'),
                ].map(e => e.outerHTML.slice(0, 200))"""
            )
            assert unnamed == [], path
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", background))) < 300) == (scheme == "dark")
