"""Answers in the forms that nodes document, and answers that no honest node gives.

Of `eth_simulateV1`, Geth's form follows the test vectors of execution-apis, Nethermind's its types,
Reth's and Erigon's the specification; of `debug_traceCall`, all follow the documents of their call
tracers. None was recorded from a running node. Anvil itself runs in `test_simulator.py`.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.chain.errors import MalformedAnswer
from src.chain.simulation.answers import simulated_block, traced_call
from src.chain.transfers import (
    SIMULATION_ADDRESS,
    SYSTEM_ADDRESS,
    TRANSFER_TOPIC,
    NativeTransfer,
)
from src.service.node import decoded_logs

PAYER, PAYEE, TOKEN = "0x" + "c0" * 20, "0x" + "c1" * 20, "0x" + "d0" * 20


def log(address: str, amount: int, **more: Any) -> dict[str, Any]:
    return {
        "address": address,
        "topics": [TRANSFER_TOPIC, *("0x" + "0" * 24 + one[2:] for one in (PAYER, PAYEE))],
        "data": f"0x{amount:064x}",
        **more,
    }


PLACE = {
    "blockNumber": "0x37", "transactionHash": "0x" + "f1" * 32, "transactionIndex": "0x0",
    "blockHash": "0x" + "31" * 32, "blockTimestamp": "0x228", "removed": False,
}  # fmt: skip
LOGS = [
    log(SIMULATION_ADDRESS, 1000, logIndex="0x0", **PLACE),
    log(TOKEN, 5, logIndex="0x1", **PLACE),
]
HEAD = {"number": "0x37", "timestamp": "0x228", "hash": "0x" + "31" * 32, "gasUsed": "0x5208"}
DONE = {"returnData": "0x", "logs": LOGS, "gasUsed": "0x5208", "status": "0x1"}
REASON = "0x08c379a0" + "0" * 62 + "20"

SUCCESS = {
    "Geth": [
        HEAD | {"baseFeePerGas": "0x7", "blobGasUsed": "0x0", "difficulty": "0x0",
                "requestsHash": "0x" + "e3" * 32, "calls": [DONE | {"maxUsedGas": "0x5208"}]}
    ],
    "Nethermind": [
        HEAD | {"author": PAYER, "baseFeePerGas": "0x7", "totalDifficulty": "0x0",
                "calls": [DONE | {"error": None}]}
    ],
    "Reth": [HEAD | {"baseFeePerGas": "0x7", "size": "0x294", "calls": [DONE]}],
    "Erigon": [HEAD | {"baseFeePerGas": "0x7", "withdrawals": [], "calls": [DONE]}],
    "Anvil": [
        HEAD | {"baseFeePerGas": "0x7", "parentHash": "0x" + "00" * 32,
                "transactions": ["0x" + "a1" * 32], "calls": [DONE]}
    ],
}  # fmt: skip
REVERT = {
    "Geth": {"code": 3, "message": "execution reverted: no", "data": REASON},
    "Nethermind": {"code": -32015, "message": "execution reverted", "data": REASON},
    "Reth": {"code": -32000, "message": "execution reverted: no"},
    "Erigon": {"code": 3, "message": "execution reverted: no", "data": REASON},
    "Anvil": {"code": -3200, "message": "execution failed"},
}


@pytest.mark.parametrize("node", SUCCESS)
def test_what_each_node_answers_is_read(node: str) -> None:
    header, (call,) = simulated_block(SUCCESS[node], 1)
    assert (header.number, header.timestamp, header.base_fee) == (0x37, 0x228, 7)
    assert (call.status, call.gas_used, call.problem) == ("success", 21_000, "")
    decoded = decoded_logs(call.logs)
    assert decoded.native == [NativeTransfer(PAYER, PAYEE, 1000, 0)]
    assert [one[:4] for one in decoded.transfers] == [(TOKEN, PAYER, PAYEE, 5)]


@pytest.mark.parametrize("node", REVERT)
def test_what_reverts_has_moved_nothing(node: str) -> None:
    call = {"returnData": "0x", "logs": LOGS, "gasUsed": "0x5355", "status": "0x0"}
    _, (found,) = simulated_block([HEAD | {"calls": [call | {"error": REVERT[node]}]}], 1)
    assert (found.status, found.gas_used, found.logs) == ("reverts", 0x5355, ())
    assert found.problem.startswith("execution")


@pytest.mark.parametrize(
    "answer",
    [
        None, [], {}, "0x", [{}], [HEAD], [HEAD | {"calls": []}], [HEAD | {"calls": [DONE] * 2}],
        [HEAD | {"calls": [None]}], [HEAD | {"calls": [{"status": "0x2", "logs": []}]}],
        [HEAD | {"calls": [{"status": "0x1"}]}], [HEAD | {"calls": [DONE], "number": None}],
        [HEAD | {"calls": [DONE], "number": "0x" + "f" * 30}],
        [HEAD | {"calls": [DONE], "baseFeePerGas": "-1"}], [HEAD | {"calls": [DONE]}] * 2,
        [HEAD | {"calls": [DONE | {"logs": [{}] * 20_001}]}],
    ],
)  # fmt: skip
def test_an_answer_that_is_no_simulation_is_an_error(answer: Any) -> None:
    with pytest.raises(MalformedAnswer):
        simulated_block(answer, 1)


def test_no_logs_may_be_null() -> None:
    """Go's nodes write an empty list so in places."""
    _, (call,) = simulated_block([HEAD | {"calls": [DONE | {"logs": None}]}], 1)
    assert call.logs == []


