"""The results of a range: paged, sorted, exported, with a reason for each anomaly."""

import csv
import io
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from starlette.testclient import TestClient

from src.service.app import create_app
from src.service.database.analyses import Analysis, AnalysisRow, PlacedRow, store_analysis
from src.service.database.engine import Database
from src.service.database.registry import register_model
from src.service.web.ranges import PAGE, reason_of
from tests.conftest import USDC
from tests.service.chain import BASE_URL, THEFT, common_settings, service_settings, sqlite_url
from tests.service.web.browsing import drag, middle_of
from tests.support.waiting import wait_until

HOSTILE = "=<img src=x onerror=document.title='owned'>"
MANY = PAGE + 7
OTHER = "0x" + "f1" * 20


def row(rank: int, **changes: object) -> AnalysisRow:
    usual = {
        "rank": rank, "token": USDC, "tx_hash": f"0x{rank:064x}", "label": "USDC",
        "value": float(1000 - rank), "gas_cost": (rank + 1) / 1000, "score": 0.9 - rank / 1000,
        "tx_score": 0.9 - rank / 1000, "is_anomaly": rank == 0,
    }  # fmt: skip
    return AnalysisRow(**(usual | changes))


def fill(database: Database) -> None:
    """Transactions of which the most anomalous has the lowest gas cost, and a second token."""
    with database.writing() as connection:
        model = register_model(
            connection, sha256="0" * 64, inputs=["value", "gas_cost"], offset=-0.5, training={},
            content=b"", now=1.0,
        )  # fmt: skip
    rows = [row(rank) for rank in range(MANY)]
    rows.append(row(0, token=OTHER, label=HOSTILE, value=0.5, score=0.2, is_anomaly=False))
    for name, chain_id in (("made", 1), ("elsewhere", 56), ("nowhere", 987_654)):
        block = "0x" + "1" * 64
        analysis = Analysis(name, chain_id, 10, 20, block, model, MANY, 1, time.time())
        store_analysis(database, analysis, rows)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder: Path = tmp_path_factory.mktemp("analyses")
    database = Database(sqlite_url(folder))
    database.migrate()
    fill(database)
    database.close()
    app = create_app(service_settings(sqlite_url(folder)), common_settings())
    with TestClient(app, base_url=BASE_URL) as opened:
        wait_until(lambda: opened.get("/alerts", params={"action": "BLOCK"}).json())
        yield opened


def ranks(client: TestClient, **query: object) -> list[int]:
    answer = client.get("/ui/analyses/made", params=query)
    assert answer.status_code == 200, answer.text
    return [int(rank) for rank in re.findall(r'data-label="Rank">(\d+)</td>', answer.text)]


@pytest.mark.integration
def test_an_analysis_is_paged_and_sorted(client: TestClient) -> None:
    everything = list(range(1, MANY + 1))
    assert ranks(client) == everything[:PAGE]
    assert ranks(client, page=2) == everything[PAGE:]
    assert ranks(client, order="asc") == everything[::-1][:PAGE]
    assert ranks(client, sort="gas") == everything[::-1][:PAGE]
    assert ranks(client, sort="gas", order="asc", page=2) == everything[PAGE:]
    assert ranks(client, only="anomalies") == [1]


@pytest.mark.integration
def test_a_part_of_an_analysis_is_drawn_listed_counted_and_saved(client: TestClient) -> None:
    assert ranks(client, value_from=990, gas_to=0.01) == list(range(1, 11))
    assert ranks(client, value_to=0.5) == [1]  # by its other token
    assert ranks(client, value_from=990, only="anomalies", gas_from=0.002) == []
    query = {"value_from": "990", "gas_from": "0.0025", "order": "asc"}
    page = client.get("/ui/analyses/made", params=query).text
    assert page.count("<circle") == 2 * 9
    assert "All 9</a>" in page
    assert "Anomalies 0</a>" in page
    (saved,) = re.findall(r'href="(/ui/analyses/made\.json[^"]*)"', page)
    rows = client.get(saved.replace("&amp;", "&")).json()
    assert [one["rank"] for one in rows] == list(range(11, 2, -1))
    assert client.get("/ui/analyses/made?value_from=-1").status_code == 400


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("made", f"/ui/transactions/{row(3).tx_hash}"),
        ("elsewhere", f"https://bscscan.com/tx/{row(3).tx_hash}"),
        ("nowhere", None),
    ],
)
def test_a_dot_leads_to_its_transaction_on_its_chain(
    client: TestClient, name: str, link: str | None
) -> None:
    page = client.get(f"/ui/analyses/{name}").text
    links = re.findall(rf'href="([^"]*{row(3).tx_hash})"', page)
    assert links == ([] if link is None else [link] * 3)  # two plots and the table
    assert ("BNB Smart Chain" in page) == (name == "elsewhere")  # whose blocks they are


