"""What an account held a block before: asked of the node, and unknown if it does not know."""

from collections.abc import Iterator
from contextlib import contextmanager

from src.chain.lookups.build import build_lookups
from src.chain.lookups.lookups import Lookups
from src.chain.transfers import ZERO_ADDRESS
from src.demo.anvil import anvil
from src.demo.contracts import compile_contracts
from tests.conftest import ALICE, BOB, USDC
from tests.support.fake_chain import FakeNode, serve
from tests.support.waiting import FOR_EVER

BLOCK = 20_000_000


@contextmanager
def lookups_at(url: str) -> Iterator[Lookups]:
    lookups = build_lookups(json_rpc_url=url, deadline_seconds=FOR_EVER, timeout_seconds=FOR_EVER)
    try:
        yield lookups
    finally:
        lookups.close()


def test_balances_come_from_the_node_and_unknown_ones_are_left_out() -> None:
    node = FakeNode(balances={(ALICE, USDC): 7}, oldest_state=BLOCK)
    with serve(node.answer) as url, lookups_at(url) as lookups:
        wanted = [(ALICE, USDC), (BOB, USDC)]
        assert lookups.balances(wanted, BLOCK + 1, BLOCK) == {(ALICE, USDC): (7, 7)}
        assert lookups.balances(wanted, BLOCK, BLOCK - 1) == {(ALICE, USDC): (7, None)}  # pruned
        assert lookups.balances(wanted, BLOCK - 1, BLOCK - 2) == {}
        node.balances[ALICE, USDC] = 5  # nothing is remembered
        assert lookups.balances(wanted, BLOCK, BLOCK) == {(ALICE, USDC): (5, 5)}
    assert not lookups.health()


def test_without_a_node_nothing_is_known() -> None:
    lookups = build_lookups()
    assert lookups.balances([(ALICE, USDC)], BLOCK, BLOCK) == {}
    lookups.close()


def test_a_real_node_knows_the_balance_before_a_payment() -> None:
    code = compile_contracts()["Token"]
    with anvil(timestamp=1_700_000_000) as chain:
        owner, other = chain.accounts[:2]
        token = chain.deploy(owner, code)
        chain.send(owner, to=token, data=code.call("mint(address,uint256)", owner, 100))
        paid = chain.send(owner, to=token, data=code.call("transfer(address,uint256)", other, 99))
        block = int(paid["blockNumber"], 16)
        with lookups_at(chain.url) as lookups:
            holdings = [(owner, token), (other, token)]
            found = lookups.balances(holdings, block, block - 1)
            assert found == {(owner, token): (1, 100), (other, token): (99, 0)}
            supply = lookups.balances([(ZERO_ADDRESS, token)], block, block - 2)
            assert supply == {(ZERO_ADDRESS, token): (100, 0)}
