"""Screening: raw transactions, and a node's answers to simulations."""

import io
import json
from collections.abc import Callable
from typing import Any

import requests

from fuzz.data import Data
from fuzz.oracles import TRANSFER_TOPIC, expect
from fuzz.target import Bench, Target
from fuzz.wire import FuzzedServer, connect

_KEY = "PLANTED-PATH-KEY"
_SIGNER = "0x" + "4c" * 32
_PAYER, _PAYEE = "0x" + "c0" * 20, "0x" + "c1" * 20


def _raw(bench: Bench) -> Callable[[bytes], None]:
    from eth_account import Account  # noqa: PLC0415
    from eth_utils.crypto import keccak  # noqa: PLC0415

    from src.chain.simulation.call import NotSimulated, UnsignedCall  # noqa: PLC0415
    from src.chain.simulation.raw import decode_raw  # noqa: PLC0415

    plain = {"to": "0x" + "11" * 20, "value": 7, "nonce": 3, "gas": 30_000, "data": b"\1" * 40}
    fees = {"maxFeePerGas": 10**10, "maxPriorityFeePerGas": 10**9}
    access = [{"address": "0x" + "22" * 20, "storageKeys": ["0x" + "05" * 32]}]
    granted = Account.from_key(_SIGNER).sign_authorization(
        {"chainId": 1, "address": "0x" + "33" * 20, "nonce": 4}
    )
    kinds: list[dict[str, Any]] = [
        {"gasPrice": 9},
        {"gasPrice": 9, "type": 1, "accessList": access},
        fees,
        {**fees, "type": 3, "maxFeePerBlobGas": 5, "blobVersionedHashes": ["0x01" + "ab" * 31]},
        {**fees, "type": 4, "authorizationList": [granted]},
    ]
    honest = [
        bytes(Account.sign_transaction({**plain, "chainId": 1, **kind}, _SIGNER).raw_transaction)
        for kind in kinds
    ]

    def one(content: bytes) -> None:
        data = Data(content)
        raw = data.rest() if data.one_in(4) else data.damaged(data.pick(honest))
        try:
            found = decode_raw(raw)
        except NotSimulated as error:
            expect(str(error).isprintable() and len(str(error)) < 200, "leak", repr(str(error)))
            bench.reached["refused"] += 1
            return
        is_network_form = raw[0] == 3
        expect(
            is_network_form or found.tx_hash == "0x" + keccak(raw).hex(), "mismatch", found.tx_hash
        )
        again = UnsignedCall.from_rpc(found.call.as_rpc())
        expect(again == found.call, "mismatch", f"{again} is not {found.call}")
        bench.reached["read"] += 1

    return one


class _Node(FuzzedServer):
    """Answers each method by its template; one of the answers has the fuzzer's changes."""

    answers: dict[str, Any]
    changed = 0
    """How many requests to answer honestly before."""

    def send(  # type: ignore[override]
        self, request: requests.PreparedRequest, **options: Any
    ) -> requests.Response:
        """See `FuzzedServer`."""
        asked = json.loads(request.body or b"{}")
        calls = asked if isinstance(asked, list) else [asked]
        self.changed -= 1
        is_changed = self.changed == -1
        replies = [self._reply(call, is_changed) for call in calls]
        self.template = replies if calls is asked else replies[0]
        if is_changed:
            return super().send(request, **options)
        response = requests.Response()
        response.status_code = 200
        response.raw = io.BytesIO(json.dumps(self.template).encode())
        return response

    def _reply(self, call: dict[str, Any], may_fail: bool) -> dict[str, Any]:
        reply = {"jsonrpc": "2.0", "id": call["id"]}
        if may_fail and self.data.one_in(8):
            code = self.data.pick((3, -32601, -38011, -32000))
            return reply | {"error": {"code": code, "message": self.data.text()}}
        result = self.answers[call["method"]]
        if call["method"] == "eth_simulateV1":
            count = len(call["params"][0]["blockStateCalls"][0]["calls"])
            result = [result | {"calls": result["calls"] * count}]
        return reply | {"result": result}


def _simulation(bench: Bench) -> Callable[[bytes], None]:
    from src.chain.clients.deadline import Deadline  # noqa: PLC0415
    from src.chain.clients.rpc import JsonRpcClient  # noqa: PLC0415
    from src.chain.errors import NotFound, SourceError  # noqa: PLC0415
    from src.chain.simulation.call import UnsignedCall  # noqa: PLC0415
    from src.chain.simulation.simulator import Simulator  # noqa: PLC0415
    from src.service.node import approvals_of, decoded_logs  # noqa: PLC0415

    words = ["0x" + "0" * 24 + one[2:] for one in (_PAYER, _PAYEE)]
    log = {"address": "0x" + "e" * 40, "topics": [TRANSFER_TOPIC, *words], "logIndex": "0x0",
           "data": "0x" + "0" * 63 + "7"}  # fmt: skip
    done = {"status": "0x1", "gasUsed": "0x5208", "logs": [log, log], "returnData": "0x"}
    block = {"number": "0x8", "timestamp": "0x9", "baseFeePerGas": "0x7", "calls": [done]}
    frame = {"type": "CALL", "from": _PAYER, "to": _PAYEE, "value": "0x7", "gasUsed": "0x5208",
             "logs": [log | {"position": "0x1"}], "calls": []}  # fmt: skip
    call = UnsignedCall(sender=_PAYER, to=_PAYEE, gas=30_000, nonce=0, gas_price=9)
    url = f"http://source.invalid/{_KEY}"

    def one(content: bytes) -> None:
        data = Data(content)
        server = _Node()
        server.data = data
        server.changed = data.byte() % 5
        inner = [frame] * (data.byte() % 3)
        server.answers = {
            "eth_blockNumber": "0x7",
            "eth_simulateV1": block,
            "debug_traceCall": frame | {"calls": inner},
            "eth_getBlockByNumber": block,
            "eth_getTransactionCount": "0x0",
        }
        client = JsonRpcClient(url, timeout=5)
        connect(client, server)
        simulator = Simulator(client, chain_id=1)
        try:
            found = simulator.simulate([call], Deadline.after(60))
        except (SourceError, NotFound) as error:
            expect(_KEY not in str(error) and str(error).isprintable(), "leak", str(error))
            bench.reached[type(error).__name__] += 1
            return
        (simulated,) = found.transactions
        decoded = decoded_logs(simulated.logs)
        approvals_of(simulated.logs)
        for moved in (*decoded.native, *(simulated.native or ())):
            expect(0 <= moved.amount < 2**256, "mismatch", moved)
        expect(simulated.status == "success" or not decoded.transfers, "mismatch", "moved by none")
        bench.reached[simulated.status] += 1

    return one


TARGETS = (
    Target(
        "raw_transactions",
        "raw transactions of every type: what was signed, or a refusal",
        _raw,
        0.3,
    ),
    Target(
        "simulations",
        "a node's answers to simulations: what would move, or a typed error",
        _simulation,
        0.3,
    ),
)
