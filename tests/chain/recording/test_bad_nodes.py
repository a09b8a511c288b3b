"""Nodes that fail, lie or change their mind are waited for or refused."""

from pathlib import Path

import pytest
from werkzeug import Response

from src.chain.recording.format import Recording, find_parts
from tests.chain.recording.blocks import make_block
from tests.chain.recording.node import Json, Node, record, recorded_blocks


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
    node.answers["eth_getTransactionReceipt"] = None
    assert record(node.url, tmp_path, 7, 7, "--no-verify", "--patience", "0.1") == 1
    said = capsys.readouterr().err
    assert "its receipts are not available: node: eth_getTransactionReceipt" in said
    assert "--no-verify" not in said


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


def forked(receipt: Json) -> Json:
    return receipt | {"blockHash": "0x" + "f0" * 32}


def test_receipts_of_another_block_are_waited_out(node: Node, tmp_path: Path) -> None:
    receipts = node.blocks["0x7"].receipts
    node.failures["eth_getBlockReceipts"] = [[forked(one) for one in receipts]] * 3
    node.failures["eth_getTransactionReceipt"] = [forked(receipts[0])] * 3 * len(receipts)
    assert record(node.url, tmp_path, 7, 7, "--no-verify", "--patience", "60") == 0
    assert len(recorded_blocks(tmp_path)) == 1


def test_another_block_than_the_one_asked_for_is_waited_out(node: Node, tmp_path: Path) -> None:
    node.failures["eth_getBlockByNumber"] = [node.blocks["0x8"].block, {"hash": "0x"}]
    assert record(node.url, tmp_path, 7, 7, "--no-verify") == 0
    assert len(recorded_blocks(tmp_path)) == 1


def test_a_head_that_lags_or_is_no_number_is_waited_out(node: Node, tmp_path: Path) -> None:
    node.failures["eth_blockNumber"] = ["0x7", "0x", None, "0x7"]
    assert record(node.url, tmp_path, 7, 8, "--no-verify") == 0
    assert len(recorded_blocks(tmp_path)) == 2


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
    assert record(node.url, tmp_path, 7, 9, "--patience", "0.1") == 1
    assert "--to-block 9: the node's newest block is only 8" in capsys.readouterr().err


def test_a_reorganisation_between_two_runs_is_noticed(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert record(node.url, tmp_path, 7, 7, "--no-verify") == 0
    node.blocks["0x8"] = make_block(8, fork=1, parent_fork=1)
    assert record(node.url, tmp_path, 8, 8, "--no-verify") == 1
    assert "reorganised" in capsys.readouterr().err
