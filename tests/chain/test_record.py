"""Recording from real chains, and from nodes that misbehave."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from src.chain.recording.__main__ import main
from src.chain.recording.format import Recording, RecordingError, find_parts
from src.chain.recording.rows import BlockRows, decode_block
from src.demo.anvil import Chain, anvil
from src.demo.processes import supervised
from tests.chain.test_recording import make_block, make_log
from tests.support.fake_chain import FakeNode, usual_token
from tests.support.recording_chain import ROOT, play
from tests.support.waiting import PATIENCE, wait_until

Json = dict[str, Any]
FAST = ["--requests-per-second", "5000"]


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with anvil(timestamp=1_700_000_000) as running:
        play(running)
        yield running


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
            return answer(params) if callable(answer) else answer
        if method == "eth_getBlockByNumber":
            return self.blocks[params[0]].block
        if method == "eth_getBlockReceipts":
            return self.blocks[params[0]].receipts
        receipts = (receipt for block in self.blocks.values() for receipt in block.receipts)
        return next(receipt for receipt in receipts if receipt["transactionHash"] == params[0])


@pytest.fixture
def node(httpserver: HTTPServer) -> Node:
    return Node(httpserver)


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


@pytest.mark.integration
def test_a_recording_is_the_chain_to_the_last_field(
    chain: Chain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = int(chain.rpc("eth_blockNumber"), 16)
    assert record(chain.url, tmp_path, 0, head, "--blocks-per-part", "6") == 0
    expected = [
        (
            chain.rpc("eth_getBlockByNumber", hex(number), True),
            chain.rpc("eth_getBlockReceipts", hex(number)),
        )
        for number in range(head + 1)
    ]
    assert recorded_blocks(tmp_path) == expected
    assert {tx["type"] for block, _ in expected for tx in block["transactions"]} == {
        "0x0",
        "0x1",
        "0x2",
    }
    said = capsys.readouterr().out
    assert f"holds {head + 1} blocks of chain 1 (all verified)" in said
    assert "2 tokens;" in said


def asked(url: str, request: Request) -> Response:
    """What the node there answers to a request."""
    return Response(requests.post(url, json=json.loads(request.data), timeout=PATIENCE).content)


@pytest.mark.integration
def test_receipts_one_by_one_are_the_same_recording(
    chain: Chain, httpserver: HTTPServer, tmp_path: Path
) -> None:
    def without_block_receipts(request: Request) -> Response:
        call = json.loads(request.data)
        if call["method"] == "eth_getBlockReceipts":
            error = {"code": -32601, "message": "the method is not available"}
            return Response(json.dumps({"jsonrpc": "2.0", "id": call["id"], "error": error}))
        return asked(chain.url, request)

    httpserver.expect_request("/").respond_with_handler(without_block_receipts)
    assert record(chain.url, tmp_path / "one", 0, 15) == 0
    assert record(httpserver.url_for("/"), tmp_path / "other", 0, 15) == 0
    assert recorded_blocks(tmp_path / "one") == recorded_blocks(tmp_path / "other")


KILLED = """
import sys
from pathlib import Path
from src.chain.recording.__main__ import main
from tests.support.killing import kill_at
kill_at(int(sys.argv[1]), Path(sys.argv[2]))
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.integration
def test_a_recording_killed_at_ten_points_resumes_to_the_same(
    chain: Chain, httpserver: HTTPServer, tmp_path: Path
) -> None:
    chain.mine(50)
    head = int(chain.rpc("eth_blockNumber"), 16)
    chance = random.Random(8)
    requests_left = -1
    process: subprocess.Popen[bytes]

    def kill_after_some(request: Request) -> Response:
        nonlocal requests_left
        requests_left -= 1
        if requests_left == 0:
            process.send_signal(signal.SIGKILL)
        return asked(chain.url, request)

    httpserver.expect_request("/").respond_with_handler(kill_after_some)
    url, out = httpserver.url_for("/"), tmp_path / "killed"
    arguments = ["--url", url, "--out", str(out), "--from-block", "0", "--to-block", str(head)]
    arguments += [*FAST, "--blocks-per-part", "3", "--workers", "2"]
    lengths = []
    for kill in range(10):  # by turns after a number of requests and at a step with the files
        command = ["-m", "src.chain.recording"]
        if kill % 2:
            command = ["-c", KILLED, str(chance.randint(8, 24)), str(out)]
        else:
            requests_left = chance.randint(1, 20)
        process = subprocess.Popen(
            supervised([sys.executable, *command, *arguments]), cwd=ROOT, stderr=subprocess.DEVNULL
        )
        assert process.wait(PATIENCE) == -signal.SIGKILL
        lengths.append(len(find_parts(out)) if out.exists() else 0)
    assert lengths == sorted(lengths)
    assert 0 < lengths[-1] < head // 3
    assert record(url, out, 0, head) == 0
    assert record(chain.url, tmp_path / "undisturbed", 0, head) == 0
    assert recorded_blocks(out) == recorded_blocks(tmp_path / "undisturbed")
    assert Recording(out).tokens() == Recording(tmp_path / "undisturbed").tokens()
    assert not list(out.glob(".unfinished*"))


