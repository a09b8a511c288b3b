"""Prices from real local servers that answer rightly, late, wrongly or not at all."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from werkzeug import Request, Response

from src.chain.facts import Price
from src.chain.lookups.build import build_lookups
from src.chain.lookups.lookups import Lookups
from src.demo.anvil import Chain, anvil
from tests.support.fake_chain import serve
from tests.support.waiting import FOR_EVER, PATIENCE

pytestmark = pytest.mark.integration

START = 1_700_000_000
FEED = "0x5f4ec3df9cbd43714fe2740f5e3616155c5b8419"
WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
GOLD, IRON = "0x" + "60" * 20, "0x" + "61" * 20
# `decimals()` returns slot 2, anything else (0, slot 0, 0, slot 1, 0).
FEED_CODE = "0x5f3560e01c63313ce56714601d575f5460205260015460605260a05ff35b6002545f5260205ff3"


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with anvil(timestamp=START) as running:
        yield running


def set_feed(chain: Chain, answer: int, updated_at: int = START, decimals: int = 8) -> None:
    chain.rpc("anvil_setCode", FEED, FEED_CODE)
    for slot, value in enumerate((answer % 2**256, updated_at, decimals)):
        chain.rpc("anvil_setStorageAt", FEED, hex(slot), f"0x{value:064x}")


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def open_lookups(opened: ExitStack, **sources: Any) -> Lookups:
    patient = {
        "deadline_seconds": FOR_EVER,
        "timeout_seconds": FOR_EVER,
        "now": lambda: START + 60.0,
    }
    lookups = build_lookups(**(patient | sources))
    opened.callback(lookups.close)
    return lookups


def answering(opened: ExitStack, body: Any, status: int = 200) -> tuple[str, list[str]]:
    asked: list[str] = []

    def answer(request: Request) -> Response:
        asked.append(request.path)
        return Response(body if isinstance(body, str) else json.dumps(body), status)

    return opened.enter_context(serve(answer)), asked


def of_api(**changes: Any) -> dict[str, Any]:
    entry = {"price": 2.5, "decimals": 18, "symbol": "G", "timestamp": START, "confidence": 0.99}
    return {"coins": {f"ethereum:{GOLD}": entry | changes}}


def test_a_stablecoin_is_a_dollar_and_nobody_is_asked(opened: ExitStack) -> None:
    url, asked = answering(opened, of_api())
    lookups = open_lookups(opened, price_api_url=url, json_rpc_url=url)
    assert lookups.prices([USDC], 5, START) == {USDC: Price(1.0, "fixed")}
    assert asked == []


def test_a_feed_prices_the_native_currency_at_the_block(chain: Chain, opened: ExitStack) -> None:
    set_feed(chain, 2_345_67 * 10**6)
    lookups = open_lookups(opened, json_rpc_url=chain.url)
    assert lookups.prices([WETH, GOLD], None, START) == {WETH: Price(2345.67, "Chainlink")}
    set_feed(chain, 1)
    assert lookups.prices([WETH], None, START)[WETH].usd == 2345.67  # remembered for minutes
    assert lookups.prices([WETH], None, START - 400) == {WETH: Price(1e-8, "Chainlink")}


@pytest.mark.parametrize(
    "feed",
    [
        {"answer": 0},
        {"answer": -5 * 10**8},
        {"answer": 10**38},
        {"answer": 10**11, "decimals": 18},
        {"answer": 10**11, "updated_at": START - 26 * 3_600},
        {"answer": 10**11, "updated_at": START + 26 * 3_600},
    ],
)
def test_an_impossible_or_old_answer_of_a_feed_is_unknown_and_not_kept(
    chain: Chain, opened: ExitStack, feed: dict[str, int]
) -> None:
    set_feed(chain, **feed)
    lookups = open_lookups(opened, json_rpc_url=chain.url)
    assert lookups.prices([WETH], None, START) == {}
    set_feed(chain, 10**11)
    assert lookups.prices([WETH], None, START) == {WETH: Price(1000.0, "Chainlink")}


def test_a_chain_without_the_feed_has_no_price_of_it(chain: Chain, opened: ExitStack) -> None:
    chain.rpc("anvil_setCode", FEED, "0x")
    assert open_lookups(opened, json_rpc_url=chain.url).prices([WETH], None, START) == {}


def test_the_api_is_asked_for_the_time_of_the_transaction(opened: ExitStack) -> None:
    url, asked = answering(opened, of_api())
    lookups = open_lookups(opened, price_api_url=url)
    assert lookups.prices([GOLD], 5, START) == {GOLD: Price(2.5, "price API", 18)}
    assert lookups.prices([GOLD], 5, START - 10**7) == {}
    assert "/prices/current/" in asked[0]
    assert "/prices/historical/" in asked[1]


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        (of_api(confidence=0.5), 200),
        (of_api(confidence=None), 200),
        (of_api(confidence=7), 200),
        (of_api(price=0), 200),
        (of_api(price=1e30), 200),
        (of_api(price=-2), 200),
        (of_api(price="2.5"), 200),
        (of_api(price=float("nan")), 200),
        (of_api(decimals=300), 200),
        (of_api(timestamp=START - 10**6), 200),
        ({"coins": {f"ethereum:{IRON}": of_api()["coins"][f"ethereum:{GOLD}"]}}, 200),
        ({"coins": []}, 200),
        ("<html>", 200),
        ({}, 500),
    ],
)
def test_what_the_api_says_wrongly_is_unknown_and_not_kept(
    opened: ExitStack, wrong: Any, status: int
) -> None:
    said = [Response(json.dumps(wrong) if not isinstance(wrong, str) else wrong, status),
            Response(json.dumps(of_api()))]  # fmt: skip
    url = opened.enter_context(serve(lambda _: said.pop(0)))
    lookups = open_lookups(opened, price_api_url=url)
    assert lookups.prices([GOLD], 5, START) == {}
    assert lookups.prices([GOLD], 5, START) == {GOLD: Price(2.5, "price API", 18)}


def test_an_impossible_price_takes_no_other_token_s_away(opened: ExitStack) -> None:
    answer = of_api()
    answer["coins"][f"ethereum:{IRON}"] = answer["coins"][f"ethereum:{GOLD}"] | {"price": 10**400}
    url, _ = answering(opened, answer)
    lookups = open_lookups(opened, price_api_url=url)
    assert lookups.prices([IRON, GOLD], 5, START) == {GOLD: Price(2.5, "price API", 18)}


def test_a_late_price_is_unknown_in_time_and_known_afterwards(opened: ExitStack) -> None:
    release, answered = threading.Event(), threading.Event()
    opened.callback(release.set)

    def answer(_: Request) -> Response:
        release.wait(PATIENCE)
        answered.set()
        return Response(json.dumps(of_api()))

    url = opened.enter_context(serve(answer))
    lookups = open_lookups(opened, price_api_url=url, deadline_seconds=0.05)
    with lookups.transaction():  # one deadline for all that is looked up
        assert lookups.prices([GOLD], 5, START) == {}
        assert lookups.prices([IRON], 5, START) == {}
    release.set()
    answered.wait(PATIENCE)
    while (found := lookups.prices([GOLD], 5, START)) == {}:
        pass
    assert found == {GOLD: Price(2.5, "price API", 18)}


def test_without_sources_there_is_no_price(opened: ExitStack) -> None:
    assert open_lookups(opened).prices([WETH, GOLD], 5, START) == {}


def test_an_api_that_does_not_know_the_chain_is_said_to_be_unused(
    opened: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    url, asked = answering(opened, of_api())
    lookups = open_lookups(opened, price_api_url=url, chain_id=424_242)
    assert lookups.prices([GOLD], 5, START) == {}
    assert asked == []
    assert "PRICE_API_URL" in caplog.text
