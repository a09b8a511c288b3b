"""What a node is asked for, and what cannot be simulated; on a local chain."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import pytest

from src.chain.clients.deadline import Deadline
from src.chain.clients.rpc import JsonRpcClient
from src.chain.errors import MalformedAnswer, SourceError
from src.chain.simulation.answers import Simulation
from src.chain.simulation.call import NonceGap, NotSimulated, UnsignedCall
from src.chain.simulation.simulator import SIMULATE, TRACE, Simulator
from src.demo.anvil import Chain, anvil
from src.service.node import decoded_logs
from tests.support.taking_away import node_without
from tests.support.waiting import FOR_EVER

pytestmark = pytest.mark.integration

GWEI = 10**9
# Logs base fee, gas price, coinbase, number, gas limit and chain id: what simulators get wrong.
PROBE = "".join(
    f"{op}60{32 * at:02x}52" for at, op in enumerate(["48", "3a", "41", "43", "45", "46"])
)
PROBE += "60c06000a000"
FORWARDER = (
    "6000600060006000346000355af15000"  # sends its value on to the account in the first word
)

RECURSION = "60006000600060006000305af15000"  # calls itself


def deploying(runtime: str) -> str:
    return f"0x60{len(runtime) // 2:02x}80600b6000396000f3{runtime}"


class Stage(NamedTuple):
    """A chain, its accounts with their next nonces, and contracts."""

    chain: Chain
    one: str
    two: str
    probe: str
    forwarder: str

    def nonce(self, account: str) -> int:
        return int(self.chain.rpc("eth_getTransactionCount", account, "latest"), 16)

    def call(self, **changes: Any) -> UnsignedCall:
        usual = {"sender": self.one, "to": self.two, "gas": 100_000, "nonce": self.nonce(self.one),
                 "max_fee_per_gas": 100 * GWEI, "max_priority_fee_per_gas": GWEI}  # fmt: skip
        return UnsignedCall(**(usual | changes))


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with anvil(timestamp=1_700_000_000) as chain:
        one, two = chain.accounts[:2]
        probe = chain.send(one, data=deploying(PROBE))["contractAddress"]
        forwarder = chain.send(one, data=deploying(FORWARDER))["contractAddress"]
        yield Stage(chain, one, two, probe, forwarder)


@contextmanager
def simulating(url: str) -> Iterator[Simulator]:
    simulator = Simulator(JsonRpcClient(url, timeout=5.0, max_bytes=2**20), chain_id=1)
    try:
        yield simulator
    finally:
        simulator.close()


def simulate(url: str, *calls: UnsignedCall) -> Simulation:
    with simulating(url) as simulator:
        return simulator.simulate(calls, Deadline.after(FOR_EVER))


@pytest.mark.parametrize("methods", [(), (SIMULATE,)])
def test_a_simulation_is_in_the_next_block_at_the_transactions_price(
    stage: Stage, methods: tuple[str, ...]
) -> None:
    call = stage.call(to=stage.probe)
    with node_without(stage.chain.url, *methods) as url:
        simulation = simulate(url, call)
    receipt = stage.chain.send(stage.one, to=stage.probe)
    (simulated,) = simulation.transactions
    assert simulated.logs[0]["data"] == receipt["logs"][0]["data"]
    assert simulated.gas_used == int(receipt["gasUsed"], 16)
    assert simulation.block.number == int(receipt["blockNumber"], 16)
    assert call.price_at(simulation.block.base_fee) == int(receipt["effectiveGasPrice"], 16)
    assert simulation.method == (TRACE if methods else SIMULATE)


@pytest.mark.parametrize("methods", [(), (SIMULATE,)])
def test_native_transfers_are_counted_once(stage: Stage, methods: tuple[str, ...]) -> None:
    target = "0x" + "c5" * 20
    call = stage.call(to=stage.forwarder, value=7, data=bytes(12) + bytes.fromhex(target[2:]))
    with node_without(stage.chain.url, *methods) as url:
        (simulated,) = simulate(url, call).transactions
    native = simulated.native
    moved = decoded_logs(simulated.logs).native if native is None else native
    assert [(one.sender, one.recipient, one.amount) for one in moved] == [
        (stage.one, stage.forwarder, 7), (stage.forwarder, target, 7),
    ]  # fmt: skip


@pytest.mark.parametrize("gas", [100_000, 30_000_000])
def test_calls_within_calls_hide_nothing(stage: Stage, gas: int) -> None:
    """A contract that calls itself until no gas is left."""
    deep = stage.chain.send(stage.one, data=deploying(RECURSION))["contractAddress"]
    call = stage.call(to=deep, value=7, gas=gas)
    with node_without(stage.chain.url, SIMULATE) as url:
        simulated = simulate(url, call)
    assert simulated.method == TRACE
    assert simulated.transactions[0].status == "success"
    assert simulated.transactions[0].native


def test_what_the_caller_leaves_out_is_filled_in(stage: Stage) -> None:
    bare = UnsignedCall(sender=stage.one, to=stage.two, value=1)
    simulation = simulate(stage.chain.url, bare, bare)
    first, second = simulation.calls
    assert (first.nonce, second.nonce) == (stage.nonce(stage.one), stage.nonce(stage.one) + 1)
    assert first.gas_price is not None
    assert first.gas_price >= simulation.block.base_fee
    assert [one.status for one in simulation.transactions] == ["success"] * 2


def test_a_bundle_is_one_simulation_in_order(stage: Stage) -> None:
    poor = "0x" + "ee" * 20
    gift = stage.call(to=poor, value=10**18)
    spends = stage.call(sender=poor, to=stage.two, value=10**17, nonce=0)
    found = simulate(stage.chain.url, gift, spends).transactions
    assert [one.status for one in found] == ["success", "success"]
    with pytest.raises(NotSimulated):
        simulate(stage.chain.url, spends)
    with (
        node_without(stage.chain.url, SIMULATE) as url,
        pytest.raises(NotSimulated, match="single transactions only"),
    ):
        simulate(url, gift, spends)


def test_a_creation_is_simulated_on_a_node_that_refuses_creations(stage: Stage) -> None:
    """Anvil's eth_simulateV1 takes none."""
    simulation = simulate(stage.chain.url, stage.call(to=None, data=bytes.fromhex("600080fd")))
    assert simulation.method == TRACE
    assert simulation.transactions[0].status == "reverts"


