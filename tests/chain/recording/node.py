"""A node whose answers a test can spoil, and recording from it."""

import json
from pathlib import Path
from typing import Any

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from src.chain.recording.format import Recording
from src.chain.recording.rows import BlockRows, decode_block
from src.history.record import main
from tests.chain.recording.blocks import make_block

Json = dict[str, Any]

FAST = ["--requests-per-second", "5000"]


class Node:
    """A node of two blocks, made of a real server whose answers a test can spoil."""

    def __init__(self, server: HTTPServer) -> None:
        self.url = server.url_for("/v3/0123456789abcdef")
        self.asked: list[str] = []
        self.answers: dict[str, Any] = {
            "eth_chainId": "0x1",
            "eth_blockNumber": "0x8",
            "eth_call": {"code": 3, "message": "execution reverted"},
        }
        self.failures: dict[str, list[Any]] = {}
        self.blocks = {hex(number): make_block(number) for number in (7, 8)}
        server.expect_request("/v3/0123456789abcdef").respond_with_handler(self._answer)

    def _answer(self, request: Request) -> Response:
        call = json.loads(request.data)
        method, params = call["method"], call["params"]
        self.asked.append(method)
        answer = self._result(method, params)
        if self.failures.get(method):
            answer = self.failures[method].pop(0)
        if isinstance(answer, Response):
            return answer
        kind = "error" if isinstance(answer, dict) and "code" in answer else "result"
        return Response(json.dumps({"jsonrpc": "2.0", "id": call["id"], kind: answer}))

    def _result(self, method: str, params: list[Any]) -> Any:
        if method in self.answers:
            answer = self.answers[method]
            is_rule = callable(answer) and not isinstance(answer, Response)
            return answer(params) if is_rule else answer
        if method == "eth_getBlockByNumber":
            return self.blocks[params[0]].block
        if method == "eth_getBlockReceipts":
            return self.blocks[params[0]].receipts
        receipts = (receipt for block in self.blocks.values() for receipt in block.receipts)
        return next(receipt for receipt in receipts if receipt["transactionHash"] == params[0])


def record(url: str, out: Path, first: int, last: int, *options: str) -> int:
    blocks = ["--from-block", str(first), "--to-block", str(last)]
    return main(["--url", url, "--out", str(out), *blocks, *FAST, *options])


def recorded_blocks(folder: Path) -> list[tuple[Json, list[Json]]]:
    recording = Recording(folder)
    found = []
    for part in recording.parts:
        blocks, transactions, logs = (t.to_pylist() for t in recording.tables(part))
        for block in blocks:
            number = block["block_number"]
            rows = (
                [row for row in table if row["block_number"] == number]
                for table in (transactions, logs)
            )
            decoded = decode_block(BlockRows(block, *rows))
            found.append((decoded.block, decoded.receipts))
    return found
