"""The sources are asked in order, and what is known is not asked for."""

import json

import pytest
from werkzeug import Response

from src.chain.errors import (
    NotConfigured,
    NotFound,
    RequestRefused,
)
from src.chain.facts import FirstTransaction, Unknown
from src.chain.lookups.build import build_lookups
from tests.chain.lookups.world import (
    BLOCK,
    INFO,
    KEY,
    SENDER,
    TOKENS,
    USDC,
    World,
    ethplorer_answer,
)
from tests.support.fake_chain import (
    NO_TRANSACTIONS,
    block_timestamp,
    etherscan_answer,
)


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
    lookups.gather(TOKENS, SENDER)
    lookups.close()


@pytest.mark.parametrize("address", ["", "0x12", "USDC", "0x" + "g" * 40, "0x" + "1" * 5000])
def test_what_is_not_an_address_is_never_asked_about(world: World, address: str) -> None:
    lookups = world.lookups()
    with pytest.raises(RequestRefused):
        lookups.token_info(address)
    with pytest.raises(RequestRefused):
        lookups.first_transaction(address)
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
