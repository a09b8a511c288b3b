"""The web pages: their pure parts, then a real browser on the real service."""

import json
import os
import re
import socket
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import which
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from src.chain.transfers import ZERO_ADDRESS, Transfer
from src.decision.tokens import TokenView
from src.demo.anvil import anvil
from src.demo.contracts import ROOT, compile_contracts
from src.demo.processes import running
from src.demo.scenarios import SCENARIOS, play
from src.demo.world import GENESIS, build
from src.service import report
from src.service.database.chain import store_tokens
from src.service.database.engine import Database
from src.service.http.problems import Problem
from src.service.web import charts, flow, formatting, forms
from src.service.web.models import stability_index
from src.service.web.rendering import environment
from tests.support.waiting import PATIENCE, wait_until

CHROMIUM = os.environ.get("CHROMIUM_PATH") or which("chromium") or which("chromium-browser")
NO_CHROMIUM = "NO CHROMIUM: the web pages were not driven; install Debian's chromium"
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
expect.set_options(timeout=PATIENCE * 1000)
PAGES = ("/ui/", "/ui/?span=all", "/ui/alerts", "/ui/ranges", "/ui/models")
HOSTILE = "<img src=x onerror=document.title='owned'>"
RIGHT_TO_LEFT = "\u202eאבג CDSU"
ADDRESSES = ["0x" + f"{i:02x}" * 20 for i in range(1, 13)]


# Numbers and forms


@pytest.mark.parametrize(
    ("raw", "decimals", "shown"),
    [
        (0, 18, "0"),
        (1_500_000, 6, "1.5"),
        (5_000_000 * 10**6, 6, "5,000,000"),
        (1, 18, "1e-18"),
        (2**256 - 1, 0, "1.16e+77"),
        (10**21, 18, "1,000"),
    ],
)
def test_amounts_are_short_enough_for_a_picture(raw: int, decimals: int, shown: str) -> None:
    assert formatting.amount(raw, decimals) == shown


def test_an_exact_amount_keeps_every_digit() -> None:
    amount = formatting.exact_amount(2**256 - 1, 18)
    assert amount.replace(",", "").replace(".", "") == str(2**256 - 1)


@settings(deadline=None)
@given(st.floats(allow_nan=False) | st.integers(-(10**40), 10**40))
def test_no_time_is_too_strange_to_show(seconds: float) -> None:
    assert formatting.moment(seconds).endswith("UTC")


@pytest.mark.parametrize(
    "sent",
    ["https://evil.example", "//evil.example", "/ui/../x", "/ui/a\r\nSet-Cookie: x", "/alerts"],
)
def test_forms_return_to_our_own_pages_only(sent: str) -> None:
    assert forms.back_to(sent, "/ui/alerts") == "/ui/alerts"


def test_forms_return_to_where_the_reader_was() -> None:
    there = "/ui/alerts?sort=score&order=asc&since=2024-05-30T12%3A00#alert-7"
    assert forms.back_to(there, "/ui/alerts") == there


@settings(deadline=None)
@given(st.text(max_size=40) | st.integers(-10, 10**20).map(str))
def test_a_form_s_number_is_a_number_or_a_problem(sent: str) -> None:
    with suppress(Problem):
        value = forms.whole_or_none("First block", sent)
        assert value is None or 0 <= value < 10**16


@settings(deadline=None)
@given(st.text(max_size=40) | st.datetimes().map(str))
def test_a_form_s_time_is_a_time_or_a_problem(sent: str) -> None:
    with suppress(Problem):
        value = forms.time_or_none("From", sent)
        assert value is None or value >= 0


@pytest.mark.parametrize(
    ("read", "sent", "value"),
    [
        (forms.whole_or_none, " 17 ", 17),
        (forms.whole_or_none, "", None),
        (forms.time_or_none, "1970-01-01T01:00", 3600),
        (forms.time_or_none, "", None),
    ],
)
def test_forms_are_read(read, sent: str, value: int | None) -> None:
    assert read("It", sent) == value


@pytest.mark.parametrize(
    ("read", "sent"),
    [
        (forms.whole_or_none, "-1"),
        (forms.whole_or_none, "1e3"),
        (forms.whole_or_none, "٣"),
        (forms.time_or_none, "yesterday"),
    ],
)
def test_what_a_form_cannot_mean_is_named(read, sent: str) -> None:
    with pytest.raises(Problem, match="First block must be") as caught:
        read("First block", sent)
    assert caught.value.status == 400


# Pictures

