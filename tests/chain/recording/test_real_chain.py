"""A recording of a local chain is that chain, also after stops and kills."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from src.chain.recording.format import Recording, find_parts
from src.demo.anvil import Chain, anvil
from src.demo.processes import supervised
from tests.chain.recording.node import FAST, Node, record, recorded_blocks
from tests.support.recording_chain import ROOT, play
from tests.support.waiting import PATIENCE, wait_until


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with anvil(timestamp=1_700_000_000) as running:
        play(running)
        yield running


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
from src.history.record import main
from tests.support.killing import kill_at
kill_at(int(sys.argv[1]), Path(sys.argv[2]))
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.integration
def test_a_recording_killed_at_six_points_resumes_to_the_same(
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
    for kill in range(6):  # by turns after a number of requests and at a step with the files
        command = ["-m", "src.history.record"]
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
    node.answers["eth_getBlockByNumber"] = None  # block 7 comes, then the node is stuck
    node.failures["eth_getBlockByNumber"] = [node.blocks["0x7"].block]
    arguments = ["--from-block", "7", "--to-block", "8", "--out", str(tmp_path), "--workers", "1"]
    process = subprocess.Popen(
        supervised([sys.executable, "-m", "src.history.record", *arguments, "--no-verify"]),
        cwd=ROOT,
        env=os.environ | {"JSON_RPC_URL": node.url},
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: node.asked.count("eth_getBlockByNumber") >= 4, process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM
    assert b"the same command resumes" in said
    assert b"0123456789abcdef" not in said
    assert [(part.first, part.last) for part in find_parts(tmp_path)] == [(7, 7)]
