"""A screening decides as the same transaction is decided on once it is mined."""

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import pytest
from eth_account import Account

from src.chain.clients.deadline import Deadline
from src.chain.simulation.answers import Simulation
from src.chain.simulation.call import NonceGap, NotSimulated, UnsignedCall
from src.chain.simulation.raw import decode_raw
from src.chain.simulation.simulator import SIMULATE, TRACE, Simulator
from src.demo import scenarios
from src.demo import world as stage
from src.demo.anvil import anvil
from src.demo.guarded import signer
from src.demo.scenarios import SCENARIOS
from src.demo.world import DAI, USDC, USDT, WETH, World
from src.detection.records import Action
from src.service.context import open_screener
from src.service.decider import Decider
from src.service.screening import screener as module
from src.service.screening.screener import Screener
from tests.service.chain import common_settings
from tests.service.screening.pairs import Pair, assert_same, screened_world
from tests.support import raw_server
from tests.support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.integration

# Of Anvil's first account.
KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
PLAYED_WITH = {SIMULATE: (), TRACE: (SIMULATE,)}
"""Methods that the node lacks, by the one that is left."""


@pytest.fixture(scope="module", params=PLAYED_WITH)
def played(request: pytest.FixtureRequest) -> Iterator[dict[str, list[Pair]]]:
    with screened_world(*PLAYED_WITH[request.param]) as (world, pairs):
        found = {}
        for scenario in SCENARIOS:
            scenario.play(world)
            found[scenario.key] = pairs()
        yield found


def test_simulated_and_mined_decisions_of_the_demo_are_the_same(
    played: dict[str, list[Pair]],
) -> None:
    assert set(played) == {one.key for one in SCENARIOS}
    for pair in [one for pairs in played.values() for one in pairs]:
        assert_same(pair)
        assert pair.screening.transactions[0].outcome.decision.action == pair.screening.action


def test_the_theft_is_blocked_before_it_is_mined(played: dict[str, list[Pair]]) -> None:
    theft = played["theft"][-1].screening
    assert theft.action is Action.BLOCK
    assert theft.sentence.startswith("0x")
    assert any("repays token WETH (0xc02aaa" in reason for reason in theft.reasons)
    assert not any("0.8" in reason for reason in theft.reasons), "scores are details"


@pytest.mark.parametrize("method", PLAYED_WITH)
def test_decisions_on_100_generated_transactions_are_the_same(method: str) -> None:
    with screened_world(*PLAYED_WITH[method]) as (world, pairs):
        chance = random.Random(f"screening {method}")
        accounts = world.chain.accounts[1:8]
        for account in accounts:
            for token in (USDC, USDT, DAI, WETH):
                stage.mint(world, world.tokens[token], account, 10**6)
        pairs()
        while len(world.chain.sent) < 100:  # type: ignore[attr-defined]
            generated(world, chance, accounts)
        found = pairs()
        for pair in found:
            assert_same(pair)
    assert len({len(pair.mined.transfers) for pair in found}) > 8, "they differ from one another"
    assert sum(len(pair.mined.transfers) > 1 for pair in found) > 10


def generated(world: World, chance: random.Random, accounts: list[str]) -> None:
    """A payment, a swap, wages or ether, of an amount between dust and most of what there is."""
    sender, payee = chance.sample(accounts, 2)
    amount = 10 ** chance.uniform(-3, 5)
    token, other = chance.sample([USDC, DAI, WETH], 2)
    if token is not WETH:
        other = WETH  # what there is a market for
    match chance.choice(["payment", "swap", "wages", "ether"]):
        case "payment":
            scenarios._pay(world, sender, token, payee, amount)
        case "swap":
            scenarios._swap(world, sender, min(amount, 10**3), token, other)
        case "wages":
            usdt = world.tokens[USDT]
            stage.approve(world, usdt, sender, world.disperse)
            receivers = [f"0x{chance.getrandbits(160):040x}" for _ in range(chance.randint(1, 30))]
            each = [usdt.units(amount / 50)] * len(receivers)
            signature = "disperse(address,address[],uint256[])"
            data = world.code["Disperse"].call(signature, usdt.address, receivers, each)
            world.chain.send(sender, to=world.disperse, data=data)
        case _:
            world.chain.send(sender, to=payee, value=int(amount * 10**12))