@pytest.mark.integration
def test_a_stopped_recording_keeps_its_blocks_and_prints_how_to_resume(
    node: Node, tmp_path: Path
) -> None:
    node.answers["eth_getBlockReceipts"] = None  # block 7 comes, then the node is stuck
    node.failures["eth_getBlockReceipts"] = [node.blocks["0x7"].receipts]
    arguments = ["--from-block", "7", "--to-block", "8", "--out", str(tmp_path), "--workers", "1"]
    process = subprocess.Popen(
        supervised([sys.executable, "-m", "src.chain.recording", *arguments, "--no-verify"]),
        cwd=ROOT,
        env=os.environ | {"JSON_RPC_URL": node.url},
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: node.asked.count("eth_getBlockReceipts") >= 4, process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM
    assert b"the same command resumes" in said
    assert b"0123456789abcdef" not in said
    assert [(part.first, part.last) for part in find_parts(tmp_path)] == [(7, 7)]


def test_what_is_recorded_is_not_asked_for_again(node: Node, tmp_path: Path) -> None:
    assert record(node.url, tmp_path, 7, 7, "--no-verify") == 0
    before = node.asked.count("eth_getBlockByNumber")
    assert record(node.url, tmp_path, 7, 8, "--no-verify") == 0
    assert node.asked.count("eth_getBlockByNumber") == before + 1
    assert len(recorded_blocks(tmp_path)) == 2


def test_a_block_that_does_not_verify_is_refused(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node.blocks["0x8"].block["receiptsRoot"] = "0x" + "11" * 32
    assert record(node.url, tmp_path, 8, 8) == 1
    assert "block 8: its receipts hash to 0x" in capsys.readouterr().err
    assert find_parts(tmp_path) == []


def test_a_block_that_does_not_verify_is_flagged_where_asked_for(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert record(node.url, tmp_path, 7, 8, "--no-verify") == 0
    flags = Recording(tmp_path).blocks(["receipts_root_verified"])["receipts_root_verified"]
    assert flags.to_pylist() == [False, False]
    assert "2 of them NOT verified" in capsys.readouterr().out


def test_a_missing_receipt_is_refused_even_unverified(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node.answers["eth_getBlockReceipts"] = []
    assert record(node.url, tmp_path, 7, 7, "--no-verify") == 1
    assert "receipts" in capsys.readouterr().err


@pytest.mark.parametrize(
    "failure",
    [
        Response(status=503),
        Response(status=429),
        Response("<html>"),
        {"code": -32005, "message": "limit exceeded"},
        None,
    ],
    ids=["503", "429", "html", "limit", "null"],
)
def test_a_passing_failure_is_waited_out(
    node: Node, tmp_path: Path, failure: Response | Json | None
) -> None:
    node.failures["eth_getBlockByNumber"] = [failure]
    assert record(node.url, tmp_path, 7, 7, "--no-verify") == 0
    assert len(recorded_blocks(tmp_path)) == 1


def test_a_node_that_stays_away_is_an_error_that_shows_no_key(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node.answers["eth_getBlockByNumber"] = Response(status=500)
    assert record(node.url, tmp_path, 7, 7, "--patience", "0.1") == 1
    said = capsys.readouterr().err
    assert "HTTP 500; the same command resumes" in said
    ours = [line for line in said.splitlines() if "POST" not in line]  # the server logs here too
    assert "0123456789abcdef" not in "".join(ours)


def test_a_block_that_is_not_there_yet_is_named(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert record(node.url, tmp_path, 7, 9) == 1
    assert "--to-block 9: the node's newest block is 8" in capsys.readouterr().err


def test_a_reorganisation_between_two_runs_is_noticed(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert record(node.url, tmp_path, 7, 7, "--no-verify") == 0
    node.blocks["0x8"] = make_block(8, fork=1, parent_fork=1)
    assert record(node.url, tmp_path, 8, 8, "--no-verify") == 1
    assert "reorganised" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "recorded"),
    [
        ({"code": 3, "message": "execution reverted"}, (None, None, None)),
        ({"code": -32000, "message": "invalid opcode: INVALID"}, (None, None, None)),
        ("0x", ("0x", "0x", "0x")),
        ({"code": -32000, "message": "missing trie node"}, None),
        ("0x" + "61" * 100_000, None),
        (17, None),
    ],
    ids=["reverts", "invalid", "empty", "pruned", "huge", "number"],
)
def test_token_answers_are_recorded_where_they_are_the_tokens_own(
    node: Node, tmp_path: Path, answer: Any, recorded: tuple[str | None, ...] | None
) -> None:
    node.answers["eth_call"] = answer
    assert record(node.url, tmp_path, 7, 7, "--no-verify") == 0
    tokens = Recording(tmp_path).tokens().values()
    assert [(t.name, t.symbol, t.decimals) for t in tokens] == ([recorded] if recorded else [])


@pytest.fixture
def tokens(node: Node) -> FakeNode:
    """Forty tokens that move in block 7; some are not quite tokens."""
    addresses = [f"0x{number:040x}" for number in range(1, 41)]
    node.blocks["0x7"] = make_block(
        7, [make_log(index, address=address) for index, address in enumerate(addresses)]
    )
    known = {a: usual_token(f"Token {a[-2:]}", a[-2:], 18) for a in addresses}
    del known[addresses[3]]  # no contract
    del known[addresses[4]]["decimals"]  # reverts
    known[addresses[5]]["name"] = b"\xff" * 5_000
    chain = FakeNode(known)

    def call(params: list[Any]) -> Any:
        try:
            return chain.eth_call(*params)
        except ValueError as error:
            return {"code": 3, "message": str(error)}

    node.answers["eth_call"] = call
    return chain


def test_tokens_are_asked_together(node: Node, tokens: FakeNode, tmp_path: Path) -> None:
    assert record(node.url, tmp_path / "together", 7, 7, "--no-verify") == 0
    assert node.asked.count("eth_call") == 2 + 3  # two requests, and the one that reverts alone
    tokens.has_multicall = False
    assert record(node.url, tmp_path / "alone", 7, 7, "--no-verify") == 0
    assert node.asked.count("eth_call") > 100
    found = Recording(tmp_path / "together").tokens()
    assert found == Recording(tmp_path / "alone").tokens()
    assert len(found) == 39  # one has a name of absurd length
    assert found["0x" + "0" * 39 + "4"].symbol == "0x"
    assert found["0x" + "0" * 39 + "5"].decimals is None


def test_a_token_that_burns_the_gas_of_others_does_not_speak_for_them(
    node: Node, tokens: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert record(node.url, tmp_path / "before", 7, 7, "--no-verify") == 0
    left = 20

    def starved(token: str, allow_failure: bool, data: bytes) -> tuple[bool, bytes]:
        nonlocal left
        left -= 1
        return FakeNode._try(tokens, token, allow_failure, data) if left > 0 else (False, b"")

    monkeypatch.setattr(tokens, "_try", starved)
    assert record(node.url, tmp_path / "after", 7, 7, "--no-verify") == 0
    assert Recording(tmp_path / "before").tokens() == Recording(tmp_path / "after").tokens()


def test_one_refusal_does_not_end_the_asking_for_whole_blocks(node: Node, tmp_path: Path) -> None:
    node.failures["eth_getBlockReceipts"] = [{"code": -32000, "message": "header not found"}]
    assert record(node.url, tmp_path, 7, 8, "--no-verify", "--workers", "1") == 0
    assert node.asked.count("eth_getBlockReceipts") == 2
    assert node.asked.count("eth_getTransactionReceipt") == 1


def test_a_low_rate_with_many_workers_is_kept_and_no_error(node: Node, tmp_path: Path) -> None:
    slow = ["--requests-per-second", "1", "--workers", "50", "--timeout", "0.9"]
    assert record(node.url, tmp_path, 7, 7, "--no-verify", "--no-tokens", *slow) == 0
    assert len(recorded_blocks(tmp_path)) == 1


def test_tokens_are_left_out_where_asked_for(node: Node, tmp_path: Path) -> None:
    assert record(node.url, tmp_path, 7, 7, "--no-verify", "--no-tokens") == 0
    assert "eth_call" not in node.asked


@pytest.mark.parametrize(
    "arguments",
    [
        ["--from-block", "2", "--to-block", "1", "--out", "x", "--url", "http://127.0.0.1:1"],
        ["--from-block", "-1", "--to-block", "1", "--out", "x", "--url", "http://127.0.0.1:1"],
        ["--from-block", "1", "--to-block", "2", "--out", "x"],
        ["--to-block", "2", "--out", "x", "--url", "http://127.0.0.1:1"],
    ],
)
def test_wrong_usage_exits_with_2(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("JSON_RPC_URL", raising=False)
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2
    assert "npm run record" in capsys.readouterr().err


def test_a_url_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert record("ftp://key@node", tmp_path, 1, 2) == 1
    assert "http" in capsys.readouterr().err


def test_a_folder_of_another_chain_is_refused(node: Node, tmp_path: Path) -> None:
    assert record(node.url, tmp_path, 7, 7, "--no-verify") == 0
    node.answers["eth_chainId"] = "0x38"
    assert record(node.url, tmp_path, 8, 8, "--no-verify") == 1
    with pytest.raises(RecordingError):
        Recording(tmp_path / "missing")
