"""Search, and the pages of accounts and tokens."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page, expect
from starlette.testclient import TestClient

from src.chain.transfers import Transfer
from src.decision.tokens import TokenView
from src.service.app import create_app
from src.service.database import chain
from src.service.database.engine import Database
from src.service.web.explorer.pages import PAGE
from tests.conftest import ALICE, BOB, USDC
from tests.service.chain import BASE_URL, THEFT, common_settings, service_settings, sqlite_url
from tests.service.database.rows import store_alert, transaction
from tests.service.web.browsing import theft
from tests.support.waiting import wait_until

HOSTILE = "<img src=x onerror=document.title='owned'>"
THIEF = "0x14dc79964da2c08b23698b3d3cc7ca32193d9955"
OTHER_CHAIN = 56
POINTS, FAKE = "0x" + "f1" * 20, "0x" + "f2" * 20
ROUTER = "0x" + "d0" * 20
MANY = PAGE + 3


def tx_hash(number: int) -> str:
    return f"0x{number:064x}"


def moved(number: int) -> tuple[Transfer, ...]:
    """Alice sends 5 points to the router, which sends her 2 of them back."""
    return (
        Transfer(POINTS, ALICE, ROUTER, 5 * 10**6, 0),
        Transfer(POINTS, ROUTER, ALICE, 2 * 10**6, 1),
        *([Transfer(FAKE, BOB, ALICE, 10**18, 2)] if number == 0 else []),
    )


def fill(database: Database) -> None:
    loaded = [
        transaction(
            tx_hash=tx_hash(n), transfers=moved(n), to=ROUTER, block_number=n, block_timestamp=n
        )
        for n in range(MANY)
    ]
    views = [TokenView(POINTS, "Points", "PNTS", 6), TokenView(FAKE, HOSTILE, HOSTILE, 18, True)]
    with database.writing() as connection:
        chain.store_transactions(connection, OTHER_CHAIN, loaded, now=1.0)
        chain.store_tokens(connection, OTHER_CHAIN, views)
    store_alert(database, chain_id=OTHER_CHAIN, tx_hash=tx_hash(0), from_address=ALICE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("explorer")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    database = Database(sqlite_url(folder))
    database.migrate()
    fill(database)
    database.close()
    app = create_app(service_settings(sqlite_url(folder)), common_settings())
    with TestClient(app, base_url=BASE_URL) as opened:
        wait_until(lambda: opened.get("/alerts", params={"action": "BLOCK", "chain_id": 1}).json())
        yield opened


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def shown(client: TestClient, path: str, **query: object) -> str:
    answer = client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.text


def part(page: str, name: str) -> str:
    (found,) = re.findall(rf'aria-labelledby="{name}">(.*?)</section>', page, re.DOTALL)
    return text_of(found)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("text", "page"),
    [
        (THEFT, f"/ui/transactions/{THEFT}"),
        (THEFT.upper().replace("0X", "0x"), f"/ui/transactions/{THEFT}"),
        (f" {THEFT[2:]} ", f"/ui/transactions/{THEFT}"),
        (THIEF, f"/ui/addresses/{THIEF}"),
        (USDC, f"/ui/tokens/{USDC}"),
        (f"https://etherscan.io/tx/{THEFT}#eventlog", f"/ui/transactions/{THEFT}"),
        (f"https://etherscan.io/address/{THIEF}", f"/ui/addresses/{THIEF}"),
    ],
)
def test_the_search_leads_to_what_a_text_names(client: TestClient, text: str, page: str) -> None:
    answer = client.get("/ui/search", params={"q": text}, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == page


@pytest.mark.integration
def test_the_search_finds_blocks_and_symbols(client: TestClient) -> None:
    block = shown(client, "/ui/search", q="385")
    assert "1 of its transactions is stored" in part(block, "block")
    assert "gained" in part(block, "block")
    assert "None of its transactions is stored" in shown(client, "/ui/search", q="1,234,567")
    tokens = part(shown(client, "/ui/search", q="usdc"), "tokens")
    assert re.search(r"USDC USD Coin 0xa0b869…eb48 known USDC .* another token", tokens)
    assert "USDT" in shown(client, "/ui/search", q="us")


@pytest.mark.integration
def test_the_search_finds_a_block_by_its_hash(client: TestClient) -> None:
    service = client.app.app.state.service  # type: ignore[attr-defined]
    hashed = service.node.block_hash(385)
    assert "1 of its transactions is stored" in part(shown(client, "/ui/search", q=hashed), "block")


@pytest.mark.integration
def test_the_search_finds_names_of_the_address_book(client: TestClient) -> None:
    own = part(shown(client, "/ui/search", q="lending POOL"), "names")
    assert "Lending Pool own 0xa51c1f…91c0 the operator&#39;s address book" in own
    published = part(shown(client, "/ui/search", q="uniswap v2 router"), "names")
    assert "Uniswap V2 router router 0x7a250d…488d @uniswap/" in published


@pytest.mark.integration
@pytest.mark.parametrize("text", ["", "%", "_", "0x12", "no such token", HOSTILE])
def test_the_search_says_what_it_takes(client: TestClient, text: str) -> None:
    page = shown(client, "/ui/search", q=text)
    assert "The search takes" in page
    assert "<img" not in page
    assert ("neither a hash" in page) == (text == "0x12")


@settings(max_examples=60)
@given(st.text(max_size=250) | st.from_regex(r"0x[0-9a-fA-F]{38,66}", fullmatch=True))
def test_no_search_fails(client: TestClient, text: str) -> None:
    answer = client.get("/ui/search", params={"q": text}, follow_redirects=False)
    assert answer.status_code in {200, 303}
    if answer.status_code == 303:
        assert re.fullmatch(
            r"/ui/(transactions/0x[0-9a-f]{64}|(tokens|addresses)/0x[0-9a-f]{40})",
            answer.headers["location"],
        )


@pytest.mark.integration
def test_an_account_s_page_has_gains_counterparties_and_alerts(client: TestClient) -> None:
    page = shown(client, f"/ui/addresses/{ALICE}", chain=OTHER_CHAIN)
    gains = part(page, "gains")
    assert f"Over its {2 * MANY + 1} token transfers" in gains
    assert f"−{3 * MANY} PNTS {2 * MANY} {5 * MANY} {2 * MANY}" in gains
    assert f"0xd0d0d0…d0d0 {MANY} {MANY} PNTS" in part(page, "peers")
    assert "1 transaction with alerts" in part(page, "alerts")
    first = page[page.index('aria-labelledby="list"') :]
    assert first.count(">sender</td>") == PAGE
    assert "−3</span>" in first
    assert "<img" not in page
    second = shown(client, f"/ui/addresses/{ALICE}", chain=OTHER_CHAIN, page=2)
    assert second.count(">sender</td>") == MANY - PAGE


@pytest.mark.integration
def test_roles_and_what_is_not_stored_are_said(client: TestClient) -> None:
    router = shown(client, f"/ui/addresses/{ROUTER}", chain=OTHER_CHAIN)
    assert router.count(">called</td>") == PAGE
    bob = shown(client, f"/ui/addresses/{BOB}", chain=OTHER_CHAIN)
    assert bob.count(">moves tokens</td>") == 1
    assert "not decided" in bob
    assert "Not stored" in bob
    nobody = shown(client, "/ui/addresses/0x" + "99" * 20)
    assert "Nothing is stored about this account" in nobody
    assert client.get("/ui/addresses/0x12").status_code == 422


@pytest.mark.integration
def test_a_token_s_page_says_what_may_be_an_imitation_and_accounts(client: TestClient) -> None:
    fake = shown(client, f"/ui/tokens/{FAKE}", chain=OTHER_CHAIN)
    assert "It may imitate that token, or only share its symbol" in fake
    assert "on no list" in part(fake, "about")
    assert "<img" not in fake
    assert "&lt;img" in fake
    assert "1 transaction with alerts" in part(fake, "alerts")
    points = shown(client, f"/ui/tokens/{POINTS}", chain=OTHER_CHAIN)
    accounts = part(points, "accounts")
    assert f"0xa1a1a1…a1a1 −{3 * MANY} {2 * MANY}" in accounts
    assert f"0xd0d0d0…d0d0 +{3 * MANY} {2 * MANY}" in accounts
    assert points.count('data-label="Moved">7</td>') == PAGE  # moved there and back
    unknown = shown(client, "/ui/tokens/0x" + "99" * 20)
    assert "No stored transaction moves this token" in unknown


@pytest.mark.integration
def test_alerts_are_filtered_by_any_account_in_the_transaction(client: TestClient) -> None:
    for account in (ALICE, BOB, ROUTER):
        page = shown(client, "/ui/alerts", account=account, chain=OTHER_CHAIN)
        assert page.count('<li class="case"') == 1
    assert "No alerts match" in shown(client, "/ui/alerts", account=POINTS, chain=OTHER_CHAIN)


@pytest.mark.integration
def test_a_reader_follows_the_theft_from_search_to_account_to_token(demo: str, page: Page) -> None:
    page.goto(f"{demo}/ui/")
    page.get_by_label("Hash, address, block, token or name").fill(THIEF)
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("0x14dc79…9955")
    gains = page.get_by_role("region", name="Gains and losses here")
    expect(gains).to_contain_text("+4,320,496 USDC")
    case = page.locator(".case")
    case.get_by_role("checkbox").check()
    page.get_by_role("button", name="In work").click()
    expect(page).to_have_url(re.compile(f"/ui/addresses/{THIEF}"))
    expect(page.locator(".tiles")).to_contain_text("1 in work")
    case.get_by_role("checkbox").check()
    page.get_by_role("button", name="New again").click()
    gains.get_by_role("link", name="USDC").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Token USDC")
    page.get_by_role("region", name="Transactions").get_by_role("link", name="gained").first.click()
    expect(page).to_have_url(f"{demo}/ui/transactions/{theft(demo)}")
