"""Sources that fail give way, within the deadline, and are not remembered."""

import json
import logging
import traceback

import pytest
from werkzeug import Request, Response

from src.chain.clients.circuit_breaker import DEFAULT_PAUSE_SECONDS
from src.chain.clients.rate_limit import Rate
from src.chain.errors import (
    DeadlineExceeded,
    Failure,
    MalformedAnswer,
    NotFound,
    RateLimited,
    SourceError,
)
from src.chain.facts import TokenInfo
from tests.chain.lookups.world import BLOCK, INFO, KEY, SENDER, TOKENS, USDC, World
from tests.support import raw_server
from tests.support.fake_chain import (
    ETHERSCAN_LIMIT,
    etherscan_answer,
    usual_token,
)
from tests.support.waiting import FOR_EVER, FakeClock, wait_until

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
        lookups.gather(TOKENS, SENDER)
        assert [lookups.token_info(token) for token in TOKENS] == [INFO] * 5

    def source_of_age() -> str | None:
        """Of the node's search, which goes on in the background if it takes too long here."""
        try:
            return lookups.first_transaction(SENDER, BLOCK).source
        except SourceError:
            return None

    wait_until(lambda: source_of_age() == "node")


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
        lookups.gather(TOKENS, SENDER)
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
    lookups.gather(TOKENS[:1], None)
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


def test_an_explorer_that_never_answers_usefully_shows_in_health(world: World) -> None:
    refusal = json.dumps({"status": "0", "message": "NOTOK", "result": "Invalid API Key"})
    lookups = world.lookups(etherscan_url=world.serve_text(refusal))
    for number in range(5):
        assert not lookups.health()
        lookups.gather((), f"0x{number:040x}", BLOCK)
    assert lookups.health() == [
        "etherscan has given no usable answer to 5 requests: NOTOK: Invalid API Key"
    ]


def test_an_explorer_that_refuses_for_now_is_left_alone_for_a_second(world: World) -> None:
    asked: list[str] = []
    clock = FakeClock()

    def answer(request: Request) -> Response:
        asked.append(request.path)
        return Response(json.dumps(ETHERSCAN_LIMIT))

    lookups = world.lookups(json_rpc_url=None, etherscan_url=world.serve(answer), clock=clock)
    for expected in (1, 1, 2):
        with pytest.raises(RateLimited):
            lookups.first_transaction(SENDER)
        assert len(asked) == expected
        clock.now += 0.6


def malformed(request: Request) -> Response:
    return Response(json.dumps({"jsonrpc": "2.0", "id": request.get_json()["id"], "result": "?"}))


def test_what_failed_is_asked_again_by_the_next_lookup(world: World) -> None:
    bad = "0x" + "bad0" * 10
    lookups = world.lookups(json_rpc_url=world.serve(malformed))
    for calls in (2, 4):  # with the others and alone
        answer = lookups.token_infos([bad])[bad]
        assert isinstance(answer, Failure)
        assert answer.is_a(MalformedAnswer)
        assert lookups.usage()["node"].outcomes["failed"] == calls


def test_a_contract_that_states_nothing_is_asked_again_by_the_next_lookup(world: World) -> None:
    lookups = world.lookups()
    for calls in (1, 2):
        assert lookups.token_infos([SENDER, USDC])[SENDER] == TokenInfo("", "", None)
        assert world.node.calls == ["eth_call"] * calls


def test_metadata_of_hostile_tokens_is_harmless(world: World) -> None:
    world.node.tokens[TOKENS[0]] = usual_token("-!*forta_finding*!-:" + "A" * 100_000, "US\nDC\x00")
    world.node.tokens[TOKENS[1]] = usual_token(decimals=10**9)
    lookups = world.lookups()
    lookups.gather(TOKENS, None)
    assert lookups.token_info(TOKENS[0]) == TokenInfo("A" * 64, "US DC", 18)
    assert lookups.token_info(TOKENS[2]) == INFO
    assert lookups.token_info(TOKENS[1]) == TokenInfo("Some Token", "SOME", None)


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
