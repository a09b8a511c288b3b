"""The page of alerts: by transaction, filtered, exported, triaged, and up to date."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from starlette.testclient import TestClient

from src.service.app import create_app
from src.service.database.engine import Database
from src.service.web.alerts import PAGE
from tests.conftest import ALICE
from tests.service.chain import BASE_URL, common_settings, service_settings, sqlite_url
from tests.service.database.rows import store as store_on_mainnet
from tests.service.database.rows import store_alert, transaction
from tests.service.web.browsing import quiet_page, theft

OTHER_CHAIN = 56
HOSTILE = "<img src=x onerror=document.title='owned'>"
MANY = PAGE + 5


def tx_hash(number: int) -> str:
    return f"0x{number:064x}"


def fill(database: Database) -> None:
    """Cases of another chain, apart from the demo's: the first has three alerts."""
    from src.service.database import chain

    loaded = [transaction(tx_hash=tx_hash(number)) for number in range(MANY)]
    with database.writing() as connection:
        chain.store_transactions(connection, OTHER_CHAIN, loaded, now=1.0)
    for number in range(MANY):
        store_alert(
            database, chain_id=OTHER_CHAIN, tx_hash=tx_hash(number), alert_id="A-MEDIUM",
            severity="Medium", action=1, gained_usd=float(number), block_timestamp=number,
            description="=1+1", reason=HOSTILE, name=f"Case {number}",
        )  # fmt: skip
    for alert_id, severity in (("C-CRITICAL", "Critical"), ("B-LOW", "Low")):
        store_alert(
            database, chain_id=OTHER_CHAIN, tx_hash=tx_hash(0), alert_id=alert_id,
            severity=severity, block_timestamp=0,
        )  # fmt: skip


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    url = sqlite_url(tmp_path_factory.mktemp("alerts"))
    database = Database(url)
    database.migrate()
    fill(database)
    database.close()
    app = create_app(service_settings(url), common_settings())
    with TestClient(app, base_url=BASE_URL) as opened:
        yield opened


def page_of(client: TestClient, **query: object) -> str:
    answer = client.get("/ui/alerts", params={"chain": OTHER_CHAIN, **query})
    assert answer.status_code == 200, answer.text
    return answer.text


def rows_of(client: TestClient, **query: object) -> list[dict[str, str]]:
    answer = client.get("/ui/alerts.csv", params={"chain": OTHER_CHAIN, **query})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="alerts.csv"'
    return list(csv.DictReader(io.StringIO(answer.text)))


def mark(client: TestClient, chosen: list[str], done: str, note: str = "") -> int:
    (token, *_) = re.findall(r'name="csrf" value="([^"]+)"', page_of(client))
    given = {"alert": chosen, "mark": done, "note": note, "csrf": token, "back": "/ui/alerts"}
    return client.post("/ui/triage", data=given, follow_redirects=False).status_code


@pytest.mark.integration
def test_a_transaction_is_one_entry_under_its_most_severe_alert(client: TestClient) -> None:
    page = page_of(client, sort="severity")
    assert f"1 to {PAGE} of {MANY} transactions" in page
    first = page[page.index('<li class="case"') :].split('<li class="case"')[1]
    severities = re.findall(r'class="tag (critical|medium|low)"', first)
    assert severities == ["critical", "medium", "low"]
    assert "BNB Smart Chain" in first
    assert f'href="https://bscscan.com/tx/{tx_hash(0)}"' in first


@pytest.mark.integration
def test_pages_follow_each_other_and_keep_the_filter(client: TestClient) -> None:
    (later,) = re.findall(r'href="([^"]+)" rel="next"', page_of(client, sort="gained"))
    second = client.get(later.replace("&amp;", "&")).text
    assert second.count('<li class="case"') == MANY - PAGE
    assert f"chain={OTHER_CHAIN}" in second
    assert "Case 5<" in second
    assert "Case 6<" not in second


@pytest.mark.integration
def test_the_form_shows_the_filter_that_is_on(client: TestClient) -> None:
    page = page_of(
        client, since="1970-01-01T02:00+02:00", until="2024-05-30", alert_id="GONE", chain=77
    )
    assert 'name="since" value="1970-01-01T00:00:00"' in page
    assert 'name="until" value="2024-05-30T00:00:00"' in page
    assert "<option selected>GONE</option>" in page
    assert '<option value="77" selected>' in page