@pytest.fixture(scope="module")
def screener() -> Iterator[Screener]:
    with ExitStack() as opened:
        chain = opened.enter_context(anvil(timestamp=1_700_000_000))
        common = common_settings(chain.url)
        decider = Decider(common)
        opened.callback(decider.close)
        yield open_screener(opened, common, decider)


def raw(nonce: int, key: str | bytes = KEY, **changes: object) -> bytes:
    usual = {
        "to": "0x" + "11" * 20, "value": 1, "nonce": nonce, "gas": 21_000, "chainId": 1,
        "maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**9,
    }  # fmt: skip
    return bytes(Account.sign_transaction(usual | changes, key).raw_transaction)


def test_a_nonce_ahead_is_unknown_unless_what_comes_before_is_known(screener: Screener) -> None:
    ahead = screener.screen([raw(2)])
    assert (ahead.status, ahead.action) == ("unknown", Action.REVIEW)
    assert "not mined yet" in ahead.problem
    assert screener.screen([raw(0)]).status == "success"
    assert screener.screen([raw(2)]).status == "unknown", "nonce 1 is missing"
    assert screener.screen([raw(1)]).status == "success"
    found = screener.screen([raw(2)])
    assert found.status == "success"
    assert len(found.transactions) == 1
    assert found.transactions[0].transaction.nonce == 2


def test_behind_two_transactions_of_one_nonce_it_is_unknown(screener: Screener) -> None:
    """Whichever of the two is mined, it could have been simulated behind the other one."""
    key = signer(1).key
    for payee in ("22", "11", "11"):
        assert screener.screen([raw(0, key, to="0x" + 20 * payee)]).status == "success"
    assert screener.screen([raw(1, key)]).status == "unknown"


def test_behind_one_that_was_sent_again_for_a_higher_price_it_is_simulated(
    screener: Screener,
) -> None:
    key = signer(2).key
    for nonce, price in ((0, 10**11), (0, 2 * 10**11), (1, 10**11)):
        assert screener.screen([raw(nonce, key, maxFeePerGas=price)]).status == "success"


