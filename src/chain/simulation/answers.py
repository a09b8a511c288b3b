"""What a node answers to a simulation, checked; the bodies come from whoever runs the node."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from src.chain.errors import MalformedAnswer
from src.chain.quantities import as_int
from src.chain.simulation.call import UnsignedCall
from src.chain.text import in_short
from src.chain.transfers import NativeTransfer, normalise_address

MAX_LOGS: Final = 20_000
"""Of one transaction: a block's gas pays for no more."""

_MAX_FRAMES = 50_000
_MAX_REASON = 120
_INT64_MAX = 2**63 - 1
_WITHOUT_LOG = -1
_MOVES_VALUE = frozenset({"CALL", "CREATE", "CREATE2", "SELFDESTRUCT"})

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SimulatedTransaction:
    """What one transaction would do."""

    # "reverts" if it would fail: what it would do if it did not is unknown.
    status: Literal["success", "reverts"]
    problem: str  # why it reverts, as the node says, sanitised; "" for a success
    gas_used: int | None  # units, or None
    logs: Sequence[Json]  # raw, in the form of JSON-RPC, in order; none if it reverts
    # The transfers of the native currency, from a trace; None if `logs` has them.
    native: Sequence[NativeTransfer] | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """The block that a simulation is in."""

    # number, timestamp: of the block; Unix seconds.
    number: int
    timestamp: int
    base_fee: int  # wei a unit of gas; 0 on a chain without


@dataclass(frozen=True, slots=True)
class Simulation:
    """A node's answer."""

    block: Header  # see `Header`
    calls: tuple[UnsignedCall, ...]  # what was simulated, with what was filled in
    transactions: tuple[SimulatedTransaction, ...]  # what they would do, in this order
    method: str  # that the node was asked


def header_of(block: Any) -> Header:
    """The header in a block object. Raises `MalformedAnswer`."""
    given = block if isinstance(block, dict) else {}
    number, timestamp = as_int(given.get("number")), as_int(given.get("timestamp"))
    base_fee = given.get("baseFeePerGas")
    fee = 0 if base_fee is None else as_int(base_fee)
    if number is None or timestamp is None or fee is None or max(number, timestamp) > _INT64_MAX:
        raise MalformedAnswer("node", "a simulated block without number, time or base fee")
    return Header(number, timestamp, fee)


def simulated_block(answer: Any, count: int) -> tuple[Header, tuple[SimulatedTransaction, ...]]:
    """The answer of `eth_simulateV1` for one block with so many calls. Raises `MalformedAnswer`."""
    if not isinstance(answer, list) or len(answer) != 1:
        raise MalformedAnswer("node", "a simulation is not a list of one block")
    header = header_of(answer[0])
    calls = answer[0].get("calls")
    if not isinstance(calls, list) or len(calls) != count:
        raise MalformedAnswer("node", "a simulation has another number of calls")
    return header, tuple(_simulated_call(call) for call in calls)


def _simulated_call(call: Any) -> SimulatedTransaction:
    status = as_int(call.get("status")) if isinstance(call, dict) else None
    if status not in (0, 1):
        raise MalformedAnswer("node", "a simulated call without a status")
    gas_used = _bounded(as_int(call.get("gasUsed")))
    if status == 0:
        error = call.get("error")
        words = error.get("message") if isinstance(error, dict) else None
        return SimulatedTransaction("reverts", _reason(words), gas_used, ())
    logs = call.get("logs", ())
    if logs is None:  # Go's empty list
        logs = []
    if not isinstance(logs, list) or len(logs) > MAX_LOGS:
        raise MalformedAnswer("node", "a simulated call without logs, or with too many")
    return SimulatedTransaction("success", "", gas_used, [x for x in logs if isinstance(x, dict)])


def traced_call(answer: Any) -> SimulatedTransaction:
    """The answer of `debug_traceCall` with `callTracer` and `withLog`. Raises `MalformedAnswer`."""
    if not isinstance(answer, dict) or not isinstance(answer.get("type"), str):
        raise MalformedAnswer("node", "a trace is not a call")
    gas_used = _bounded(as_int(answer.get("gasUsed")))
    if answer.get("error") is not None:
        words = answer.get("revertReason") or answer["error"]
        return SimulatedTransaction("reverts", _reason(words), gas_used, ())
    logs: list[Json] = []
    native: list[NativeTransfer] = []
    for entry in _events(answer):
        if isinstance(entry, NativeTransfer):
            native.append(entry)
        else:
            logs.append(entry)
    if len(logs) > MAX_LOGS:
        raise MalformedAnswer("node", "a trace with too many logs")
    numbered = [log | {"logIndex": hex(at)} for at, log in enumerate(logs)]
    return SimulatedTransaction("success", "", gas_used, numbered, native)


def _events(root: Json) -> Iterator[Json | NativeTransfer]:
    """Logs and native transfers in the order of execution, without those of reverted frames.

    A log stands after as many of its frame's inner calls as its `position` says.
    """
    stack: list[Json | NativeTransfer] = [root]
    frames = 0
    while stack:
        entry = stack.pop()
        if isinstance(entry, NativeTransfer) or "topics" in entry:
            yield entry
            continue
        frames += 1
        if frames > _MAX_FRAMES:
            raise MalformedAnswer("node", "a trace with too many calls")
        if entry.get("error") is not None:
            continue
        if (moved := _moved(entry)) is not None:
            yield moved
        stack.extend(reversed(_inside(entry)))


def _inside(frame: Mapping[str, Any]) -> list[Json]:
    """The inner calls and the logs of a frame, in order."""
    calls = _dicts(frame.get("calls"))
    placed: list[list[Json]] = [[] for _ in range(len(calls) + 1)]
    for log in _dicts(frame.get("logs")):
        position = as_int(log.get("position"))
        placed[min(position if position is not None else len(calls), len(calls))].append(
            log | {"topics": log.get("topics")}
        )
    inside = placed[0]
    for call, after in zip(calls, placed[1:], strict=True):
        inside += [{name: value for name, value in call.items() if name != "topics"}, *after]
    return inside


def _moved(frame: Mapping[str, Any]) -> NativeTransfer | None:
    amount = as_int(frame.get("value"))
    if not amount or amount >= 2**256 or frame.get("type") not in _MOVES_VALUE:
        return None
    payer, payee = normalise_address(frame.get("from")), normalise_address(frame.get("to"))
    if payer is None or payee is None or payer == payee:
        return None
    return NativeTransfer(payer, payee, amount, _WITHOUT_LOG)


def _dicts(value: Any) -> list[Json]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _reason(words: Any) -> str:
    return in_short(words, _MAX_REASON) or "execution failed"


def _bounded(number: int | None) -> int | None:
    return number if number is not None and number <= _INT64_MAX else None