@pytest.mark.integration
def test_a_page_beyond_the_last_one_is_the_last_one(client: TestClient) -> None:
    # Whoever triages all of the last page comes back to a page that is no more.
    for number in (3, 9_999_999_999_999_999):
        page = page_of(client, page=number)
        assert f"{PAGE + 1} to {MANY} of {MANY} transactions" in page
        assert "Page 2 of 2" in page


@pytest.mark.integration
def test_an_export_has_every_page_and_no_formula(client: TestClient) -> None:
    rows = rows_of(client, sort="time", order="asc")
    assert [row["transaction_hash"] for row in rows] == [tx_hash(n) for n in range(MANY)]
    assert rows[0]["severity"] == "Critical"
    assert rows[0]["alerts"] == "C-CRITICAL A-MEDIUM B-LOW"
    assert {row["chain"] for row in rows} == {"bsc"}
    assert rows[1]["summary"] == "'=1+1"
    assert rows[1]["reasons"] == f"Case 1: {HOSTILE}"
    answer = client.get("/ui/alerts.json", params={"chain": OTHER_CHAIN, "severity": "Critical"})
    (case,) = json.loads(answer.text)
    assert [one["severity"] for one in case["alerts"]] == ["Critical", "Medium", "Low"]
    assert case["from_address"] == ALICE


@pytest.mark.integration
@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/ui/alerts?state=lost", 400, "state must be one of new, in_work, done"),
        ("/ui/alerts?chain=mainnet", 400, "chain must be a whole number"),
        ("/ui/alerts.csv?sort=colour", 400, "sort must be one of"),
        ("/ui/alerts.csv?order=up", 400, "order must be one of asc, desc"),
        ("/ui/alerts.xml", 422, "kind"),
        ("/ui/alerts?severty=High", 422, "Unknown query parameters: severty; known are account,"),
        ("/ui/alerts.csv?severty=High", 422, "Unknown query parameters: severty"),
        ("/ui/alerts.json?severity=High&severity=Low", 422, "repeated: severity"),
        ("/ui/alerts.csv?page=2", 422, "Unknown query parameters: page"),
        ("/ui/?spam=all", 422, "Unknown query parameters: spam; known are since, span, until"),
        ("/ui/?span=year", 400, "span must be one of day, week, month, all"),
        ("/ui/screenings?state=mined", 422, "Unknown query parameters: state"),
        (f"/ui/tokens/{ALICE}?chain_id=56", 422, "Unknown query parameters: chain_id"),
        (f"/ui/addresses/{ALICE}?pag=2", 422, "Unknown query parameters: pag"),
        ("/ui/search?query=usdc", 422, "Unknown query parameters: query"),
        ("/ui/ranges?start=1", 422, "Unknown query parameters: start"),
        ("/ui/analyses/a.csv?only_anomalies=1", 422, "Unknown query parameters: only_anomalies"),
        ("/ui/analyses/a?sorted=gas", 422, "Unknown query parameters: sorted"),
        (f"/ui/transactions/{tx_hash(0)}?chain=56", 422, "none is known here"),
    ],
)
def test_what_a_filter_cannot_mean_is_named(
    client: TestClient, path: str, status: int, words: str
) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert words in answer.text


@pytest.mark.integration
def test_triage_sets_many_at_once_and_the_api_agrees(client: TestClient) -> None:
    query = {"chain_id": OTHER_CHAIN, "limit": 2}
    first, second = client.get("/alerts", params=query).json()
    assert first["chain_id"] == OTHER_CHAIN
    assert mark(client, [str(first["id"]), str(second["id"])], "false", "a drill") == 303
    page = page_of(client, state="done")
    assert page.count('<li class="case"') == 2
    assert page.count("False alarm") >= 2
    assert "a drill" in page
    done = client.get("/alerts", params={"chain_id": OTHER_CHAIN, "state": "done"}).json()
    assert {one["transaction_hash"] for one in done} == {
        first["transaction_hash"],
        second["transaction_hash"],
    }
    assert not done[0]["feedback"][0]["is_true_positive"]
    body = {"alerts": [first["id"], second["id"]], "state": "new"}
    assert client.post("/alerts/triage", json=body).json() == {"transactions": 2}
    assert "No alerts match" in page_of(client, state="done")