@pytest.mark.parametrize("methods", [(), (SIMULATE,)])
def test_what_cannot_be_included_is_not_simulated(stage: Stage, methods: tuple[str, ...]) -> None:
    now = stage.nonce(stage.one)
    refused = {
        "used already": stage.call(nonce=now - 1),
        "not mined yet": stage.call(nonce=now + 2),
        "base fee": stage.call(max_fee_per_gas=1, max_priority_fee_per_gas=1),
        "(?i)insufficient funds": stage.call(value=10**30),
        "(?i)gas": stage.call(gas=20_000),
    }
    with node_without(stage.chain.url, *methods) as url:
        for why, call in refused.items():
            with pytest.raises(NotSimulated, match=why):
                simulate(url, call)
        with pytest.raises(NonceGap) as gap:
            simulate(url, stage.call(nonce=now + 2))
        assert (gap.value.expected, gap.value.given) == (now, now + 2)


def test_the_same_transaction_twice_is_not_simulated(stage: Stage) -> None:
    with pytest.raises(NotSimulated, match="used already"):
        simulate(stage.chain.url, stage.call(), stage.call())


def test_a_node_that_can_neither_says_so_and_is_not_asked_again(stage: Stage) -> None:
    asked: list[str] = []
    with (
        node_without(stage.chain.url, SIMULATE, TRACE, asked=asked) as url,
        simulating(url) as simulator,
    ):
        for _ in range(3):
            with pytest.raises(NotSimulated, match=r"does not simulate: .* does not exist"):
                simulator.simulate([stage.call()], Deadline.after(FOR_EVER))
    assert asked.count(SIMULATE) == 1


def test_a_node_that_follows_the_specification_is_told_nothing(stage: Stage) -> None:
    payloads: list[Any] = []

    def specified(asked: dict[str, Any]) -> dict[str, Any]:
        payload, tag = asked["params"]
        payloads.append((payload["blockStateCalls"][0].get("blockOverrides"), tag))
        return {"result": stage.chain.rpc(SIMULATE, payload, "pending")}

    with node_without(stage.chain.url, **{SIMULATE: specified}) as url:
        simulate(url, stage.call())
    found, *others = payloads
    assert found == (None, stage.chain.rpc("eth_blockNumber"))
    assert others == [(None, "latest")] * 2, "a look at whether it checks nonces, and the call"


