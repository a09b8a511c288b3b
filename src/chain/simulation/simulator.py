"""Simulations by a node: `eth_simulateV1`, else `debug_traceCall`.

A simulation is *faithful*: it is in the next block, with that block's base fee, at the price and
with the nonce of the transaction itself, validated, and nothing of the chain's state is overridden.
Contracts look for simulators, which often have a base fee or a gas price of zero.
"""

import math
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

from src.chain.clients.deadline import Deadline
from src.chain.clients.rpc import JsonRpcClient
from src.chain.clients.rpc_errors import NO_SUCH_METHOD_CODES, SIMULATION_CODES
from src.chain.errors import MalformedAnswer, RequestRefused
from src.chain.quantities import as_int
from src.chain.simulation.answers import (
    Header,
    Simulation,
    header_of,
    simulated_block,
    traced_call,
)
from src.chain.simulation.call import NonceGap, NotSimulated, UnsignedCall
from src.chain.transfers import ZERO_ADDRESS

SIMULATE: Final = "eth_simulateV1"
TRACE: Final = "debug_traceCall"
MAX_CALLS: Final = 16
"""Of one simulation."""

_AT_ONCE = 8
_LOOK_AGAIN_SECONDS = 600.0
_TRACER: Final = {"tracer": "callTracer", "tracerConfig": {"withLog": True}}


@dataclass(frozen=True, slots=True)
class _Way:
    """How a node simulates."""

    method: str  # `SIMULATE`, `TRACE`, or "" if it does not
    # Whether it has to be told the number, time and base fee of the next block; if not, `SIMULATE`
    # is in the next block, and `TRACE` in the newest one.
    describes_block: bool
    why: str = ""  # why it is not `SIMULATE`
    until: float = math.inf  # on the monotonic clock, when to look for a better one


