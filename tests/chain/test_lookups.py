"""The chain of sources, its deadline and its cache, against real servers that fail in real ways."""

import json
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from werkzeug import Request, Response

from src.chain.clients.circuit_breaker import DEFAULT_PAUSE_SECONDS
from src.chain.clients.rate_limit import Rate
from src.chain.errors import (
    DeadlineExceeded,
    MalformedAnswer,
    NotConfigured,
    NotFound,
    RateLimited,
    RequestRefused,
    SourceError,
)
from src.chain.facts import Unknown
from src.chain.lookups.build import build_lookups
from src.chain.lookups.lookups import FirstTransaction, Lookups, TokenInfo
from tests.support import raw_server
from tests.support.fake_chain import (
    ETHERSCAN_LIMIT,
    NO_TRANSACTIONS,
    FakeNode,
    block_timestamp,
    etherscan_answer,
    meeting_of,
    serve,
    usual_token,
)
from tests.support.waiting import FOR_EVER, PATIENCE, FakeClock, wait_until

USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
TOKENS = [f"0x{number:040x}" for number in range(0xA0, 0xA5)]
SENDER = "0x" + "5e" * 20
BLOCK = 20_000_000
INFO = TokenInfo("Some Token", "SOME", 18)
KEY = "planted-secret-key"
PLENTY = (Rate(1000, 0.001),)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class World:
    """Sources to configure look-ups with; every part can be replaced."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.node = FakeNode(
            tokens={token: usual_token() for token in TOKENS},
            sent_in_blocks={SENDER: [1_000_000]},
        )
        self.node_url = stack.enter_context(serve(self.node.answer))

    def serve(self, handler: Callable[[Request], Response]) -> str:
        return self.stack.enter_context(serve(handler))

    def serve_text(self, text: str, status: int = 200) -> str:
        return self.serve(lambda request: Response(text, status))

    def serve_raw(self, behaviour: raw_server.Behaviour) -> str:
        return self.stack.enter_context(raw_server.raw_server(behaviour))

    def lookups(self, **settings: Any) -> Lookups:
        defaults: dict[str, Any] = {
            "json_rpc_url": self.node_url,
            "deadline_seconds": FOR_EVER,
            "timeout_seconds": FOR_EVER,
            "search_seconds": FOR_EVER,
            "etherscan_rates": PLENTY,
            "ethplorer_rates": PLENTY,
            "node_requests_per_second": 10_000,
        }
        lookups = build_lookups(**(defaults | settings))
        self.stack.callback(lookups.close)
        return lookups


@pytest.fixture
def world(stack: ExitStack) -> World:
    return World(stack)


def ethplorer_answer(request: Request) -> Response:
    token = request.path.rsplit("/", 1)[-1]
    answer = {"address": token, "name": "Some Token", "symbol": "SOME", "decimals": "18"}
    return Response(json.dumps(answer))


# The sources in order


def test_well_known_token_needs_no_source() -> None:
    lookups = build_lookups()
    assert lookups.token_info(USDC.upper().replace("0X", "0x")).symbol == "USDC"
    assert lookups.well_known.get(USDC) == lookups.token_info(USDC)
    lookups.close()


def test_what_is_known_is_told_without_asking(world: World) -> None:
    lookups = world.lookups()
    assert list(lookups.gather([USDC], None).tokens) == [USDC]
    assert world.node.calls == []
    facts = lookups.gather([TOKENS[0], USDC], SENDER, BLOCK)
    assert list(facts.tokens) == [TOKENS[0], USDC]
    assert facts.tokens[TOKENS[0]] == INFO
    assert facts.first_transaction == FirstTransaction(block_timestamp(1_000_000), "node")
    asked = len(world.node.calls)
    assert asked > 0
    assert lookups.gather([TOKENS[0], USDC], SENDER, BLOCK) == facts
    assert len(world.node.calls) == asked


def test_what_nobody_knows_is_a_fact_of_its_own() -> None:
    lookups = build_lookups()
    facts = lookups.gather([TOKENS[0], USDC], SENDER)
    assert list(facts.tokens) == [USDC]
    assert facts.first_transaction == Unknown("look-up: no source to ask")
    lookups.close()


def test_an_account_without_a_transaction_is_new_and_asked_about_again(world: World) -> None:
    world.node.sent_in_blocks = {}
    lookups = world.lookups()
    for _ in range(2):
        asked = len(world.node.calls)
        assert lookups.gather([USDC], SENDER, BLOCK).first_transaction is None
        assert len(world.node.calls) > asked


def test_nothing_configured_is_a_typed_failure() -> None:
    lookups = build_lookups()
    with pytest.raises(NotConfigured):
        lookups.token_info(TOKENS[0])
    with pytest.raises(NotConfigured):
        lookups.first_transaction(SENDER)
    lookups.prefetch(TOKENS, SENDER)
    lookups.close()


@pytest.mark.parametrize("address", ["", "0x12", "USDC", "0x" + "g" * 40, "0x" + "1" * 5000])
def test_what_is_not_an_address_is_never_asked_about(world: World, address: str) -> None:
    lookups = world.lookups()
    with pytest.raises(RequestRefused):
        lookups.token_info(address)
    with pytest.raises(RequestRefused):
        lookups.first_transaction(address)
    lookups.prefetch([address], address)
    assert not world.node.calls


def test_node_alone_answers_everything(world: World) -> None:
    lookups = world.lookups()
    assert lookups.token_info(TOKENS[0]) == INFO
    assert lookups.first_transaction(SENDER, BLOCK) == FirstTransaction(
        block_timestamp(1_000_000), "node"
    )


def test_node_without_multicall_answers_metadata(world: World) -> None:
    world.node.has_multicall = False
    assert world.lookups().token_info(TOKENS[0]) == INFO


def test_explorers_come_before_the_node(world: World) -> None:
    lookups = world.lookups(
        etherscan_url=world.serve_text(json.dumps(etherscan_answer())),
        ethplorer_url=world.serve(ethplorer_answer),
        ethplorer_api_key=KEY,
    )
    assert lookups.token_info(TOKENS[0]) == INFO
    assert lookups.first_transaction(SENDER, BLOCK).source == "etherscan"
    assert not world.node.calls


def test_etherscan_itself_and_ethplorer_are_not_asked_without_a_key(world: World) -> None:
    lookups = world.lookups(ethplorer_url=world.serve_text("", 500))
    assert lookups.token_info(TOKENS[0]) == INFO
    assert lookups.first_transaction(SENDER, BLOCK).source == "node"
    assert not lookups.health()


def test_new_address_is_an_answer_that_is_asked_again(world: World) -> None:
    answers = [NO_TRANSACTIONS, NO_TRANSACTIONS, etherscan_answer()]
    url = world.serve(lambda request: Response(json.dumps(answers.pop(0))))
    lookups = world.lookups(etherscan_url=url)
    for _ in range(2):
        with pytest.raises(NotFound):
            lookups.first_transaction(SENDER)
    assert lookups.first_transaction(SENDER).timestamp == 1_500_000_000
    assert not world.node.calls


# Failures

FAILURES: list[tuple[str, int]] = [
    ("", 429),
    ("", 500),
    ("<html>Just a moment</html>", 200),
    ("[]", 200),
    ("null", 200),
    (json.dumps({"status": "1", "message": "OK", "result": []}), 200),
    (json.dumps(ETHERSCAN_LIMIT), 200),
]


@pytest.mark.parametrize(("body", "status"), FAILURES)
def test_failing_explorer_gives_way_to_the_node(world: World, body: str, status: int) -> None:
    url = world.serve_text(body, status)
    lookups = world.lookups(etherscan_url=url, ethplorer_url=url, ethplorer_api_key=KEY)
    assert lookups.first_transaction(SENDER, BLOCK).source == "node"
    assert lookups.token_info(TOKENS[0]) == INFO


@pytest.mark.parametrize(("body", "status"), FAILURES)
def test_failure_is_not_remembered(world: World, body: str, status: int) -> None:
    answers = [Response(body, status), Response(json.dumps(etherscan_answer()))]
    lookups = world.lookups(
        json_rpc_url=None, etherscan_url=world.serve(lambda request: answers.pop(0))
    )
    with pytest.raises(SourceError):
        lookups.first_transaction(SENDER)
    assert lookups.first_transaction(SENDER) == FirstTransaction(1_500_000_000, "etherscan")
    assert lookups.first_transaction(SENDER).timestamp == 1_500_000_000
    assert not answers


SLOW = [raw_server.hang, raw_server.drip_body, raw_server.drip_head]


@pytest.mark.parametrize("behaviour", [*SLOW, raw_server.reset, raw_server.endless_body])
def test_broken_explorer_gives_way_to_the_node_within_the_deadline(
    world: World, behaviour: raw_server.Behaviour
) -> None:
    url = world.serve_raw(behaviour)
    world.node.sent_in_blocks[SENDER] = [BLOCK]  # a short search
    lookups = world.lookups(
        etherscan_url=url,
        ethplorer_url=url,
        ethplorer_api_key=KEY,
        patience_share=0.3 / FOR_EVER,
    )
    with lookups.transaction():
        lookups.prefetch(TOKENS, SENDER, BLOCK)
        assert [lookups.token_info(token) for token in TOKENS] == [INFO] * 5
        assert lookups.first_transaction(SENDER, BLOCK).source == "node"


@pytest.mark.parametrize("behaviour", SLOW)
def test_deadline_ends_all_waiting_of_a_transaction(
    world: World, behaviour: raw_server.Behaviour
) -> None:
    url = world.serve_raw(behaviour)
    lookups = world.lookups(
        json_rpc_url=url,
        etherscan_url=url,
        ethplorer_url=url,
        ethplorer_api_key=KEY,
        deadline_seconds=0.2,
    )
    with lookups.transaction() as deadline:
        lookups.prefetch(TOKENS, SENDER, BLOCK)
        assert deadline.passed
        with pytest.raises(DeadlineExceeded):
            lookups.token_info(TOKENS[0])
        with pytest.raises(DeadlineExceeded):
            lookups.first_transaction(SENDER)
        with pytest.raises(SourceError):
            lookups.token_info("0x" + "7" * 40)


def test_exhausted_rate_limit_of_an_explorer_gives_way_without_waiting(world: World) -> None:
    one_an_hour = (Rate(1, 3600.0),)
    lookups = world.lookups(
        etherscan_url=world.serve_text(json.dumps(etherscan_answer())), etherscan_rates=one_an_hour
    )
    assert lookups.first_transaction("0x" + "1" * 40).source == "etherscan"
    assert lookups.first_transaction(SENDER, BLOCK).source == "node"


def test_exhausted_rate_limit_of_the_node_does_not_hold_up_a_transaction(world: World) -> None:
    clock = FakeClock()  # the second never ends
    lookups = world.lookups(node_requests_per_second=1, deadline_seconds=0.1, clock=clock)
    lookups.prefetch(TOKENS[:1], None)
    wait_until(lambda: lookups._known_token(TOKENS[0]))
    with pytest.raises(DeadlineExceeded):
        lookups.token_info(TOKENS[1])
    assert world.node.calls == ["eth_call"]
    clock.now += 1
    wait_until(lambda: lookups._known_token(TOKENS[1]))


def test_dead_source_is_not_asked_again_and_again_and_shows_in_health(world: World) -> None:
    asked: list[str] = []
    clock = FakeClock()

    def answer(request: Request) -> Response:
        asked.append(request.path)
        return Response("", 500)

    lookups = world.lookups(json_rpc_url=None, etherscan_url=world.serve(answer), clock=clock)
    for trials in range(3):
        for number in range(50):
            with pytest.raises(SourceError):
                lookups.first_transaction(f"0x{number:040x}")
        assert len(asked) == 5 + trials
        clock.now += DEFAULT_PAUSE_SECONDS
    assert lookups.health() == ["etherscan does not answer and is asked only now and then"]


def test_what_failed_in_a_transaction_is_asked_once_in_it_and_again_in_the_next(
    world: World,
) -> None:
    bad = "0x" + "bad0" * 10
    lookups = world.lookups()
    for calls in (2, 4):  # with the others and alone
        with lookups.transaction():
            lookups.prefetch([bad], None)
            for _ in range(3):
                with pytest.raises(MalformedAnswer):
                    lookups.token_info(bad)
        assert len(world.node.calls) == calls


def test_metadata_of_hostile_tokens_is_harmless(world: World) -> None:
    world.node.tokens[TOKENS[0]] = usual_token("-!*forta_finding*!-:" + "A" * 100_000, "US\nDC\x00")
    world.node.tokens[TOKENS[1]] = usual_token(decimals=10**9)
    lookups = world.lookups()
    lookups.prefetch(TOKENS, None)
    assert lookups.token_info(TOKENS[0]) == TokenInfo("A" * 64, "US DC", 18)
    assert lookups.token_info(TOKENS[2]) == INFO
    with pytest.raises(MalformedAnswer):
        lookups.token_info(TOKENS[1])


# Everything at once


def test_tokens_take_one_request_and_wait_for_nobody(world: World) -> None:
    meeting = meeting_of(2)  # passes only if the node and the explorer are asked at the same time

    def explorer(request: Request) -> Response:
        meeting()
        return Response(json.dumps(etherscan_answer()))

    world.node.before = lambda method: meeting()
    lookups = world.lookups(etherscan_url=world.serve(explorer))
    with lookups.transaction():
        lookups.prefetch(TOKENS, SENDER, BLOCK)
        assert [lookups.token_info(token) for token in TOKENS] == [INFO] * 5
        assert lookups.first_transaction(SENDER).source == "etherscan"
    assert world.node.calls == ["eth_call"]


def test_ethplorer_is_asked_about_all_tokens_at_the_same_time(world: World) -> None:
    meeting = meeting_of(len(TOKENS) + 1)

    def explorer(request: Request) -> Response:
        meeting()
        if "getTokenInfo" in request.path:
            return ethplorer_answer(request)
        return Response(json.dumps(etherscan_answer()))

    url = world.serve(explorer)
    lookups = world.lookups(
        json_rpc_url=None, etherscan_url=url, ethplorer_url=url, ethplorer_api_key=KEY
    )
    lookups.prefetch(TOKENS, SENDER)
    assert [lookups.token_info(token) for token in TOKENS] == [INFO] * 5


def test_tokens_that_ethplorer_does_not_know_take_one_call_of_the_node(world: World) -> None:
    lookups = world.lookups(
        ethplorer_url=world.serve_text('{"name": "", "symbol": "", "decimals": "0"}'),
        ethplorer_api_key=KEY,
    )
    lookups.prefetch(TOKENS, None)
    assert [lookups.token_info(token) for token in TOKENS] == [INFO] * 5
    assert world.node.calls == ["eth_call"]


def test_identical_requests_in_flight_are_joined(world: World) -> None:
    arrived, release = threading.Event(), threading.Event()

    def hold(method: str) -> None:
        arrived.set()
        release.wait(PATIENCE)

    world.node.before = hold
    lookups = world.lookups()
    answers: list[TokenInfo] = []
    threads = [
        threading.Thread(target=lambda: answers.append(lookups.token_info(TOKENS[0])))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    assert arrived.wait(PATIENCE)
    release.set()
    for thread in threads:
        thread.join()
    assert answers == [INFO] * 4
    assert world.node.calls == ["eth_call"]


def test_late_answer_fills_the_cache(world: World) -> None:
    release = threading.Event()
    world.node.before = lambda method: release.wait(PATIENCE) and None
    lookups = world.lookups(deadline_seconds=0.05)
    with pytest.raises(DeadlineExceeded):
        lookups.token_info(TOKENS[0])
    late = lookups._sources._sources[0]._in_flight[TOKENS[0]]
    release.set()
    assert late.result() == INFO
    assert lookups.token_info(TOKENS[0]) == INFO
    assert world.node.calls == ["eth_call"]


def test_search_of_a_distant_node_goes_on_in_the_background(world: World) -> None:
    release = threading.Event()
    searching = "eth_getTransactionCount"
    world.node.before = lambda method: (method == searching and release.wait(PATIENCE)) and None
    lookups = world.lookups(patience_share=1e-6)
    with lookups.transaction() as deadline:
        lookups.prefetch(TOKENS, SENDER, BLOCK)
        assert not deadline.passed
        assert lookups.token_info(TOKENS[0]) == INFO
        with pytest.raises(DeadlineExceeded):
            lookups.first_transaction(SENDER)
    (late,) = [s._in_flight[SENDER] for s in lookups._sources._sources if SENDER in s._in_flight]
    release.set()
    assert late.result().source == "node"
    assert lookups.first_transaction(SENDER).timestamp == block_timestamp(1_000_000)


def test_warm_transaction_asks_nothing(world: World) -> None:
    lookups = world.lookups()
    for _ in range(2):
        with lookups.transaction():
            lookups.prefetch([*TOKENS, USDC], SENDER, BLOCK)
        asked = len(world.node.calls)
    with lookups.transaction():
        lookups.prefetch([*TOKENS, USDC], SENDER, BLOCK)
        assert lookups.token_info(TOKENS[4]) == INFO
    assert len(world.node.calls) == asked


def test_facts_survive_a_restart(world: World, tmp_path: Path) -> None:
    lookups = world.lookups(cache_dir=tmp_path)
    lookups.prefetch(TOKENS, SENDER, BLOCK)
    lookups.increment("alerts")
    lookups.close()
    again = world.lookups(cache_dir=tmp_path, json_rpc_url=None)
    assert [again.token_info(token) for token in TOKENS] == [INFO] * 5
    assert again.first_transaction(SENDER).source == "node"
    assert again.counter("alerts") == 1


def test_nothing_grows_with_hostile_addresses(world: World) -> None:
    lookups = world.lookups(deadline_seconds=0.0, json_rpc_url="http://127.0.0.1:9")
    for number in range(3000):
        with lookups.transaction():
            lookups.prefetch([f"0x{number:040x}"], f"0x{number:040x}", BLOCK)
    assert all(len(source._in_flight) <= 256 for source in lookups._sources._sources)
    assert all(source._threads._work_queue.qsize() <= 256 for source in lookups._sources._sources)
    assert len(lookups._cache._tokens) == 0


# Impersonation


@pytest.mark.parametrize(
    "symbol",
    ["USDC", "usdc", "USD\u0421", "\uff35\uff33\uff24\uff23", "US\u200bDC", "\u00dcSDC", "U S D C"],
)
def test_fake_token_with_a_well_known_symbol_is_seen(symbol: str) -> None:
    lookups = build_lookups()
    assert lookups.well_known.is_impersonated(symbol, TOKENS[0])
    assert not lookups.well_known.is_impersonated(symbol, USDC)
    lookups.close()


@pytest.mark.parametrize("symbol", ["", "UNHEARDOF", "USDCC", "\u67f4\u72ac"])
def test_other_symbols_impersonate_nobody(symbol: str) -> None:
    lookups = build_lookups()
    assert not lookups.well_known.is_impersonated(symbol, TOKENS[0])
    lookups.close()


def test_other_chains_have_no_built_in_list() -> None:
    lookups = build_lookups(chain_id=137)
    assert lookups.well_known.get(USDC) is None
    assert not lookups.well_known.is_impersonated("USDC", TOKENS[0])
    lookups.close()


# Secrets


def test_keys_are_in_no_error_log_or_repr(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    for body, status in [*FAILURES, (f"{KEY}", 200), (json.dumps({"error": KEY}), 200)]:
        url = f"{world.serve_text(body, status)}/{KEY}"
        lookups = world.lookups(
            json_rpc_url=url,
            etherscan_url=url,
            etherscan_api_key=KEY,
            ethplorer_url=url,
            ethplorer_api_key=KEY,
        )
        told += [repr(lookups), *map(repr, lookups._sources._clients)]
        for look_up in (lookups.token_info, lookups.first_transaction):
            with pytest.raises((SourceError, NotFound)) as caught:
                look_up(SENDER)
            told += traceback.format_exception(caught.value)
    logged = [record.getMessage() for record in caplog.records if record.name != "werkzeug"]
    assert KEY not in "".join(told + logged)


def test_rate_limit_text_of_an_explorer_is_named_so(world: World) -> None:
    lookups = world.lookups(
        json_rpc_url=None, etherscan_url=world.serve_text(json.dumps(ETHERSCAN_LIMIT))
    )
    with pytest.raises(RateLimited, match="etherscan: NOTOK: Max calls per sec"):
        lookups.first_transaction(SENDER)
