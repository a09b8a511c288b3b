"""Simulations by a node: `eth_simulateV1`, else `debug_traceCall`.

A simulation is *faithful*: it is in the next block, with that block's base fee, at the price and
with the nonce of the transaction itself, validated, and nothing of the chain's state is overridden.
Contracts look for simulators, which often have a base fee or a gas price of zero.
"""

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from src.chain.clients.deadline import Deadline
from src.chain.clients.http import MAX_DEPTH
from src.chain.clients.rpc import JsonRpcClient
from src.chain.clients.rpc_errors import (
    NO_SUCH_METHOD_CODES,
    NONCE_TOO_HIGH,
    SIMULATION_CODES,
)
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

_LOOK_AGAIN_SECONDS = 600.0
_OWN_FRAMES = 900  # of Python's functions at the time when an answer is read
_PENDING_BLOCK: Final[tuple[str, list[Any]]] = ("eth_getBlockByNumber", ["pending", False])
_TRACER: Final = {"tracer": "callTracer", "tracerConfig": {"withLog": True}}


@dataclass(frozen=True, slots=True)
class _Way:
    """How a node simulates."""

    method: str  # `SIMULATE`, `TRACE`, or "" if it does not
    # Whether it has to be told the number, time and base fee of the next block; if not, it is in
    # the next one anyway.
    describes_block: bool
    until: float  # on the monotonic clock, when to look again
    why: str = ""  # why it is not `SIMULATE`
    checks_nonces: bool = False  # whether the node refuses one that is not the sender's next


class _Before(NamedTuple):
    """What has to be known before a simulation."""

    counts: Mapping[str, int]  # the next nonce of each sender
    header: Header | None  # of the next block, if the way describes it
    price: int | None  # wei a unit of gas that the node suggests, if one is lacking


