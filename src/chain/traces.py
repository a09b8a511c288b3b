"""Native transfers from a transaction's traces, for chains that do not log them (EIP-7708)."""

from collections.abc import Iterable
from operator import itemgetter
from typing import Any

from src.chain.quantities import as_int
from src.chain.transfers import NativeTransfer, normalise_address

_WITHOUT_LOG = -1


def native_of_traces(traces: Iterable[Any] | None) -> list[NativeTransfer] | None:
    """All native transfers of a transaction, its own value included.

    Reverted frames, and what they called, have moved nothing. Never raises on their content.

    Args:
        traces: in the form of `trace_transaction`, as a Forta event has them.

    Returns:
        None where there are no traces, or a frame does not say its place: then only the value sent
        is known.
    """
    frames: list[tuple[tuple[int, ...], bool, Any]] = []
    for trace in traces or ():
        place = _place(trace)
        if place is None:
            return None
        frames.append((place, not getattr(trace, "error", None), trace))
    frames.sort(key=itemgetter(0, 1))  # each frame before what it called
    moved = []
    reverted: tuple[int, ...] | None = None
    for place, is_success, trace in frames:
        if reverted is not None and place[: len(reverted)] == reverted:
            continue
        if not is_success:
            reverted = place
        elif (transfer := _moved(trace)) is not None:
            moved.append(transfer)
    return moved if frames else None


def _place(trace: Any) -> tuple[int, ...] | None:
    """Where a frame is among the calls; None if it is malformed."""
    given = getattr(trace, "trace_address", None) or ()
    if not isinstance(given, list | tuple) or not all(isinstance(one, int) for one in given):
        return None
    return tuple(given)


def _moved(trace: Any) -> NativeTransfer | None:
    action, result = getattr(trace, "action", None), getattr(trace, "result", None)
    kind = getattr(trace, "type", None)
    payer, payee = getattr(action, "from_", None), getattr(action, "to", None)
    value = as_int(getattr(action, "value", None))
    if kind == "create":
        payee = getattr(result, "address", None)
    elif kind in ("suicide", "selfdestruct"):
        payer, payee = getattr(action, "address", None), getattr(action, "refund_address", None)
        value = as_int(getattr(action, "balance", None))
    elif kind != "call" or getattr(action, "call_type", None) != "call":
        return None
    payer, payee = normalise_address(payer), normalise_address(payee)
    if not value or payer is None or payee is None or payer == payee:
        return None
    return NativeTransfer(payer, payee, value, _WITHOUT_LOG)
