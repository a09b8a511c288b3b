"""The page of one transaction: the answer first, and a reason beside what contradicts it."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Browser, Page, expect

from src.chain.names.book import open_address_book
from src.chain.networks import network
from src.detection.records import Status
from src.service.database import chain
from src.service.database.alerts import Alert
from src.service.database.engine import Database
from src.service.web.rendering import environment
from src.service.web.transaction.detectors import contradiction, detector_results
from src.service.web.transaction.facts import read_facts
from tests.conftest import TX_HASH
from tests.service.database.rows import OTHER_HASH, decision, store_alert, transaction
from tests.service.web.browsing import json_at, quiet_page, theft

SUMMARY = "its own contract) gained 3,279 WETH, 4.32 M USDC, 998 k DAI and 1 more token"
HASH = "0x" + "ab" * 32
PAYMENT = "0x3143a05aa8b405b2a31aab3f759fe9d5973cb954b34eb6bc2d820477d66657ab"


@pytest.mark.integration
def test_a_transaction_is_told_as_sentence_balances_picture_and_reasons(
    demo: str, page: Page
) -> None:
    page.goto(f"{demo}/ui/transactions/{theft(demo)}")
    lead = page.locator("p.lead")
    expect(lead).to_contain_text(SUMMARY)
    expect(lead).to_contain_text("Lending Pool (0xa51c1f…91c0) lost")
    expect(page.locator("p.lead-action")).to_contain_text("BLOCK")
    expect(page.locator("p.lead-action")).to_contain_text("Stop it")
    alerts = page.get_by_role("list", name="Alerts")
    expect(alerts).to_contain_text("repays token WETH (0xc02aaa…6cc2) to Flash Lender")
    balances = page.get_by_role("region", name="Balance changes")
    assert lead.bounding_box()["y"] < balances.bounding_box()["y"] < 700  # on the first screen
    rows = balances.locator("tbody tr")
    pool = rows.first.get_by_role("link", name="Lending Pool")
    assert "/ui/addresses/0xa51c1fc2" in pool.get_attribute("href")
    expect(rows.filter(has_text="sender").first).to_contain_text("gas")
    expect(rows.last).to_contain_text("minted and burned")
    expect(page.get_by_role("region", name="Decision")).to_contain_text("BLOCK")
    picture = page.get_by_role("group", name=re.compile("Flow of tokens between"))
    expect(picture).to_be_visible()
    assert picture.locator("path.arrow").count() > 10
    ElementTree.fromstring(picture.evaluate("s => new XMLSerializer().serializeToString(s)"))
    why = page.get_by_role("region", name="Explanation of the score")
    assert why.locator("rect").count() == 10
    tables = [table.locator("tbody tr").count() for table in why.locator("table").all()]
    assert tables == [10, 10]  # of the anomaly score, of the attack score
    features = page.get_by_role("region", name="Features compared with usual values")
    assert features.locator("tbody tr").count() == 18
    page.get_by_role("region", name="Similar transactions").get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Transaction")


@pytest.mark.integration
def test_facts_say_what_is_known_of_method_sender_and_contract(demo: str, page: Page) -> None:
    page.goto(f"{demo}/ui/transactions/{theft(demo)}")
    facts = page.get_by_role("region", name="Facts")
    for words in (
        "0xaef55c23 (no name known)", "succeeded", "age less than a minute (node)",
        "earlier transactions 1", "seen here once",
        "created by the sender with its transaction 1", "called here once",
    ):  # fmt: skip
        expect(facts).to_contain_text(words)
    reasons = page.get_by_role("link", name="Reasons as JSON").get_attribute("href")
    assert json_at(f"{demo}{reasons}")["action"] == "BLOCK"


@pytest.mark.integration
def test_a_payment_names_its_method_and_what_moved(demo: str, page: Page) -> None:
    page.goto(f"{demo}/ui/")
    found = json_at(f"{demo}/transactions/{PAYMENT}/decision")
    assert re.fullmatch(r"0x709979…79c8 sent 250 USDC to 0x3c44cd…93bc\.", found["summary"])
    page.goto(f"{demo}/ui/transactions/{PAYMENT}")
    facts = page.get_by_role("region", name="Facts")
    expect(facts.get_by_title("transfer(address,uint256)")).to_have_text("transfer")
    expect(page.locator("p.lead-action")).to_contain_text("ALLOW Nothing to do.")


@pytest.mark.integration
def test_detectors_that_did_not_run_are_not_shown_as_allowing(demo: str, page: Page) -> None:
    page.goto(f"{demo}/ui/transactions/{theft(demo)}")
    undecided = page.get_by_role("table", name="Detectors that did not decide, and why")
    expect(undecided).to_contain_text("did not run")
    assert undecided.get_by_text("ALLOW").count() == 0
    expect(page.get_by_role("region", name="Decision")).to_contain_text("Ran and found nothing:")


@pytest.mark.integration
def test_addresses_and_hash_are_copied(demo: str, browser: Browser) -> None:
    tx_hash = theft(demo)
    with quiet_page(browser, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.goto(f"{demo}/ui/transactions/{tx_hash}")
        page.get_by_role("button", name="Copy the hash").click()
        expect(page.get_by_text("Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == tx_hash
    with quiet_page(browser, java_script_enabled=False) as page:
        page.goto(f"{demo}/ui/transactions/{tx_hash}")
        assert page.get_by_role("button", name=re.compile("Copy")).count() == 0
        expect(page.locator("p.lead")).to_contain_text("gained")


@pytest.mark.integration
def test_a_click_selects_the_whole_hash(demo: str, page: Page) -> None:
    tx_hash = theft(demo)
    page.goto(f"{demo}/ui/transactions/{tx_hash}")
    page.get_by_text(tx_hash, exact=True).click()
    assert page.evaluate("getSelection().toString()") == tx_hash


@pytest.mark.integration
@pytest.mark.parametrize("scripts", [True, False])
def test_a_printed_page_shows_what_was_folded(demo: str, browser: Browser, scripts: bool) -> None:
    with quiet_page(browser, java_script_enabled=scripts) as page:
        page.goto(f"{demo}/ui/transactions/{theft(demo)}")
        cell = page.get_by_role("region", name="Token flow").locator("details td").first
        expect(cell).to_be_hidden()
        page.emulate_media(media="print")
        expect(cell).to_be_visible()
        expect(page.locator("header.top")).to_be_hidden()


# What contradicts


def alert(**changes: Any) -> Alert:
    usual = Alert(
        id=1, chain_id=1, tx_hash=HASH, alert_id="ANOMALOUS", name="Anomalous Transaction",
        description="", reason="", severity="Critical", action=0, score=0.9, attack_score=None,
        gained_usd=None, lost_usd=None, model_version="1650000000", from_address=None,
        block_number=1, block_timestamp=1, orphaned=False, created_at=1.0, feedback=[],
    )  # fmt: skip
    return replace(usual, **changes)


def verdict(detector: str = "isolation_forest", **changes: str) -> dict[str, str]:
    usual = {"action": "ALLOW", "reason": "payroll: pays salaries", "status": Status.OUT_OF_SCOPE}
    return {"detector": detector} | usual | changes


@pytest.mark.parametrize(
    ("reasons", "shadow", "words"),
    [
        ([verdict()], [], "its detector is out of scope (payroll: pays salaries)."),
        ([], [verdict(status="decided")], "its detector is in shadow"),
        ([], [], "the score makes the alert, and the policy asks for no action"),
    ],
)
def test_a_severe_alert_and_allow_have_a_reason_between_them(reasons, shadow, words) -> None:
    allowed = decision(action=0, reasons=reasons, shadow=shadow)
    said = contradiction(allowed, [alert()])
    assert said is not None
    assert said.startswith("The alert Anomalous Transaction is Critical, and the decision is ALLOW")
    assert words in said
    for changes in ({"severity": "Info"}, {"orphaned": True}):
        assert contradiction(allowed, [alert(**changes)]) is None
    assert contradiction(decision(action=2), [alert(action=2)]) is None


def test_an_alert_of_an_earlier_decision_is_told_as_such() -> None:
    allowed = decision(action=0, reasons=[])
    for older in (alert(model_version="1"), alert(action=2)):
        assert "an earlier decision raised it" in (contradiction(allowed, [older]) or "")


def test_what_did_not_decide_asks_for_nothing(start_bot: Callable[..., None]) -> None:
    from src import agent

    start_bot()
    pipeline = agent.BOT.pipeline
    reasons = [
        verdict("supervised", status="decided", action="REVIEW", reason="r"),
        verdict("arbitrage", status=Status.MISSING_INPUTS),
        verdict("balanced", status=Status.FAILED),
        verdict(),
    ]
    found = detector_results(decision(reasons=reasons, decider=pipeline.fingerprint), pipeline)
    assert [(one.detector, one.action) for one in found.decided] == [("supervised", "REVIEW")]
    assert [(one.state, one.action) for one in found.undecided] == [
        ("did not run", None), ("failed", None), ("out of scope", None),
    ]  # fmt: skip
    assert "drained_account" in found.silent
    assert not {one["detector"] for one in reasons} & set(found.silent)
    assert detector_results(decision(reasons=reasons), pipeline).silent is None


def test_each_explorer_is_linked_where_it_shows_the_chain() -> None:
    assert network(1).transaction_links(HASH) == {
        "etherscan.io": f"https://etherscan.io/tx/{HASH}",
        "Phalcon": f"https://app.blocksec.com/explorer/tx/eth/{HASH}",
        "Tenderly": f"https://dashboard.tenderly.co/tx/mainnet/{HASH}",
    }
    assert list(network(534352).transaction_links(HASH)) == ["scrollscan.com"]
    assert network(424242).transaction_links(HASH) == {}


def test_a_reason_stays_text_with_its_addresses_shortened() -> None:
    template = environment(open_address_book(1)).from_string("{{ text | unbroken }}")
    address = "0x" + "c3" * 20
    shown = template.render(text=f'<b onclick="x()"> {address} gained 4.32 M USDC ($4.3 M)')
    assert shown == (
        "&lt;b onclick=&#34;x()&#34;&gt; "
        f'<span class="nowrap" title="{address}">0xc3c3c3…c3c3</span> gained '
        '<span class="nowrap">4.32 M</span> USDC (<span class="nowrap">$4.3 M</span>)'
    )


def test_alerts_of_the_sender_are_those_on_the_chain(sqlite: Database) -> None:
    for chain_id, hashes in ((1, [TX_HASH, OTHER_HASH]), (56, [TX_HASH, HASH])):
        loaded = [transaction(tx_hash=one) for one in hashes]
        with sqlite.writing() as connection:
            chain.store_transactions(connection, chain_id, loaded, now=1.0)
        for one in hashes:
            store_alert(sqlite, chain_id=chain_id, tx_hash=one)
    with sqlite.reading() as connection:
        facts = read_facts(connection, 1, transaction(), None, None)
    assert facts.sender_alerts == 1