def test_a_node_that_checks_nonces_is_asked_for_the_simulation_alone(stage: Stage) -> None:
    asked: list[str] = []

    def specified(request: dict[str, Any]) -> dict[str, Any]:
        payload, _ = request["params"]
        for call in payload["blockStateCalls"][0]["calls"]:
            if int(call["nonce"], 16) > stage.nonce(call["from"]):
                return {"error": {"code": -38011, "message": "nonce too high"}}
        return {"result": stage.chain.rpc(SIMULATE, payload, "pending")}

    with (
        node_without(stage.chain.url, asked=asked, **{SIMULATE: specified}) as url,
        simulating(url) as simulator,
    ):
        simulator.simulate([stage.call()], Deadline.after(FOR_EVER))
        asked.clear()
        simulator.simulate([stage.call()], Deadline.after(FOR_EVER))
        assert asked == [SIMULATE]
        now = stage.nonce(stage.one)
        with pytest.raises(NonceGap) as gap:
            simulator.simulate([stage.call(nonce=now + 2)], Deadline.after(FOR_EVER))
    assert (gap.value.expected, gap.value.given) == (now, now + 2)


def test_a_gap_is_found_before_a_node_that_checks_no_nonces_simulates(stage: Stage) -> None:
    asked: list[str] = []
    with node_without(stage.chain.url, asked=asked) as url, simulating(url) as simulator:
        simulator.simulate([stage.call()], Deadline.after(FOR_EVER))
        asked.clear()
        with pytest.raises(NonceGap):
            simulator.simulate([stage.call(nonce=10**6)], Deadline.after(FOR_EVER))
    assert asked == ["eth_getTransactionCount", "eth_getBlockByNumber"]


def test_a_node_that_refuses_batches_simulates_the_same(stage: Stage) -> None:
    batches: list[int] = []
    with node_without(stage.chain.url, refused=batches) as url:
        simulation = simulate(url, stage.call(to=stage.probe))
    assert batches == [2]
    in_one = simulate(stage.chain.url, stage.call(to=stage.probe))
    assert simulation.block.number == in_one.block.number  # the time goes on between the two
    assert simulation.calls == in_one.calls
    (own,), (other,) = simulation.transactions, in_one.transactions
    assert (own.status, own.gas_used, own.native) == (other.status, other.gas_used, other.native)


@pytest.mark.parametrize("methods", [(), (SIMULATE,)])
def test_what_is_pending_already_is_not_executed_twice(
    stage: Stage, methods: tuple[str, ...]
) -> None:
    """Anvil's pending block has executed it."""
    stage.chain.rpc("evm_setAutomine", False)
    poor = "0x" + f"{0xAB + len(methods):02x}" * 20
    stage.chain.rpc("anvil_setBalance", poor, hex(10**17))
    stage.chain.rpc("anvil_impersonateAccount", poor)
    call = stage.call(sender=poor, value=9 * 10**16, nonce=0, gas=21_000)
    stage.chain.rpc("eth_sendTransaction", call.as_rpc())
    with node_without(stage.chain.url, *methods) as url:
        (found,) = simulate(url, call).transactions
    stage.chain.rpc("evm_mine")
    stage.chain.rpc("evm_setAutomine", True)
    assert found.status == "success"


@pytest.mark.parametrize(
    "lie",
    [
        {"result": None}, {"result": []}, {"result": {"calls": []}}, {"result": "0x"},
        {"result": [{"number": "0x1", "timestamp": "0x1", "calls": [{"status": "0x1"}] * 9}]},
        {"result": "x" * 2**21},
    ],
)  # fmt: skip
def test_a_lying_node_is_an_error_and_no_decision(stage: Stage, lie: dict[str, Any]) -> None:
    with (
        node_without(stage.chain.url, **{SIMULATE: lambda _asked: lie}) as url,
        pytest.raises(MalformedAnswer),
    ):
        simulate(url, stage.call())


@pytest.mark.parametrize("methods", [(), (SIMULATE,)])
def test_a_node_that_was_switched_to_another_chain_simulates_nothing(
    methods: tuple[str, ...],
) -> None:
    """Also not what is signed for no chain, or not signed."""
    with ExitStack() as opened:
        with anvil(timestamp=1_700_000_000) as chain:
            call = UnsignedCall(*chain.accounts[:2])
            url = opened.enter_context(node_without(chain.url, *methods))
            simulator = opened.enter_context(simulating(url))
            assert simulator.simulate([call], Deadline.after(FOR_EVER)).calls
        port = int(chain.url.rpartition(":")[2])
        opened.enter_context(anvil(timestamp=1_700_000_000, port=port, chain_id=5))
        with pytest.raises(NotSimulated, match="chain id"):
            simulator.simulate([call], Deadline.after(FOR_EVER))


def test_a_dead_node_is_an_error(stage: Stage) -> None:
    with pytest.raises(SourceError):
        simulate("http://127.0.0.1:9", stage.call())
    with simulating(stage.chain.url) as simulator, pytest.raises(SourceError):
        simulator.simulate([stage.call()], Deadline.after(0.0))