transfers = st.lists(
    st.builds(
        Transfer,
        token=st.sampled_from(ADDRESSES),
        sender=st.sampled_from([*ADDRESSES, ZERO_ADDRESS]),
        recipient=st.sampled_from([*ADDRESSES, ZERO_ADDRESS]),
        amount=st.integers(0, 2**256 - 1),
        log_index=st.integers(0, 10_000),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(transfers)
def test_every_account_has_a_place_of_its_own_in_the_flow(moved: list[Transfer]) -> None:
    drawn = flow.lay_out(moved, {}, sender=ADDRESSES[0], to=ADDRESSES[1])
    assert {box.address for box in drawn.boxes} == {
        a for t in moved for a in (t.sender, t.recipient)
    }
    assert len({(t.sender, t.recipient, t.token) for t in moved}) == len(drawn.arrows) + (
        0 if not drawn.left_out else drawn.left_out
    )
    for box in drawn.boxes:
        assert 0 <= box.x <= box.x + box.width <= drawn.width
        assert 0 <= box.y <= box.y + box.height <= drawn.height
        for other in drawn.boxes:
            if other is not box and other.x == box.x:
                assert box.y + box.height < other.y or other.y + other.height < box.y


@settings(deadline=None)
@given(transfers)
def test_the_same_transfers_give_the_same_picture(moved: list[Transfer]) -> None:
    first = flow.lay_out(moved, {}, sender=None, to=None)
    assert flow.lay_out(list(moved), {}, sender=None, to=None) == first


def test_payers_stand_left_of_payees() -> None:
    a, b, c = ADDRESSES[:3]
    chain = [Transfer(a, a, b, 1, 0), Transfer(a, b, c, 1, 1), Transfer(a, c, a, 1, 2)]
    places = {box.address: box.x for box in flow.lay_out(chain, {}, sender=a, to=b).boxes}
    assert places[a] < places[b] < places[c]


def test_a_huge_transaction_is_drawn_in_part_and_says_so() -> None:
    many = [Transfer(ADDRESSES[0], ADDRESSES[0], f"0x{i:040x}", 1, i) for i in range(500)]
    drawn = flow.lay_out(many, {}, sender=None, to=None)
    assert len(drawn.boxes) == flow.MAX_ACCOUNTS
    assert drawn.left_out == 500 - flow.MAX_ACCOUNTS + 1


points = st.floats(0, 1e60)


@settings(deadline=None)
@given(st.lists(st.tuples(points, points), max_size=30))
def test_points_stay_inside_the_picture(values: list[tuple[float, float]]) -> None:
    chart = charts.log_log([(x, y, "usual", "", "") for x, y in values])
    for point in chart.points:
        assert chart.left <= point.x <= chart.right
        assert chart.top <= point.y <= chart.bottom


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=50, max_size=50), st.floats(0, 1))
def test_histogram_bars_stay_inside_the_picture(counts: list[int], marker: float) -> None:
    expected = charts.expected_shares([0.33, 0.34, 0.7], 50)
    chart = charts.histogram(counts, expected, marker=marker, marker_label="threshold")
    for bar in chart.bars:
        assert chart.left <= bar.x <= bar.x + bar.width <= chart.right + 1e-6
        assert chart.top - 1e-6 <= bar.y <= bar.y + bar.height <= chart.bottom + 1e-6


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=60))
def test_stacked_bars_are_as_high_as_their_counts(counts: list[int]) -> None:
    chart = charts.stacked_bars([("", {"Low": count, "High": count}) for count in counts], ["Low"])
    heights = [bar.height for bar in chart.bars]
    assert len(heights) == sum(count > 0 for count in counts)
    assert all(bar.y >= chart.top - 1e-6 for bar in chart.bars)


def test_stability_is_zero_for_training_s_own_distribution_and_grows_with_the_difference() -> None:
    expected = [0.5, 0.3, 0.1, 0.1]
    assert stability_index([500, 300, 100, 100], expected) == pytest.approx(0)
    near, far = (stability_index(c, expected) for c in ([450, 330, 110, 110], [0, 0, 0, 1000]))
    assert 0 < near < 0.1
    assert far > 0.25


def test_templates_escape_what_strangers_write() -> None:
    template = environment().from_string(
        '{% from "macros.html" import token, swatch %}'
        '{{ token(name, name) }}{{ swatch("x", name) }}'
    )
    shown = template.render(name=HOSTILE + '"')
    assert "<img" not in shown
    assert 'title="&lt;img' in shown


# A browser on the service