def test_what_is_remembered_of_transactions_is_bounded_in_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Anybody can sign large transactions for as many senders as they like."""
    monkeypatch.setattr(module, "_MAX_RECENT_BYTES", 10_000)
    recent = module._RecentTransactions()
    calls = [UnsignedCall(f"0x{number:040x}", data=bytes(3_000), nonce=5) for number in range(50)]
    for call in calls:
        recent.enter(call)
        recent.enter(replace(call, gas_price=7))
    assert sum(len(call.data) for call in recent._calls.values() if call) == recent._bytes == 9_000
    assert recent.between(calls[-1].sender, 5, 6, 0.0) == [replace(calls[-1], gas_price=7)]
    assert recent.between(calls[0].sender, 5, 6, 0.0) == []


def test_a_decision_is_on_its_own_transaction_not_on_what_comes_before(screener: Screener) -> None:
    """Else it is compared, once that is mined, with what another one did."""
    account = signer(4)
    own = raw(1, account.key, value=2 * 10**18)
    found = screener.screen([own], [raw(0, account.key, value=10**18)])
    assert found.tx_hash == decode_raw(own).tx_hash
    assert "sent 2 ETH" in found.sentence
    assert "sent 1 ETH" not in found.sentence
    assert len(found.transactions) == 1


def test_of_two_that_are_sent_at_once_the_later_one_may_arrive_first(
    screener: Screener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ARRIVING_SECONDS", PATIENCE)
    account = signer(3)
    with ThreadPoolExecutor(1) as pool:
        later = pool.submit(screener.screen, [raw(1, account.key)])
        wait_until(lambda: (account.address.lower(), 1) in screener._recent._calls)
        assert screener.screen([raw(0, account.key)]).status == "success"
        assert later.result().status == "success"


class Behind:
    """A simulator whose node counts without a transaction that it has executed, for a while."""

    def __init__(self, simulator: Simulator, times: int) -> None:
        self.simulator = simulator
        self.times = times

    def simulate(self, calls: Sequence[UnsignedCall], deadline: Deadline) -> Simulation:
        call = calls[-1]
        self.times -= 1
        if self.times < 0:
            return self.simulator.simulate(calls, deadline)
        assert call.nonce is not None
        if len(calls) == 1:
            raise NonceGap(call.sender, call.nonce - 1, call.nonce)
        raise NotSimulated("the node does not simulate it: nonce too low")


def test_a_node_that_is_behind_itself_for_a_moment_is_asked_again(
    screener: Screener, monkeypatch: pytest.MonkeyPatch
) -> None:
    screener._recent.enter(decode_raw(raw(0)).call)
    behind = Behind(screener._simulator, 4)
    monkeypatch.setattr(screener, "_simulator", behind)
    assert screener.screen([raw(1)]).status == "success"
    behind.times = 100
    problem = screener.screen([raw(1)]).problem
    assert "comes after 1 transactions" in problem
    assert "nonce too low" in problem


def test_a_transaction_for_another_chain_is_unknown(screener: Screener) -> None:
    found = screener.screen([raw(0, chainId=5)])
    assert (found.status, found.action) == ("unknown", Action.REVIEW)
    assert "chain 5" in found.problem
    assert found.tx_hash is not None


def test_a_payment_of_ether_is_told_and_one_that_fails_moves_nothing(screener: Screener) -> None:
    paid = screener.screen([raw(0, value=10**18)])
    assert paid.sentence == "0xf39fd6…2266 (1st transaction) sent 1 ETH to 0x111111…1111."
    failing = screener.screen([raw(0, value=10**18, to="", data="0xfe", gas=100_000)])
    assert (failing.status, failing.sentence) == ("reverts", "")


def test_a_node_that_hangs_is_waited_for_as_long_as_the_caller_says(screener: Screener) -> None:
    decider = screener._decider
    with ExitStack() as opened:
        url = opened.enter_context(raw_server.raw_server(raw_server.hang))
        common = replace(decider.settings, json_rpc_url=url)
        found = open_screener(opened, common, decider, 0.05).screen([raw(0)])
    assert found.status == "unknown"
    assert "timed out" in found.problem


def test_what_is_not_simulated_is_known_by_its_hash(screener: Screener) -> None:
    found = screener.unknown([raw(0)], "not screened within 2 s")
    assert (found.status, found.action) == ("unknown", Action.REVIEW)
    signed = decode_raw(raw(0))
    assert (found.tx_hash, found.sender) == (signed.tx_hash, signed.call.sender)
    assert screener.unknown([b"no transaction"], "failed").tx_hash is None


def test_the_same_transaction_twice_is_unknown(screener: Screener) -> None:
    found = screener.screen([raw(0), raw(0)])
    assert found.status == "unknown"
    assert "used already" in found.problem
    assert found.tx_hash is not None
    assert found.sender == Account.from_key(KEY).address.lower()


@pytest.mark.parametrize("transactions", [[], [b"\x02"], [b""], [bytes(3_000_000)], [raw(0)] * 17])
def test_whatever_is_screened_there_is_an_answer(
    screener: Screener, transactions: list[bytes]
) -> None:
    found = screener.screen(transactions)
    assert (found.status, found.action) == ("unknown", Action.REVIEW)
    assert found.problem
    assert found.reasons


def test_decisions_have_ids_of_their_own(screener: Screener) -> None:
    assert screener.screen([raw(0)]).decision_id != screener.screen([raw(0)]).decision_id
