"""Sources of facts as real local servers: a node, Etherscan and Ethplorer."""

import atexit
import functools
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from eth_abi.abi import decode, encode
from eth_utils.crypto import keccak
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from src.chain.erc20 import MULTICALL3
from tests.support.waiting import PATIENCE

SELECTORS = {keccak(text=f"{name}()")[:4]: name for name in ("name", "symbol", "decimals")}
TOTAL_SUPPLY = keccak(text="totalSupply()")[:4]
BALANCE_OF = keccak(text="balanceOf(address)")[:4]
AGGREGATE3 = keccak(text="aggregate3((address,bool,bytes)[])")[:4]


def abi_string(text: str) -> bytes:
    return encode(["string"], [text])


def abi_uint(number: int) -> bytes:
    return encode(["uint256"], [number])


def usual_token(
    name: str = "Some Token", symbol: str = "SOME", decimals: int = 18
) -> dict[str, bytes]:
    return {
        "name": abi_string(name),
        "symbol": abi_string(symbol),
        "decimals": abi_uint(decimals),
    }


@dataclass
class FakeNode:
    """A node that knows some tokens and the blocks in which accounts sent transactions.

    `tokens` maps an address to what its `name`, `symbol` and `decimals` return; what is missing
    reverts. `deployed_in_block` has the contracts that were not there from the first block on;
    states before `oldest_state` are pruned. `balances` has what (account, token) held, always; of
    others nothing is known. `before` is called with each method before it is
    answered.
    """

    tokens: dict[str, dict[str, bytes]] = field(default_factory=dict)
    sent_in_blocks: dict[str, list[int]] = field(default_factory=dict)
    head: int = 20_000_000
    has_multicall: bool = True
    deployed_in_block: dict[str, int] = field(default_factory=dict)
    oldest_state: int = 0
    balances: dict[tuple[str, str], int] = field(default_factory=dict)
    before: Callable[[str], None] = lambda method: None
    calls: list[str] = field(default_factory=list)

    def answer(self, request: Request) -> Response:
        body = request.get_json()
        method, params = body["method"], body["params"]
        self.calls.append(method)
        self.before(method)
        try:
            answer = {"result": getattr(self, method)(*params)}
        except ValueError as error:
            answer = {"error": {"code": 3, "message": str(error)}}
        return Response(json.dumps({"jsonrpc": "2.0", "id": body["id"], **answer}))

    def eth_chainId(self) -> str:  # noqa: N802
        return "0x1"

    def eth_blockNumber(self) -> str:  # noqa: N802
        return hex(self.head)

    def eth_getTransactionCount(self, address: str, block: str) -> str:  # noqa: N802
        sent = self.sent_in_blocks.get(address, [])
        return hex(sum(number <= int(block, 16) for number in sent))

    def eth_getCode(self, address: str, block: str) -> str:  # noqa: N802
        if int(block, 16) < self.oldest_state:
            raise ValueError("missing trie node")
        return "0x6000" if self.deployed_in_block.get(address, 0) <= int(block, 16) else "0x"

    def eth_getBlockByNumber(self, block: str, _full: bool) -> dict[str, str]:  # noqa: N802
        return {"timestamp": hex(block_timestamp(int(block, 16)))}

    def eth_call(self, call: dict[str, str], block: str) -> str:
        data = bytes.fromhex(call["data"][2:])
        if data[:4] in (BALANCE_OF, TOTAL_SUPPLY):
            if int(block, 16) < self.oldest_state:
                raise ValueError("missing trie node")
            held = self.balances.get((f"0x{data[4:].rjust(20, bytes(1))[-20:].hex()}", call["to"]))
            return "0x" if held is None else f"0x{held:064x}"
        if call["to"] != MULTICALL3:
            view = self._view(call["to"], data)
            words = len(view) // 32
            if 3 * words + words**2 // 512 > int(call.get("gas", "0xffffffff"), 16):
                raise ValueError("out of gas")  # of memory alone, as the Yellow Paper prices it
            return "0x" + view.hex()
        if not self.has_multicall:
            return "0x"
        assert data[:4] == AGGREGATE3
        (calls,) = decode(["(address,bool,bytes)[]"], data[4:])
        return "0x" + encode(["(bool,bytes)[]"], [[self._try(*call) for call in calls]]).hex()

    def _try(self, token: str, _allow_failure: bool, data: bytes) -> tuple[bool, bytes]:
        try:
            return True, self._view(token, data)
        except ValueError:
            return False, b""

    def _view(self, token: str, data: bytes) -> bytes:
        if token not in self.tokens:
            return b""
        view = self.tokens[token].get(SELECTORS[data])
        if view is None:
            raise ValueError("execution reverted")
        return view


def block_timestamp(number: int) -> int:
    return 1_438_269_973 + 12 * number


def etherscan_answer(timestamp: object = "1500000000") -> dict[str, Any]:
    return {"status": "1", "message": "OK", "result": [{"timeStamp": timestamp}]}


NO_TRANSACTIONS = {"status": "0", "message": "No transactions found", "result": []}
ETHERSCAN_LIMIT = {
    "status": "0",
    "message": "NOTOK",
    "result": "Max calls per sec rate limit reached (3/sec)",
}


@functools.cache
def _server() -> HTTPServer:
    """One server for all tests: starting is quick, stopping takes half a second."""
    server = HTTPServer(host="127.0.0.1", threaded=True)
    server.start()
    atexit.register(server.stop)
    return server


_prefixes = itertools.count(1)


@contextmanager
def serve(handler: Callable[[Request], Response]) -> Iterator[str]:
    """Answer every path below the yielded URL with `handler`, each request in its own thread."""
    prefix = f"/{next(_prefixes)}"
    _server().expect_request(re.compile(f"{prefix}(/.*)?$")).respond_with_handler(handler)
    yield _server().url_for(prefix)


def meeting_of(parties: int) -> Callable[[], None]:
    """A point that nobody passes before `parties` requests are there at the same time."""
    barrier = threading.Barrier(parties, timeout=PATIENCE)

    def wait() -> None:
        barrier.wait()

    return wait
