"""Whether a token's contract existed a day before: a fact like others, and often unknown."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.chain.clients.circuit_breaker import DEFAULT_PAUSE_SECONDS
from src.chain.clients.rpc import JsonRpcClient
from src.chain.errors import SourceUnavailable
from src.chain.facts import CodeAt, Deployment, Facts
from src.chain.lookups.build import build_lookups
from src.chain.lookups.deployment import code_at, question
from src.chain.lookups.lookups import Lookups
from src.chain.networks import block_a_day_before, network, networks
from src.demo.anvil import anvil
from tests.support.fake_chain import FakeNode, serve, usual_token
from tests.support.waiting import FOR_EVER, FakeClock

USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
OLD, YOUNG = "0x" + "01" * 20, "0x" + "02" * 20
BLOCK = 20_000_000
A_DAY = 7_200
HOUR = 300
"""Blocks of mainnet."""


@pytest.fixture
def node() -> FakeNode:
    return FakeNode(
        tokens={token: usual_token() for token in (OLD, YOUNG)},
        deployed_in_block={YOUNG: BLOCK - 1_000},
    )


@contextmanager
def lookups_of(node: FakeNode, **settings: Any) -> Iterator[Lookups]:
    patient = {"deadline_seconds": FOR_EVER, "timeout_seconds": FOR_EVER}
    with serve(node.answer) as url:
        lookups = build_lookups(json_rpc_url=url, **(patient | settings))
        try:
            yield lookups
        finally:
            lookups.close()


def gather(lookups: Lookups, *tokens: str, block: int | None = BLOCK) -> Facts:
    return lookups.gather(tokens, None, block)


# The block that is asked about


@given(st.integers(0, 10**9), st.sampled_from(sorted(networks())))
def test_the_block_asked_about_is_a_day_old_and_stays_the_same_for_an_hour(
    block: int, chain_id: int
) -> None:
    seconds = network(chain_id).seconds_per_block
    assert seconds is not None
    hour = round(3_600 / seconds)
    earlier = block_a_day_before(block, seconds)
    if earlier is None:
        assert block < 24 * hour
        return
    assert 24 * hour <= block - earlier < 25 * hour
    assert earlier % hour == 0
    assert block_a_day_before(block - block % hour, seconds) == earlier


def test_without_a_block_or_a_known_chain_there_is_nothing_to_ask() -> None:
    assert block_a_day_before(None, 12) is None
    assert block_a_day_before(BLOCK, None) is None
    assert block_a_day_before(A_DAY - 1, 12) is None
    assert block_a_day_before(A_DAY, 12) == 0


# The pace of years ago

YEARS_AGO = 1_600_000_000


@pytest.mark.parametrize(
    ("chain_id", "then_seconds"), [(56, 3.0), (42161, 1.0), (42161, 0.1)], ids=str
)
def test_a_day_is_measured_where_blocks_came_at_another_pace(
    node: FakeNode, chain_id: int, then_seconds: float
) -> None:
    hours = round(3_600 / then_seconds)
    node.deployed_in_block = {OLD: BLOCK - 30 * hours, YOUNG: BLOCK - 20 * hours}
    node.eth_getBlockByNumber = lambda block, _: {  # type: ignore[method-assign]
        "timestamp": hex(round(YEARS_AGO + then_seconds * (int(block, 16) - BLOCK)))
    }
    with lookups_of(node, chain_id=chain_id) as lookups:
        for block in (BLOCK, BLOCK + 1):
            facts = lookups.gather([OLD, YOUNG], None, block, timestamp=YEARS_AGO)
            assert facts.reputations == {OLD: True, YOUNG: False}
        assert node.calls.count("eth_getBlockByNumber") == 2  # for all blocks of the hour
        # By its present pace the chain would have made a day's blocks in another time.
        assert gather(lookups, OLD, YOUNG).reputations != facts.reputations


@pytest.mark.parametrize("answer", [None, {}, {"timestamp": "0x5"}, {"timestamp": "soon"}])
def test_an_age_that_cannot_be_measured_is_unknown(node: FakeNode, answer: object) -> None:
    node.eth_getBlockByNumber = lambda *_: answer  # type: ignore[assignment, method-assign]
    with lookups_of(node) as lookups:
        facts = lookups.gather([OLD, YOUNG], None, BLOCK, timestamp=YEARS_AGO)
        assert facts.reputations == {}
        assert sorted(facts.tokens) == [OLD, YOUNG]
        now = int(time.time())
        assert lookups.gather([OLD], None, BLOCK, timestamp=now).reputations == {OLD: True}


# What is known of a contract


@given(st.lists(st.integers(0, 30), max_size=8), st.integers(0, 30), st.integers(0, 30))
def test_answers_about_single_blocks_add_up_in_any_order(
    asked: list[int], deployed: int, block: int
) -> None:
    known = Deployment()
    for number in asked:
        known = known.with_answer(CodeAt(OLD, number, exists=number >= deployed))
    told = known.existed_at(block)
    assert told in (None, block >= deployed)
    if block in asked:
        assert told is not None


def test_a_contract_that_was_destroyed_and_made_again_stays_known() -> None:
    known = Deployment().with_answer(CodeAt(OLD, 10, exists=True))
    known = known.with_answer(CodeAt(OLD, 20, exists=False))
    assert known.existed_at(20)
    assert known.existed_at(5) is False or known.existed_at(5) is None


# Asking


def test_reputations_come_with_the_other_facts(node: FakeNode) -> None:
    with lookups_of(node) as lookups:
        facts = gather(lookups, USDC, OLD, YOUNG)
        assert facts.reputations == {USDC: True, OLD: True, YOUNG: False}
        assert facts.tokens_without_reputation == {YOUNG}
        assert sorted(facts.tokens) == sorted([USDC, OLD, YOUNG])
        assert node.calls.count("eth_getCode") == 2


def test_what_is_known_is_not_asked_again(node: FakeNode) -> None:
    with lookups_of(node) as lookups:
        first = gather(lookups, OLD, YOUNG)
        asked = len(node.calls)
        for block in range(BLOCK, BLOCK + HOUR - BLOCK % HOUR):
            assert gather(lookups, OLD, YOUNG, block=block) == first
        assert len(node.calls) == asked
        # A known contract stays known; a young one is asked about again an hour later.
        assert gather(lookups, OLD, YOUNG, block=BLOCK + HOUR) == first
        assert node.calls[asked:] == ["eth_getCode"]
        later = gather(lookups, YOUNG, block=BLOCK + 2 * A_DAY)
        assert later.reputations == {YOUNG: True}


def test_a_contract_made_in_the_block_itself_is_young(node: FakeNode) -> None:
    node.deployed_in_block = {YOUNG: BLOCK}
    with lookups_of(node) as lookups:
        assert gather(lookups, YOUNG).reputations == {YOUNG: False}


def test_an_earlier_transaction_is_judged_by_its_own_day(node: FakeNode) -> None:
    """As a replay does: what is known later is no answer to what was known then."""
    with lookups_of(node) as lookups:
        assert gather(lookups, YOUNG, block=BLOCK + A_DAY).reputations == {YOUNG: True}
        assert gather(lookups, YOUNG).reputations == {YOUNG: False}
        assert gather(lookups, YOUNG, block=BLOCK + A_DAY).reputations == {YOUNG: True}


def test_a_node_without_old_states_leaves_reputations_unknown(node: FakeNode) -> None:
    node.oldest_state = BLOCK - 128
    clock = FakeClock()
    with lookups_of(node, clock=clock) as lookups:
        for _ in range(20):
            facts = gather(lookups, OLD, YOUNG)
            assert facts.reputations == {}
            assert sorted(facts.tokens) == [OLD, YOUNG]  # the node answers everything else
        assert node.calls.count("eth_getCode") <= 10
        (problem,) = lookups.health()
        assert "every token counts as known" in problem
        node.oldest_state = 0
        clock.now += DEFAULT_PAUSE_SECONDS
        gather(lookups, OLD)
        assert gather(lookups, OLD, YOUNG).reputations == {OLD: True, YOUNG: False}
        assert lookups.health() == []


@pytest.mark.parametrize("answer", [None, "", "0x6", 7, {}, "missing trie node"])
def test_an_answer_that_is_no_code_is_no_answer(node: FakeNode, answer: object) -> None:
    node.eth_getCode = lambda _address, _block: answer  # type: ignore[assignment, method-assign]
    with serve(node.answer) as url:
        client = JsonRpcClient(url)
        with pytest.raises(SourceUnavailable, match="node history: no code at block 5"):
            code_at(client, question(OLD, 5))
        client.close()


def test_without_a_node_a_chain_or_a_block_reputations_are_unknown(node: FakeNode) -> None:
    lookups = build_lookups()
    assert gather(lookups, USDC, OLD).reputations == {USDC: True}
    lookups.close()
    with lookups_of(node, chain_id=424_242) as lookups:
        assert gather(lookups, OLD).reputations == {}
    with lookups_of(node) as lookups:
        assert gather(lookups, OLD, block=None).reputations == {}
    assert "eth_getCode" not in node.calls
    with lookups_of(node, chain_id=424_242, seconds_per_block=12) as lookups:
        assert gather(lookups, OLD, YOUNG).reputations == {OLD: True, YOUNG: False}


def test_reputations_survive_a_restart(node: FakeNode, tmp_path: Path) -> None:
    with lookups_of(node, cache_dir=tmp_path) as lookups:
        first = gather(lookups, OLD, YOUNG)
    asked = len(node.calls)
    with lookups_of(node, cache_dir=tmp_path) as lookups:
        assert gather(lookups, OLD, YOUNG) == first
    assert len(node.calls) == asked


@pytest.mark.integration
def test_a_real_node_tells_when_a_contract_appeared() -> None:
    with anvil(timestamp=1_700_000_000) as chain:
        creation = "0x6160015f52600260 1ef3".replace(" ", "")  # code of two bytes
        chain.mine(20)
        created = chain.send(chain.accounts[0], data=creation)
        contract, block = str(created["contractAddress"]).lower(), int(created["blockNumber"], 16)
        chain.mine(20)
        node = JsonRpcClient(chain.url)
        answers = [
            code_at(node, question(contract, n)).exists for n in (block - 1, block, block + 9)
        ]
        node.close()
        assert answers == [False, True, True]
