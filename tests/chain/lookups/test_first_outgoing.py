"""The node finds an account's first outgoing transaction, in few requests."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.chain.clients.rpc import JsonRpcClient
from src.chain.errors import MalformedAnswer, NotFound, RequestRefused
from src.chain.facts import FirstTransaction
from src.chain.lookups.first_transaction import first_outgoing_transaction
from tests.support.fake_chain import FakeNode, block_timestamp, serve

SENDER = "0x" + "5e" * 20
BLOCK = 20_000_000


@settings(max_examples=20, deadline=None)
@given(st.integers(0, BLOCK), st.integers(0, BLOCK))
def test_first_block_is_found_in_about_thirty_requests(first: int, second: int) -> None:
    fake = FakeNode(sent_in_blocks={SENDER: [first, second, BLOCK]})
    with serve(fake.answer) as url:
        found = first_outgoing_transaction(JsonRpcClient(url), SENDER, BLOCK)
    assert found == FirstTransaction(block_timestamp(min(first, second)), "node")
    assert len(fake.calls) <= 34


@pytest.mark.parametrize(("age", "requests"), [(0, 3), (1, 7), (15, 7), (16, 12), (200, 12)])
def test_young_accounts_take_few_requests(age: int, requests: int) -> None:
    fake = FakeNode(sent_in_blocks={SENDER: [BLOCK - age, BLOCK]})
    with serve(fake.answer) as url:
        found = first_outgoing_transaction(JsonRpcClient(url), SENDER, BLOCK)
    assert found.timestamp == block_timestamp(BLOCK - age)
    assert len(fake.calls) <= requests


@pytest.mark.parametrize("head", [0, 1, 2])
def test_young_chains_are_searched_to_their_first_block(head: int) -> None:
    with serve(FakeNode(sent_in_blocks={SENDER: [head]}, head=head).answer) as url:
        found = first_outgoing_transaction(JsonRpcClient(url), SENDER)
    assert found.timestamp == block_timestamp(head)


def test_account_that_never_sent_is_not_found() -> None:
    with serve(FakeNode().answer) as url, pytest.raises(NotFound):
        first_outgoing_transaction(JsonRpcClient(url), SENDER)


class NodeWithoutOldStates(FakeNode):
    def eth_getTransactionCount(self, address: str, block: str) -> str:  # noqa: N802
        if int(block, 16) < BLOCK - 128:
            raise ValueError("missing trie node")
        return super().eth_getTransactionCount(address, block)


def test_node_without_old_states_answers_for_young_accounts_only() -> None:
    old = "0x" + "01" * 20
    fake = NodeWithoutOldStates(sent_in_blocks={SENDER: [BLOCK - 10], old: [5]})
    with serve(fake.answer) as url:
        node = JsonRpcClient(url)
        found = first_outgoing_transaction(node, SENDER, BLOCK)
        assert found.timestamp == block_timestamp(BLOCK - 10)
        with pytest.raises(RequestRefused):
            first_outgoing_transaction(node, old, BLOCK)


@pytest.mark.parametrize("quantity", ["", "0x", "7", None, 7, "0x_1", "0xzz", "0x" + "f" * 40, []])
def test_quantities_of_any_other_form_are_malformed(quantity: object) -> None:
    class LyingNode(FakeNode):
        def eth_getTransactionCount(self, address: str, block: str) -> object:  # type: ignore[override]  # noqa: N802
            return quantity

    with serve(LyingNode().answer) as url, pytest.raises(MalformedAnswer):
        first_outgoing_transaction(JsonRpcClient(url), SENDER, BLOCK)


@pytest.mark.parametrize("timestamp", ["0x0", hex(2**62), None])
def test_block_with_an_impossible_time_is_malformed(timestamp: object) -> None:
    class LyingNode(FakeNode):
        def eth_getBlockByNumber(self, block: str, _full: bool) -> object:  # type: ignore[override]  # noqa: N802
            return {"timestamp": timestamp}

    fake = LyingNode(sent_in_blocks={SENDER: [BLOCK]})
    with serve(fake.answer) as url, pytest.raises(MalformedAnswer):
        first_outgoing_transaction(JsonRpcClient(url), SENDER, BLOCK)