class Simulator:
    """Simulates on one node. Thread-safe.

    Args:
        node: the connection; its limits on time and size apply. It is closed with the simulator.
        chain_id: of the chain that the node serves. Every simulation names it, so that a node which
            has been switched to another chain refuses instead of simulating there.
    """

    def __init__(self, node: JsonRpcClient, chain_id: int) -> None:
        self._node = node
        self._chain = {"chainId": hex(chain_id)}
        self._way: _Way | None = None
        self._finding = threading.Lock()
        # Python 3.11 counts the levels of JSON, too. A trace that cannot be read hides a theft.
        sys.setrecursionlimit(max(sys.getrecursionlimit(), MAX_DEPTH + _OWN_FRAMES))

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
        before = _Before({}, None, None)
        lacks = any(call.nonce is None or call.max_price is None for call in calls)
        if lacks or not way.checks_nonces:
            before = self._before(way, calls, deadline)
            _check_nonces(calls, before.counts)
        calls = self._completed(calls, before, deadline)
        try:
            simulation = self._ask(way, calls, deadline, before.header)
        except RequestRefused as error:
            if error.code in NO_SUCH_METHOD_CODES:
                self._way = None  # another backend, or another version
            if not before.counts:
                _check_nonces(calls, self._before(way, calls, deadline).counts)
            simulation = self._ask_otherwise(way, calls, error, deadline)
        _check_prices(calls, simulation.block)
        return simulation

    def close(self) -> None:
        """Close the connections."""
        self._node.close()

    def _before(self, way: _Way, calls: Sequence[UnsignedCall], deadline: Deadline) -> _Before:
        senders = list(dict.fromkeys(call.sender for call in calls))
        asked: list[tuple[str, list[Any]]] = [
            ("eth_getTransactionCount", [sender, "latest"]) for sender in senders
        ]
        if way.describes_block:
            asked.append(_PENDING_BLOCK)
        lacks_price = any(call.max_price is None for call in calls)
        if lacks_price:
            asked.append(("eth_gasPrice", []))
        answers = self._node.call_together(asked, deadline)
        counts = {sender: _count(answers.pop(0)) for sender in senders}
        header = header_of(answers.pop(0)) if way.describes_block else None
        price = (as_int(answers.pop(0)) or 0) if lacks_price else None
        return _Before(counts, header, price)

    def _completed(
        self, calls: Sequence[UnsignedCall], before: _Before, deadline: Deadline
    ) -> list[UnsignedCall]:
        """The transactions with the nonces, prices and gas limits that they lack."""
        sent = dict.fromkeys(before.counts, 0)
        complete = []
        for given in calls:
            call = given
            if call.nonce is None:
                call = replace(call, nonce=before.counts[call.sender] + sent[call.sender])
            sent[call.sender] = sent.get(call.sender, 0) + 1
            if before.price is not None and call.max_price is None:
                # The base fee rises by an eighth at most from block to block.
                call = replace(call, gas_price=before.price + before.price // 8 + 1)
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

    def _ask(
        self,
        way: _Way,
        calls: Sequence[UnsignedCall],
        deadline: Deadline,
        header: Header | None = None,
    ) -> Simulation:
        """Simulate, in the block with this header if the way has to describe it."""
        if way.describes_block and header is None:
            header = header_of(self._node.call(*_PENDING_BLOCK, deadline))
        overrides = {} if header is None else _overrides(header)
        if way.method == SIMULATE:
            payload = self._payload(calls, overrides)
            answer = self._node.call(SIMULATE, [payload, "latest"], deadline)
            answered, simulated = simulated_block(answer, len(calls))
            return Simulation(header or answered, tuple(calls), simulated, SIMULATE)
        if len(calls) > 1:
            raise NotSimulated(f"the node simulates single transactions only: {way.why}")
        options = _TRACER | overrides
        call = calls[0].as_rpc() | self._chain
        answer = self._node.call(TRACE, [call, "latest", options], deadline)
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
            answer = self._node.call(SIMULATE, [self._payload([], {}), hex(head)], deadline)
        except RequestRefused as error:
            why = error.problem
        else:
            # The specification puts a simulation in the block after the one named. Anvil puts it in
            # the one named, with its base fee. (Its "pending" block has executed what is pending.)
            block = simulated_block(answer, 0)[0]
            if block.number <= head:
                return _Way(SIMULATE, True, until)
            checks = self._checks_nonces(block.base_fee, deadline)
            return _Way(SIMULATE, False, until, checks_nonces=checks)
        way = _Way(TRACE, True, until, why)
        try:
            self._ask(way, [UnsignedCall(ZERO_ADDRESS, ZERO_ADDRESS)], deadline)
        except (RequestRefused, MalformedAnswer) as error:
            return _Way("", False, until, f"{why}; {error.problem}")
        return way

    def _checks_nonces(self, base_fee: int, deadline: Deadline) -> bool:
        """Whether the node finds a nonce that is ahead, as the specification says (not Anvil)."""
        ahead = UnsignedCall(
            ZERO_ADDRESS, ZERO_ADDRESS, gas=21_000, nonce=2**62, gas_price=2 * base_fee
        )
        try:
            self._node.call(SIMULATE, [self._payload([ahead], {}), "latest"], deadline)
        except RequestRefused as error:
            return error.code == NONCE_TOO_HIGH
        return False

    def _payload(
        self, calls: Sequence[UnsignedCall], overrides: Mapping[str, Any]
    ) -> dict[str, Any]:
        given = [call.as_rpc() | self._chain for call in calls]
        return {
            "blockStateCalls": [{"calls": given, **overrides}],
            "traceTransfers": True,
            "validation": True,
        }


def _overrides(header: Header) -> dict[str, Any]:
    """What tells a node in which block a simulation is; nothing of the state."""
    return {
        "blockOverrides": {
            "number": hex(header.number),
            "time": hex(header.timestamp),
            "baseFeePerGas": hex(header.base_fee),
        }
    }


def _count(answer: Any) -> int:
    count = as_int(answer)
    if count is None:
        raise MalformedAnswer("node", "eth_getTransactionCount did not return a quantity")
    return count


def _check_nonces(calls: Sequence[UnsignedCall], counts: Mapping[str, int]) -> None:
    """Raise unless each nonce is the next one of its sender."""
    following = dict(counts)
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