@pytest.mark.integration
def test_a_reader_drags_over_a_plot_to_zoom_in(demo: str, page: Page) -> None:
    page.goto(f"{demo}/ui/ranges")
    page.get_by_role("button", name="Analyse").click()
    page.wait_for_url("**/ui/analyses/*")
    plot = page.get_by_role("group", name="Value against gas cost, anomalies marked").locator("svg")
    before = plot.locator("circle").count()
    anomaly = middle_of(plot.locator("circle.k-anomaly").first)
    drag(page, (anomaly[0] - 12, anomaly[1] - 12), (anomaly[0] + 12, anomaly[1] + 12))
    page.wait_for_url("**value_from=*")
    assert 0 < plot.locator("circle").count() < before
    expect(plot.locator("circle.k-anomaly").first).to_be_visible()
    expect(page.locator("tr.anomaly").first).to_be_visible()
    page.get_by_role("link", name="Show all").click()
    expect(plot.locator("circle")).to_have_count(before)
    page.get_by_text("Zoom", exact=True).click()
    page.get_by_label("Value to").fill("0.5")
    page.get_by_role("button", name="Show", exact=True).click()
    page.wait_for_url("**value_to=0.5*")
    assert plot.locator("circle").count() < before


@pytest.mark.integration
def test_each_anomaly_has_a_reason_beside_it(client: TestClient) -> None:
    page = client.get("/ui/analyses/made", params={"only": "anomalies"}).text
    assert "USDC: amount the highest in the range, gas cost the lowest in the range" in page
    assert "<img" not in page


@pytest.mark.parametrize(
    ("value_place", "gas_place", "reason"),
    [
        (1.0, 0.5, "amount the highest in the range, gas cost higher than 50 % in the range"),
        (0.99999, 0.0, "amount higher than 99.9 % in the range, gas cost the lowest in the range"),
        (
            0.25,
            0.0004,
            "amount lower than 75 % in the range, gas cost lower than 99.9 % in the range",
        ),
    ],
)
def test_a_reason_never_rounds_to_everything(
    value_place: float, gas_place: float, reason: str
) -> None:
    assert reason_of(PlacedRow(row(0), value_place, gas_place)) == reason


@pytest.mark.integration
def test_an_export_has_all_rows_with_reasons_and_no_formula(client: TestClient) -> None:
    answer = client.get("/ui/analyses/made.csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == MANY + 1
    assert "'" + HOSTILE in {one["label"] for one in rows}
    assert all(one["reason"].startswith("amount ") for one in rows)
    flagged = client.get("/ui/analyses/made.json", params={"only": "anomalies"}).json()
    assert [one["rank"] for one in flagged] == [1, 1]
    assert client.get("/ui/analyses/none.csv").status_code == 404
    assert client.get("/ui/analyses/made?sort=colour").status_code == 400


@pytest.mark.integration
def test_a_form_that_is_refused_stays_as_it_was_filled(demo: str, browser: Browser) -> None:
    page = browser.new_page()  # the browser's console reports a 400
    page.goto(f"{demo}/ui/ranges")
    page.get_by_label("First block").fill("385")
    page.get_by_label("Last block").fill("300")
    with page.expect_response("**/ui/ranges") as sent:
        page.get_by_role("button", name="Analyse").click()
    assert sent.value.status == 400
    expect(page.get_by_role("alert")).to_contain_text("start_block")
    expect(page.get_by_label("First block")).to_have_value("385")
    expect(page.get_by_label("Last block")).to_have_value("300")
    page.get_by_label("First block").fill("286")
    page.get_by_label("Last block").fill("385")
    page.get_by_role("button", name="Analyse").click()
    page.wait_for_url("**/ui/analyses/*")
    theft = page.locator("tr.anomaly").filter(has=page.locator(f"a[href$='{THEFT}']"))
    expect(theft).to_contain_text("BLOCK")
    expect(theft).to_contain_text("gained")
    expect(theft).to_contain_text("USDC: amount the highest in the range")
    expect(theft).to_contain_text("gas cost the highest in the range")
    page.get_by_role("link", name="Anomalies 1").click()
    expect(page.locator("tbody tr")).to_have_count(1)  # the theft, not the counterfeit
    page.close()