@pytest.mark.integration
def test_what_triage_cannot_mean_is_refused(client: TestClient) -> None:
    assert mark(client, [], "done") == 400
    assert mark(client, ["1"], "explode") == 400
    assert mark(client, ["one"], "done") == 400
    assert mark(client, ["999999999"], "done") == 404
    assert client.post("/ui/triage", data={"alert": "1", "mark": "done"}).status_code == 403
    body = {"alerts": [999_999_999], "state": "done"}
    assert client.post("/alerts/triage", json=body).status_code == 404


@pytest.mark.integration
def test_feedback_on_one_alert_ends_the_work_on_its_transaction(client: TestClient) -> None:
    number = client.get("/alerts", params={"chain_id": OTHER_CHAIN, "limit": 1}).json()[0]["id"]
    client.post(f"/alerts/{number}/feedback", json={"is_true_positive": True}).raise_for_status()
    assert "True alarm" in page_of(client, state="done")
    assert mark(client, [str(number)], "new") == 303


@pytest.mark.integration
def test_a_page_that_has_not_changed_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/ui/alerts", params={"chain": OTHER_CHAIN})
    again = {"If-None-Match": first.headers["etag"]}
    assert client.get(str(first.url), headers=again).status_code == 304
    mark(client, ["1"], "in_work")
    assert client.get(str(first.url), headers=again).status_code == 200
    mark(client, ["1"], "new")


@pytest.mark.integration
def test_a_reader_sorts_ticks_and_triages_without_losing_their_place(demo: str, page: Page) -> None:
    page.goto(f"{demo}/ui/alerts?sort=severity&order=desc")
    case = page.locator(".case").first
    expect(case.get_by_role("link").first).to_have_attribute(
        "href", f"/ui/transactions/{theft(demo)}"
    )
    case.get_by_role("checkbox").check()
    note = page.get_by_role("textbox", name="Note")
    note.fill("<b>drill</b> of ours")
    note.press("Enter")  # does nothing that nobody chose
    page.get_by_role("button", name="True alarm").click()
    expect(case).to_contain_text("Done")
    assert "sort=severity" in page.url
    expect(case).to_contain_text("True alarm (local)")
    expect(case).to_contain_text("<b>drill</b> of ours")
    page.get_by_role("link", name="Done 1").click()
    expect(page.locator(".case")).to_have_count(1)
    page.locator(".case").get_by_role("checkbox").check()
    page.get_by_role("button", name="New again").click()
    expect(page.locator(".case")).to_have_count(0)


@pytest.mark.integration
def test_what_others_do_appears_without_reloading(demo: str, home: Path, page: Page) -> None:
    page.goto(f"{demo}/ui/alerts?sort=time&order=asc")
    page.evaluate("window.mark = 'not reloaded'")
    database = Database(f"sqlite:///{home / 'service.db'}")
    store_on_mainnet(database, transaction(tx_hash=tx_hash(7)))
    values = {"tx_hash": tx_hash(7), "alert_id": "LATE", "block_timestamp": 5}
    number = store_alert(database, **values, reason=HOSTILE)
    late = page.locator(f"#alert-{number}")
    expect(late).to_contain_text(HOSTILE)
    expect(page.locator("#live")).to_contain_text("Updated at")
    late.get_by_role("checkbox").check()  # the reader's hand is on it: it is not replaced
    with database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM alerts WHERE id = ?", (number,))
    page.get_by_role("button", name="Show the changes").click()
    expect(late).to_have_count(0)
    assert page.evaluate("window.mark") == "not reloaded"
    with database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM transactions WHERE tx_hash = ?", (tx_hash(7),))
    database.close()


@pytest.mark.integration
def test_the_list_is_complete_without_scripts(demo: str, browser: Browser) -> None:
    with quiet_page(browser, java_script_enabled=False) as page:
        page.goto(f"{demo}/ui/alerts")
        case = page.locator(".case").filter(has_text="Critical").first
        case.get_by_role("checkbox").check()
        page.get_by_role("button", name="In work").click()
        expect(case).to_contain_text("In work")
        with page.expect_download() as saved:
            page.get_by_role("link", name="CSV").click()
        assert "transaction_hash" in saved.value.path().read_text()
        case.get_by_role("checkbox").check()
        page.get_by_role("button", name="New again").click()