@contextmanager
def service(folder: Path, **settings: str) -> Iterator[str]:
    """The real service in a process of its own, on a database of its own; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    unwanted = ("JSON_RPC_URL", "SERVICE_API_KEYS", "DATABASE_URL")
    environ = {name: value for name, value in os.environ.items() if name not in unwanted}
    environ |= {
        "DATABASE_URL": f"sqlite:///{folder / 'service.db'}",
        "CACHE_DIR": str(folder / "cache"),
        "TMPDIR": str(folder),
        "ANALYSIS_DIRECT_BLOCKS": "10",
        "LOOKUP_DEADLINE_SECONDS": "25",
        **settings,
    }
    command = [sys.executable, "-m", "src.service", "--port", str(port), "--workers", "1"]
    log = folder / "service.log"
    try:
        with (
            log.open("wb") as output,
            running(
                command, folder=folder, patience=30, cwd=ROOT, env=environ,
                stdout=output, stderr=output,
            ) as process,
        ):  # fmt: skip
            base = f"http://127.0.0.1:{port}"
            wait_until(lambda: _get(f"{base}/readyz") is not None, process)
            yield base
    except AssertionError as error:
        error.add_note(log.read_text()[-3000:])
        raise


def _get(url: str):
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return json.loads(answer.read())
    except OSError:
        return None


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("web")


@pytest.fixture(scope="module")
def demo(browser: Browser, home: Path) -> Iterator[str]:
    """The service on its embedded demo, all of whose transactions are decided."""
    with service(home) as base:
        wait_until(lambda: _get(f"{base}/alerts?alert_id=ANOMALOUS-TOKEN-TRANSFERS-TX"))
        yield base


@contextmanager
def quiet_page(browser: Browser, **options) -> Iterator[Page]:
    """A page that must log no error, and ask no other site for anything."""
    context: BrowserContext = browser.new_context(**options)
    context.set_default_timeout(PATIENCE * 1000)
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda said: said.type in ("error", "warning") and errors.append(said.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "request",
        lambda asked: (
            errors.append(asked.url)
            if not asked.url.startswith(("http://127.0.0.1", "file://", "data:"))
            else None
        ),
    )
    yield page
    context.close()
    assert errors == []


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with quiet_page(browser, viewport={"width": 1280, "height": 900}) as opened:
        yield opened


def theft(base: str) -> str:
    return _get(f"{base}/alerts?alert_id=ANOMALOUS-TOKEN-TRANSFERS-TX")[0]["transaction_hash"]


@pytest.mark.integration
def test_the_front_page_leads_to_what_was_found(demo: str, page: Page) -> None:
    page.goto(demo)
    expect(page).to_have_url(f"{demo}/ui/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    expect(page.get_by_role("img", name="Alerts over time by severity")).to_be_visible()
    expect(page.get_by_role("img", name="Distribution of anomaly scores")).to_be_visible()
    page.get_by_role("region", name="Newest alerts").get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Transaction")


@pytest.mark.integration
def test_the_keyboard_reaches_the_content_first(demo: str, page: Page) -> None:
    page.goto(f"{demo}/ui/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")


@pytest.mark.integration
def test_alerts_are_filtered_and_sorted(demo: str, page: Page) -> None:
    page.goto(f"{demo}/ui/alerts")
    total = int(re.search(r"of (\d+)", page.locator("caption").inner_text())[1])
    page.get_by_text("Filter", exact=True).click()
    page.get_by_label("Severity").select_option("Critical")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody")).to_contain_text("Anomalous Transaction")
    page.get_by_role("link", name="Clear").click()
    page.get_by_role("link", name="Score").click()
    expect(page.get_by_role("columnheader", name="Score")).to_have_attribute(
        "aria-sort", "descending"
    )
    scores = [float(text) for text in page.locator("td.num").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    page.get_by_role("link", name="Score").click()
    scores = [float(text) for text in page.locator("td.num").all_inner_texts()]
    assert scores == sorted(scores)
    page.get_by_role("link", name="Next").click()
    expect(page.locator("tbody tr")).to_have_count(total - 25)


@pytest.mark.integration
def test_feedback_stays_with_the_alert_and_the_reader_stays_where_they_are(
    demo: str, page: Page
) -> None:
    page.goto(f"{demo}/ui/alerts?sort=severity&order=desc")
    row = page.locator("tbody tr").first
    row.locator("summary").click()
    note = row.get_by_role("textbox", name="Note")
    note.fill("<b>drill</b> of ours")
    note.press("Enter")  # gives no verdict that nobody chose
    row.get_by_role("button", name="False positive").click()
    assert "sort=severity" in page.url
    expect(row).to_contain_text("False positive (local): <b>drill</b> of ours")
    row.get_by_role("button", name="True positive").click()
    expect(row).to_contain_text("True positive (local)")
    expect(row).not_to_contain_text("False positive (local)")
    page.goto(f"{demo}/ui/alerts?judged=yes")
    expect(page.locator("tbody tr")).to_have_count(1)


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
def test_a_transaction_is_told_as_picture_table_and_reasons(demo: str, page: Page) -> None:
    page.goto(f"{demo}/ui/")
    page.get_by_label("Hash of a transaction").fill(theft(demo))
    page.get_by_role("button", name="Look up").click()
    expect(page.get_by_role("region", name="Decision")).to_contain_text("BLOCK")
    picture = page.get_by_role("img", name=re.compile("Flow of tokens between"))
    expect(picture).to_be_visible()
    assert picture.locator("path.arrow").count() > 10
    ElementTree.fromstring(picture.evaluate("s => new XMLSerializer().serializeToString(s)"))
    gains = page.get_by_role("region", name="Gains and losses")
    assert gains.locator("td.gain").count() > 0
    assert gains.locator("td.loss").count() > 0
    why = page.get_by_role("region", name="Explanation of the score")
    assert why.locator("tbody tr").count() == why.locator("rect").count() == 10
    features = page.get_by_role("region", name="Features compared with usual values")
    assert features.locator("tbody tr").count() == 18
    page.get_by_role("region", name="Similar transactions").get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Transaction")


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
        outside = page.locator("td, th").filter(has_text="אבג").first
        assert outside.locator("bdi", has_text="אבג").count() == 1


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
        ("/ui/transactions?tx=hello", 422, "64 hex digits"),
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


@pytest.mark.integration
def test_a_report_needs_nothing_but_itself(
    demo: str, home: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    tx_hash, out = theft(demo), home / "report.html"
    for name in [name for name in os.environ if name.startswith("JSON_RPC")]:
        monkeypatch.delenv(name)
    # Not the database of the service, which has decided about the transaction already.
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{home / 'report.db'}")
    assert report.main([tx_hash, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    with quiet_page(browser) as page:
        page.goto(out.as_uri())
        expect(page.get_by_role("region", name="Decision")).to_contain_text("BLOCK")
        background = page.locator(".card").first.evaluate("e => getComputedStyle(e).borderRadius")
        assert background == "10px"  # the style sheet inside it is in force
        assert page.locator("script, link, img, iframe").count() == 0


@pytest.mark.parametrize("words", [["hello"], ["0x" + "0" * 64, "--node", "ftp://x"]])
def test_a_report_says_what_is_wrong_with_its_options(words: list[str], capsys) -> None:
    try:
        code = report.main(words)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert "hex digits" in (said := capsys.readouterr().err) or "http://" in said


@pytest.mark.integration
def test_a_range_of_a_local_chain_is_analysed_to_its_end(browser: Browser, tmp_path: Path) -> None:
    with anvil(timestamp=GENESIS) as chain:
        play(build(chain, compile_contracts()), SCENARIOS)
        head = int(chain.rpc("eth_blockNumber"), 16)
        with (
            service(
                tmp_path,
                JSON_RPC_URL=chain.url,
                JSON_RPC_REQUESTS_PER_SECOND="2000",
            ) as base,
            quiet_page(browser) as page,
        ):
            page.goto(f"{base}/ui/ranges")
            expect(page.get_by_label("Last block")).to_have_value(str(head))
            page.get_by_label("First block").fill("0")
            page.get_by_role("button", name="Analyse").click()
            page.wait_for_url("**/ui/analyses/*")
            marked = page.get_by_role("group", name="Value against gas cost, anomalies marked")
            anomaly = marked.locator("a:has(circle.k-anomaly)").first
            expect(anomaly).to_be_visible()
            plain = page.get_by_role("group", name="Value against gas cost of each transfer")
            assert plain.locator("circle.k-anomaly").count() == 0
            assert plain.locator("circle").count() == marked.locator("circle").count() > 0
            expect(page.locator("tr.anomaly").first).to_contain_text("anomaly")
            anomaly.focus()
            page.keyboard.press("Enter")
            expect(page.get_by_role("heading", level=1)).to_contain_text("Transaction")
            expect(page.get_by_role("region", name="Decision")).to_contain_text("Anomaly score")
            page.goto(f"{base}/ui/ranges")
            page.get_by_label("Model").select_option("latest")
            page.get_by_role("button", name="Analyse").click()
            page.wait_for_url("**/ui/analyses/*")
            page.goto(f"{base}/ui/models")
            expect(page.get_by_role("region", name="Registry")).to_contain_text("gas cost")
