"""Many look-ups at once share requests, caches and what they learn."""

import json
import threading
from pathlib import Path

import pytest
from werkzeug import Request, Response

from src.chain.errors import (
    DeadlineExceeded,
)
from src.chain.facts import TokenInfo
from tests.chain.lookups.world import (
    INFO,
    KEY,
    SENDER,
    TOKENS,
    USDC,
    World,
    ethplorer_answer,
)
from tests.support.fake_chain import (
    block_timestamp,
    etherscan_answer,
    meeting_of,
)
from tests.support.waiting import PATIENCE


def test_tokens_take_one_request_and_wait_for_nobody(world: World) -> None:
    meeting = meeting_of(2)  # passes only if the node and the explorer are asked at the same time

    def explorer(request: Request) -> Response:
        meeting()
        return Response(json.dumps(etherscan_answer()))

    world.node.before = lambda method: meeting()
    lookups = world.lookups(etherscan_url=world.serve(explorer))
    with lookups.transaction():
        lookups.gather(TOKENS, SENDER)
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
    lookups.gather(TOKENS, SENDER)
    assert [lookups.token_info(token) for token in TOKENS] == [INFO] * 5


def test_tokens_that_ethplorer_does_not_know_take_one_call_of_the_node(world: World) -> None:
    lookups = world.lookups(
        ethplorer_url=world.serve_text('{"name": "", "symbol": "", "decimals": "0"}'),
        ethplorer_api_key=KEY,
    )
    lookups.gather(TOKENS, None)
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
        lookups.gather(TOKENS, SENDER)
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
            lookups.gather([*TOKENS, USDC], SENDER)
        asked = len(world.node.calls)
    with lookups.transaction():
        lookups.gather([*TOKENS, USDC], SENDER)
        assert lookups.token_info(TOKENS[4]) == INFO
    assert len(world.node.calls) == asked


def test_facts_survive_a_restart(world: World, tmp_path: Path) -> None:
    lookups = world.lookups(cache_dir=tmp_path)
    lookups.gather(TOKENS, SENDER)
    lookups.close()
    again = world.lookups(cache_dir=tmp_path, json_rpc_url=None)
    assert [again.token_info(token) for token in TOKENS] == [INFO] * 5
    assert again.first_transaction(SENDER).source == "node"


def test_nothing_grows_with_hostile_addresses(world: World) -> None:
    lookups = world.lookups(deadline_seconds=0.0, json_rpc_url="http://127.0.0.1:9")
    for number in range(3000):
        with lookups.transaction():
            lookups.gather([f"0x{number:040x}"], f"0x{number:040x}")
    assert all(len(source._in_flight) <= 256 for source in lookups._sources._sources)
    assert all(source._threads._work_queue.qsize() <= 256 for source in lookups._sources._sources)
    assert len(lookups._cache._tokens) == 0
