from types import SimpleNamespace
from typing import Any

import pytest

from src.chain.traces import native_of_traces
from src.chain.transfers import NativeTransfer

ALICE = "0x" + "11" * 20
BOB = "0x" + "22" * 20


def call(place: Any, *, error: str | None = None) -> SimpleNamespace:
    action = SimpleNamespace(call_type="call", from_=ALICE, to=BOB, value="0x5")
    return SimpleNamespace(
        trace_address=place, type="call", action=action, result=None, error=error
    )


def test_what_a_reverted_frame_called_has_moved_nothing() -> None:
    moved = NativeTransfer(ALICE, BOB, 5, -1)
    assert native_of_traces([call([]), call([0])]) == [moved, moved]
    assert native_of_traces([call([]), call([0], error="Reverted"), call([0, 1])]) == [moved]
    assert native_of_traces([call([0, 1]), call([1]), call([0], error="Reverted")]) == [moved]
    assert native_of_traces([call([0]), call([0], error="Reverted")]) == []


@pytest.mark.parametrize("place", [3, "0", [[0]], [None], {"0": 1}], ids=str)
def test_a_frame_that_does_not_say_its_place_leaves_everything_unknown(place: Any) -> None:
    assert native_of_traces([call([]), call(place)]) is None
