"""The overview: what waits for a person, the state of what results depend on."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from starlette.testclient import TestClient

from src.chain.recording.format import Recording
from src.chain.replay.chain import RecordedChain
from src.chain.replay.methods import ReplayMethods
from src.detection.records import Action
from src.service.app import create_app
from src.service.database.engine import Database
from src.service.database.scheduled_tasks import claim_task, finish_task
from src.service.database.statistics import Overview
from src.service.embedded import DEMO_BLOCKS, STORY_BEGINS
from src.service.node import NodeHealth, NodeReader
from src.service.web.overview import rate
from tests.service.chain import BASE_URL, HEAD, THEFT, common_settings, service_settings, sqlite_url
from tests.service.web.browsing import drag, middle_of, quiet_page
from tests.support.raw_server import hang, raw_server
from tests.support.waiting import FOR_EVER, wait_until

QUIET_BLOCKS = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("overview")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    app = create_app(service_settings(sqlite_url(folder)), common_settings())
    with TestClient(app, base_url=BASE_URL) as opened:
        wait_until(lambda: opened.get("/alerts", params={"action": "BLOCK"}).json())
        yield opened


def part_of(client: TestClient, name: str) -> str:
    page = client.get("/ui/", params={"span": "all"}).text
    (found,) = re.findall(rf'aria-labelledby="{name}">(.*?)</section>', page, re.DOTALL)
    return str(found)


def health_of(client: TestClient) -> dict[str, str]:
    rows = re.findall(r"<dt>(\w+)</dt><dd>(.*?)</dd>", part_of(client, "health"), re.DOTALL)
    return {name: re.sub(r"<[^>]+>", "", words) for name, words in rows}


@pytest.mark.integration
def test_the_theft_waits_on_top_until_somebody_takes_it(client: TestClient) -> None:
    waiting = part_of(client, "waiting")
    assert re.findall(r"/ui/transactions/(0x[0-9a-f]{64})", waiting)[0] == THEFT
    assert 'href="/ui/alerts?action=BLOCK&amp;state=new">1<' in part_of(client, "by-action")
    (theft,) = client.get("/alerts", params={"action": "BLOCK"}).json()
    client.post("/alerts/triage", json={"alerts": [theft["id"]], "state": "in_work"})
    assert THEFT not in part_of(client, "waiting")
    assert 'href="/ui/alerts?action=BLOCK&amp;state=in_work">1<' in part_of(client, "by-action")


@pytest.mark.integration
@pytest.mark.parametrize("has_scripts", [True, False])
def test_a_reader_zooms_into_the_time_of_alerts(
    demo: str, browser: Browser, *, has_scripts: bool
) -> None:
    with quiet_page(browser, java_script_enabled=has_scripts) as page:
        page.goto(f"{demo}/ui/?span=all")
        region = page.get_by_role("region", name="Alerts over time")
        bars = region.locator("svg a[href] rect")
        first, last = span(page)
        if has_scripts:
            x, y = middle_of(bars.last)
            drag(page, (x - 20, y), (x + 20, y))
        else:
            region.get_by_text("Another time").click()
            region.get_by_label("From (UTC)").fill(last.replace("Z", ""))
            region.get_by_role("button", name="Show").click()
        page.wait_for_url("**since=*")
        since, until = span(page)
        assert first < since <= until
        page.mouse.click(*middle_of(bars.last))  # a click on a link is no drag
        page.wait_for_url("**/ui/alerts?since=*")
        expect(page.locator("li.case")).not_to_have_count(0)
        page.go_back()
        region.get_by_text("As a table").click()
        region.get_by_role("table").get_by_role("link").last.focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**/ui/alerts?since=*")


def span(page: Page) -> list[str]:
    """The first and the last time that an overview is of."""
    return [page.locator("p.soft time").nth(at).get_attribute("datetime") or "" for at in (0, 1)]


@pytest.mark.integration
@pytest.mark.parametrize("query", ["since=soon", "since=2024-01-02T00:00&until=2024-01-01T00:00"])
def test_a_time_that_cannot_be_meant_is_refused(client: TestClient, query: str) -> None:
    assert client.get(f"/ui/?{query}").status_code == 400


@pytest.mark.integration
def test_a_bar_leads_to_shorter_times_and_then_to_its_alerts(client: TestClient) -> None:
    link, steps = "/ui/?since=2024-01-01T00:00&until=2024-12-31T00:00", 0
    while link.startswith("/ui/?"):
        (chart,) = re.findall(r'<svg class="chart".*?</svg>', client.get(link).text, re.DOTALL)[:1]
        link = re.findall(r'href="([^"]+)"', chart)[-1].replace("&amp;", "&")
        steps += 1
    assert 2 < steps < 6
    assert THEFT in client.get(link).text
    assert client.get("/ui/?until=2001-01-01T00:00&since=2000-01-01T00:00").status_code == 200
    assert "No alerts in this period" in client.get("/ui/?since=1970-01-01&until=1970-01-01").text


@pytest.mark.integration
def test_the_demo_s_alerts_are_of_its_story(client: TestClient) -> None:
    found = client.get("/alerts", params={"limit": 100}).json()
    assert found
    assert all(STORY_BEGINS <= alert["block_number"] <= HEAD for alert in found)


def test_the_demo_s_story_begins_after_its_quiet_months() -> None:
    chain = RecordedChain(Recording(DEMO_BLOCKS))
    methods = ReplayMethods(chain).methods
    sizes = [
        len(methods["eth_getBlockByNumber"](hex(number), False)["transactions"])
        for number in range(STORY_BEGINS - QUIET_BLOCKS, STORY_BEGINS + 1)
    ]
    assert sizes[:-1] == [0] * QUIET_BLOCKS
    assert sizes[-1] > 0


@pytest.mark.integration
def test_health_says_what_the_node_and_the_drift_check_said(
    client: TestClient, folder: Path
) -> None:
    health = health_of(client)
    assert f"newest block {HEAD}" in health["Node"]
    assert "not checked yet" in health["Drift"]
    assert "UTC" in health["Decisions"]
    version = client.get("/models").json()["detection"]["version"]
    database = Database(sqlite_url(folder))
    outcome = {"model_version": version, "verdict": "watch", "reasons": ["<b>density</b> moved"]}
    with database.writing() as connection:
        claim_task(connection, "drift-1", time.time(), 60.0)
        finish_task(connection, "drift-1", 1_700_000_000.0, outcome)
    drift = health_of(client)["Drift"]
    assert "trouble" in drift
    assert "&lt;b&gt;density&lt;/b&gt; moved" in drift
    assert "2023-11-14" in drift
    with database.writing() as connection:
        finish_task(connection, "drift-1", 1.0, outcome | {"model_version": "other"})
    database.close()
    assert "since the model changed" in health_of(client)["Drift"]


def reader(url: str) -> NodeReader:
    return NodeReader(url, requests_per_second=1_000, verify=False, patience=0.0)


@pytest.mark.integration
def test_a_node_that_never_answers_holds_no_page_up() -> None:
    with raw_server(hang) as url:
        node = reader(url)
        health = NodeHealth(node, 1)
        assert health.state() is None
        health.close()
        node.close()


def test_a_dead_node_is_asked_again_once_its_answer_is_old() -> None:
    now = [100.0]
    node = reader("http://127.0.0.1:1")
    health = NodeHealth(node, 1, clock=lambda: now[0])
    first = health.state()
    assert first is not None
    assert (first.head, first.asked_at) == (None, 100.0)
    assert first.problem
    now[0] += 5
    assert health.state() == first
    now[0] += FOR_EVER
    wait_until(lambda: (health.state() or first).asked_at > 100.0)
    now[0] = 1.0  # the clock is set back
    wait_until(lambda: (health.state() or first).asked_at == 1.0)
    health.close()
    node.close()


def test_a_rate_has_an_interval_and_none_without_scores() -> None:
    counts = {"alerts_over_time": [], "score_histogram": [], "top_tokens": [], "top_senders": []}
    actions = {int(Action.ALLOW): 90}
    some = rate(Overview(100, 1, 0, actions=actions, **counts), 0.004)
    assert some.value == 0.01
    assert some.low < 0.004 < some.high
    assert some.is_usual
    none = rate(Overview(3, 0, 3, actions=actions, **counts), 0.004)
    assert none.value is None