def frame(kind: str = "CALL", value: int = 0, **more: Any) -> dict[str, Any]:
    return {"type": kind, "from": PAYER, "to": PAYEE, "value": hex(value), "gasUsed": "0x1", **more}


def test_a_trace_gives_logs_and_native_transfers_in_the_order_of_execution() -> None:
    trace = frame(
        value=1,
        logs=[log(TOKEN, 1, position="0x0"), log(TOKEN, 4, position="0x2")],
        calls=[frame(value=2, logs=[log(TOKEN, 2, position="0x0")]),
               frame("CREATE", 3, logs=[log(TOKEN, 3, position="0x0")])],
    )  # fmt: skip
    found = traced_call(trace)
    assert [one.amount for one in found.native or ()] == [1, 2, 3]
    assert [one.amount for one in decoded_logs(found.logs).transfers] == [1, 2, 3, 4]


TRACED = {
    "Geth": frame(
        value=7, gas="0xf618", input="0x",
        logs=[log(TOKEN, 5, index="0x0", position="0x1")],
        calls=[frame(value=2, gas="0x8fc", input="0x")],
    ),
    "Nethermind": frame(
        value=7, gas="0xf618", input="0x", output="0x", error=None, revertReason=None,
        logs=[log(TOKEN, 5, position="0x1")],
        calls=[frame(value=2, calls=None, logs=None)],
    ),
    "Reth": frame(
        value=7, gas="0xf618", input="0x",
        logs=[log(TOKEN, 5, position="0x1", index="0x0")],
        calls=[frame(value=2), frame("STATICCALL")],
    ),
    "Erigon": frame(value=7, logs=[log(TOKEN, 5)], calls=[frame(value=2, input="0x")]),
}  # fmt: skip
TRACED_REVERT = {
    "Geth": {"error": "execution reverted", "revertReason": "no", "output": REASON},
    "Nethermind": {"error": "revert", "output": REASON},
    "Reth": {"error": "execution reverted", "revertReason": "no"},
    "Erigon": {"error": "execution reverted"},
}


@pytest.mark.parametrize("node", TRACED)
def test_what_each_node_traces_is_read(node: str) -> None:
    found = traced_call(TRACED[node])
    assert [one.amount for one in found.native or ()] == [7, 2]
    assert [one[:4] for one in decoded_logs(found.logs).transfers] == [(TOKEN, PAYER, PAYEE, 5)]
    reverted = traced_call(TRACED[node] | TRACED_REVERT[node])
    assert (reverted.status, reverted.logs) == ("reverts", ())
    assert reverted.problem in {"no", "revert", "execution reverted"}


def test_transfers_that_the_chain_logs_itself_are_native_too() -> None:
    """EIP-7708: in such blocks nodes add no logs of their own for `traceTransfers`."""
    logs = [log(SYSTEM_ADDRESS, 1000, logIndex="0x0", **PLACE), LOGS[1]]
    _, (call,) = simulated_block([HEAD | {"calls": [DONE | {"logs": logs}]}], 1)
    assert decoded_logs(call.logs).native == [NativeTransfer(PAYER, PAYEE, 1000, 0)]


def test_what_a_trace_reverts_and_what_only_borrows_code_moves_nothing() -> None:
    inner = frame(value=9, logs=[log(TOKEN, 9, position="0x0")])
    trace = frame(
        calls=[
            frame(value=9, error="execution reverted", calls=[inner], logs=[log(TOKEN, 9)]),
            frame("DELEGATECALL", 9), frame("CALLCODE", 9), frame("STATICCALL"),
            frame("SELFDESTRUCT", 4),
        ]
    )  # fmt: skip
    found = traced_call(trace)
    assert [one.amount for one in found.native or ()] == [4]
    assert found.logs == []
    assert traced_call(frame(error="execution reverted", calls=[inner])).status == "reverts"


def test_a_trace_of_any_depth_is_read() -> None:
    trace = frame(value=1)
    for _ in range(3_000):
        trace = frame(calls=[trace])
    assert len(traced_call(trace).native or ()) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "0x1", PAYER, "CALL", "!"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["calls", "logs", "error", "type", "value", "topics", "status", "from",
                         "to", "position", "number", "timestamp", "gasUsed", "data", "address"]),
        inner, max_size=6,
    ),
    max_leaves=30,
)  # fmt: skip


@given(JSON)
def test_any_answer_is_read_or_malformed(answer: Any) -> None:
    for read in (lambda: simulated_block(answer, 1)[1], lambda: (traced_call(answer),)):
        try:
            for call in read():
                decoded_logs(call.logs)
        except MalformedAnswer:
            continue