class Simulator:
    """Simulates on one node. Thread-safe.

    Args:
        node: the connection; its limits on time and size apply. It is closed with the simulator.
    """

    def __init__(self, node: JsonRpcClient) -> None:
        self._node = node
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="simulate")
        self._way: _Way | None = None
        self._finding = threading.Lock()

    @property
    def way(self) -> str:
        """What the node is asked, and why not something better; "" before the first simulation."""
        way = self._way
        if way is None:
            return ""
        return f"{way.method or 'nothing'}: {way.why}" if way.why else way.method

    def simulate(self, calls: Sequence[UnsignedCall], deadline: Deadline) -> Simulation:
        """Simulate transactions in order, each on the state that the one before leaves.

        Raises:
            NonceGap: earlier transactions of a sender are missing.
            NotSimulated: they could not be included, or the node does not simulate them.
            SourceError: the node does not answer.
        """
        if not 0 < len(calls) <= MAX_CALLS:
            raise NotSimulated(f"a simulation has 1 to {MAX_CALLS} transactions")
        way = self._current_way(deadline)
        if not way.method:
            raise NotSimulated(f"the node does not simulate: {way.why}")
        counts = {
            sender: self._start("eth_getTransactionCount", [sender, "latest"], deadline)
            for sender in dict.fromkeys(call.sender for call in calls)
        }
        calls = self._completed(calls, counts, deadline)
        try:
            simulation = self._ask(way, calls, deadline)
        except RequestRefused as error:
            if error.code in NO_SUCH_METHOD_CODES:
                self._way = None  # another backend, or another version
            _check_nonces(calls, counts)
            simulation = self._ask_otherwise(way, calls, error, deadline)
        _check_nonces(calls, counts)
        _check_prices(calls, simulation.block)
        return simulation

    def close(self) -> None:
        """Cancel requests and close the connections."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._node.close()

    def _start(self, method: str, params: list[Any], deadline: Deadline) -> Future[Any]:
        return self._pool.submit(self._node.call, method, params, deadline)

    def _completed(
        self,
        calls: Sequence[UnsignedCall],
        counts: Mapping[str, Future[Any]],
        deadline: Deadline,
    ) -> list[UnsignedCall]:
        """The transactions with the nonces, prices and gas limits that they lack."""
        price = None
        if any(call.max_price is None for call in calls):
            price = self._start("eth_gasPrice", [], deadline)
        sent = dict.fromkeys(counts, 0)
        complete = []
        for given in calls:
            call = given
            if call.nonce is None:
                call = replace(call, nonce=_count(counts[call.sender]) + sent[call.sender])
            sent[call.sender] += 1
            if price is not None and call.max_price is None:
                # The base fee rises by an eighth at most from block to block.
                suggested = as_int(price.result()) or 0
                call = replace(call, gas_price=suggested + suggested // 8 + 1)
            if call.gas is None:
                call = replace(call, gas=self._estimated(call, deadline))
            complete.append(call)
        return complete

    def _estimated(self, call: UnsignedCall, deadline: Deadline) -> int | None:
        """A gas limit; None where the node finds none, as for a call that reverts."""
        asked = {name: value for name, value in call.as_rpc().items() if name != "nonce"}
        try:
            estimate = as_int(self._node.call("eth_estimateGas", [asked], deadline))
        except RequestRefused:
            return None
        return None if estimate is None or estimate >= 2**62 else estimate * 3 // 2

    def _ask(self, way: _Way, calls: Sequence[UnsignedCall], deadline: Deadline) -> Simulation:
        header: Header | None = None
        overrides: dict[str, Any] = {}
        if way.method == TRACE or way.describes_block:
            tag = "pending" if way.describes_block else "latest"
            header = header_of(self._node.call("eth_getBlockByNumber", [tag, False], deadline))
        if header is not None and way.describes_block:
            overrides = _overrides(header)
        if way.method == SIMULATE:
            payload = _payload(calls, overrides)
            answer = self._node.call(SIMULATE, [payload, "latest"], deadline)
            answered, simulated = simulated_block(answer, len(calls))
            return Simulation(header or answered, tuple(calls), simulated, SIMULATE)
        if len(calls) > 1:
            raise NotSimulated(f"the node simulates single transactions only: {way.why}")
        options = _TRACER | overrides
        answer = self._node.call(TRACE, [calls[0].as_rpc(), "latest", options], deadline)
        assert header is not None  # noqa: S101
        return Simulation(header, tuple(calls), (traced_call(answer),), TRACE)

    def _ask_otherwise(
        self, way: _Way, calls: Sequence[UnsignedCall], error: RequestRefused, deadline: Deadline
    ) -> Simulation:
        """What `SIMULATE` refuses for no fault of the transaction, `TRACE` may take.

        Anvil's does not take contract creations.
        """
        refused = NotSimulated(f"the node does not simulate it: {error.problem}")
        if way.method != SIMULATE or len(calls) > 1 or error.code in SIMULATION_CODES:
            raise refused from None
        try:
            return self._ask(replace(way, method=TRACE, describes_block=True), calls, deadline)
        except RequestRefused:
            raise refused from None

    def _current_way(self, deadline: Deadline) -> _Way:
        way = self._way
        if way is not None and time.monotonic() < way.until:
            return way
        with self._finding:
            if self._way is way:  # no other thread has found it meanwhile
                self._way = self._find_way(deadline)
            return self._way or self._find_way(deadline)

    def _find_way(self, deadline: Deadline) -> _Way:
        head = as_int(self._node.call("eth_blockNumber", [], deadline))
        if head is None:
            raise MalformedAnswer("node", "eth_blockNumber did not return a quantity")
        until = time.monotonic() + _LOOK_AGAIN_SECONDS
        try:
            answer = self._node.call(SIMULATE, [_payload([], {}), hex(head)], deadline)
        except RequestRefused as error:
            why = error.problem
        else:
            # The specification puts a simulation in the block after the one named. Anvil puts it in
            # the one named, with its base fee. (Its "pending" block has executed what is pending.)
            number = simulated_block(answer, 0)[0].number
            return _Way(SIMULATE, describes_block=number <= head)
        for describes_block in (True, False):
            way = _Way(TRACE, describes_block, why, until)
            try:
                self._ask(way, [UnsignedCall(ZERO_ADDRESS, ZERO_ADDRESS)], deadline)
            except (RequestRefused, MalformedAnswer) as error:
                refusal = error.problem
            else:
                return way
        return _Way("", describes_block=False, why=f"{why}; {refusal}", until=until)


def _overrides(header: Header) -> dict[str, Any]:
    """What tells a node in which block a simulation is; nothing of the state."""
    return {
        "blockOverrides": {
            "number": hex(header.number),
            "time": hex(header.timestamp),
            "baseFeePerGas": hex(header.base_fee),
        }
    }


def _payload(calls: Sequence[UnsignedCall], overrides: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "blockStateCalls": [{"calls": [call.as_rpc() for call in calls], **overrides}],
        "traceTransfers": True,
        "validation": True,
    }


def _count(answer: Future[Any]) -> int:
    count = as_int(answer.result())
    if count is None:
        raise MalformedAnswer("node", "eth_getTransactionCount did not return a quantity")
    return count


def _check_nonces(calls: Sequence[UnsignedCall], counts: Mapping[str, Future[Any]]) -> None:
    """Nodes differ in whether they check them."""
    following = {sender: _count(answer) for sender, answer in counts.items()}
    for call in calls:
        expected, nonce = following[call.sender], call.nonce
        if nonce is None or nonce == expected:
            following[call.sender] += 1
        elif nonce < expected:
            raise NotSimulated(f"nonce {nonce} was used already; the next one is {expected}")
        else:
            raise NonceGap(call.sender, expected, nonce)


def _check_prices(calls: Sequence[UnsignedCall], block: Header) -> None:
    for call in calls:
        if call.max_price is not None and call.max_price < block.base_fee:
            raise NotSimulated(
                f"it pays at most {call.max_price} wei a unit of gas, and the base fee of block "
                f"{block.number} is {block.base_fee}"
            )
