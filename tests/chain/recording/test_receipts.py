"""Receipts that a node gives incompletely, in another form, or only one by one."""

from pathlib import Path
from typing import Any

import pytest
from werkzeug import Response

from src.chain.recording.format import Recording, find_parts
from src.chain.recording.receipts_root import Outcome, receipts_root
from src.chain.recording.rows import RecordedBlock
from src.chain.recording.verification import verified_block
from tests.chain.recording.blocks import make_block, make_log
from tests.chain.recording.node import Json, Node, record, recorded_blocks
from tests.chain.recording.test_receipts_root import root_by_the_book

DEMO_BLOCKS = Path(__file__).parents[3] / "src/service/demo_blocks"
STATE_ROOT = "0x" + "ab" * 32


def sealed(block: RecordedBlock, root: str | None = None) -> RecordedBlock:
    """The block with the root over its receipts in its header."""
    block.block["receiptsRoot"] = root or receipts_root(block.receipts)
    return block


@pytest.fixture
def honest(node: Node) -> Node:
    """The node with blocks that verify."""
    for block in node.blocks.values():
        sealed(block)
    return node


@pytest.mark.parametrize(
    "answer",
    [
        [],
        lambda params: make_block(int(params[0], 16)).receipts * 2,
        lambda params: make_block(int(params[0], 16), [make_log(data="0x00")]).receipts,
        {"code": -32000, "message": "failed to find transaction in block"},
        Response("", 500),
        Response("", 501),
        Response("", 405),
        Response("<html>"),
        {"not": "a list"},
        None,
    ],
    ids=["none", "more", "forged", "error", "500", "501", "405", "html", "object", "null"],
)
def test_receipts_are_requested_one_by_one_if_the_block_s_do_not_verify(
    honest: Node, tmp_path: Path, answer: Any
) -> None:
    honest.answers["eth_getBlockReceipts"] = answer
    assert record(honest.url, tmp_path, 7, 8, "--no-tokens", "--patience", "1") == 0
    verified = Recording(tmp_path).blocks(["receipts_root_verified"])["receipts_root_verified"]
    assert verified.to_pylist() == [True, True]
    assert honest.asked.count("eth_getTransactionReceipt") == 2


def test_a_bloom_that_is_left_out_is_computed() -> None:
    recording = Recording(DEMO_BLOCKS)
    (part,) = recording.parts
    blocks = recorded_blocks(DEMO_BLOCKS)
    assert part.last - part.first + 1 == len(blocks)
    assert any(receipt["logs"] for _, receipts in blocks for receipt in receipts)
    for block, receipts in blocks:
        bare = [{k: v for k, v in one.items() if k != "logsBloom"} for one in receipts]
        assert verified_block(RecordedBlock(block, bare))[1] == ""


def test_null_for_no_logs_is_no_damage(honest: Node, tmp_path: Path) -> None:
    honest.blocks["0x7"] = sealed(make_block(7, []))
    honest.blocks["0x7"].receipts[0]["logs"] = None
    assert record(honest.url, tmp_path, 7, 7) == 0
    ((_, (receipt,)),) = recorded_blocks(tmp_path)
    assert receipt["logs"] == []


def test_what_is_missing_is_named(honest: Node, tmp_path: Path, capsys: Any) -> None:
    del honest.blocks["0x7"].receipts[0]["cumulativeGasUsed"]
    assert record(honest.url, tmp_path, 7, 7) == 1
    assert "receipt 0 is malformed: 'cumulativeGasUsed' is missing" in capsys.readouterr().err


def test_a_refused_method_is_left_alone_after_a_while(honest: Node, tmp_path: Path) -> None:
    honest.answers["eth_getBlockReceipts"] = Response("", 501)
    blocks = [make_block(number) for number in range(1, 20)]
    honest.blocks = {block.block["number"]: sealed(block) for block in blocks}
    honest.answers["eth_blockNumber"] = "0x20"
    assert record(honest.url, tmp_path, 1, 19, "--no-tokens", "--workers", "1") == 0
    assert honest.asked.count("eth_getBlockReceipts") == 3


def test_an_unverifiable_block_can_be_left_out(
    honest: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = [sealed(make_block(number)) for number in range(1, 6)]
    honest.blocks = {block.block["number"]: block for block in blocks}
    blocks[2].block["receiptsRoot"] = "0x" + "11" * 32
    assert record(honest.url, tmp_path, 1, 5, "--no-tokens") == 1
    assert "block 3" in (said := capsys.readouterr().err)
    assert "--no-verify to record it as unverified, or --skip-unverifiable" in said
    assert record(honest.url, tmp_path, 1, 5, "--no-tokens", "--skip-unverifiable") == 0
    assert "1 blocks are left out: 3" in capsys.readouterr().out
    assert [(part.first, part.last) for part in find_parts(tmp_path)] == [(1, 2), (4, 5)]
    sealed(blocks[2])
    assert record(honest.url, tmp_path, 1, 5, "--no-tokens") == 0
    assert Recording(tmp_path).blocks(["block_number"]).num_rows == 5


def test_a_receipt_that_the_node_fails_on_for_good_is_a_block_that_can_be_left_out(
    honest: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = honest.blocks["0x7"].receipts[0]["transactionHash"]

    def receipt(params: list[Any]) -> Any:
        if params[0] == lost:
            return {"code": -32603, "message": "receipts of this block are damaged"}
        return honest.blocks["0x8"].receipts[0]

    honest.answers |= {"eth_getBlockReceipts": [], "eth_getTransactionReceipt": receipt}
    asked = (honest.url, tmp_path, 7, 8, "--no-tokens", "--patience", "0.1")
    assert record(*asked) == 1
    assert "receipts of this block are damaged. Use another node" in capsys.readouterr().err
    assert record(*asked, "--skip-unverifiable") == 0
    assert "1 blocks are left out: 7" in capsys.readouterr().out


def deposit(**fields: Any) -> Json:
    return make_block(7, receipt={"type": "0x7e"} | fields).receipts[0]


def test_a_deposit_of_the_op_stack_is_hashed_with_its_nonce_since_canyon() -> None:
    canyon = deposit(depositNonce="0x1af6bc1", depositReceiptVersion="0x1")
    assert receipts_root([canyon]) == root_by_the_book(
        [canyon],
        lambda one: [int(one[f"deposit{name}"], 16) for name in ("Nonce", "ReceiptVersion")],
    )
    assert receipts_root([deposit(depositNonce="0x5")]) == root_by_the_book([deposit()])


def test_a_state_root_beside_a_status_is_either_or_nothing() -> None:
    block = make_block(7, receipt={"root": "0x"})
    by_status = receipts_root(make_block(7).receipts)
    assert verified_block(sealed(block, by_status))[0] is not None
    block = make_block(7, receipt={"root": STATE_ROOT})
    assert verified_block(sealed(block, by_status))[0] is not None
    by_root = receipts_root(block.receipts, Outcome.ROOT)
    assert by_root != by_status
    assert verified_block(sealed(block, by_root))[0] is not None


def test_a_receipt_is_completed_from_its_transaction() -> None:
    block = make_block(7, transaction={"type": "0x2"}, receipt={"type": "0x2"})
    sealed(block)
    del block.receipts[0]["type"]
    assert verified_block(block) == (block, "")
    nonce = {"nonce": "0x1af6bc1", "depositReceiptVersion": "0x1"}
    block = make_block(7, transaction={"type": "0x7e"} | nonce, receipt={"type": "0x7e"})
    root = receipts_root([deposit(depositNonce="0x1af6bc1", depositReceiptVersion="0x1")])
    assert verified_block(sealed(block, root)) == (block, "")


def with_state_sync(block: RecordedBlock, *, in_block: bool = True) -> RecordedBlock:
    sealed(block)
    tx_hash = "0x" + "77" * 32
    nobody = {"from": "0x" + "0" * 40, "to": "0x" + "0" * 40, "transactionIndex": "0x1"}
    if in_block:
        sent = block.block["transactions"][0] | nobody | {"hash": tx_hash}
        block.block["transactions"].append(sent)
    changes = {"transactionHash": tx_hash, "gasUsed": "0x0", "cumulativeGasUsed": "0x0"}
    block.receipts.append(block.receipts[0] | nobody | changes)
    return block


def test_the_state_sync_of_polygon_is_left_out_of_a_verified_block() -> None:
    block, problem = verified_block(with_state_sync(make_block(7)))
    assert (len(block.receipts) if block else 0, problem) == (1, "")


def test_a_block_of_nothing_but_a_state_sync_verifies() -> None:
    block = with_state_sync(make_block(7))
    block.receipts.pop(0)
    block.block["transactions"].pop(0)
    found, problem = verified_block(sealed(block, receipts_root([])))
    assert (found and found.receipts, problem) == ([], "")


@pytest.mark.parametrize(
    "missing", [None, {"code": -32000, "message": "block has less receipts than expected"}]
)
def test_a_state_sync_without_a_receipt_costs_nothing(
    honest: Node, tmp_path: Path, missing: Any
) -> None:
    """As in some nodes of Polygon, for good."""
    block = with_state_sync(honest.blocks["0x7"])
    block.block["transactions"][-1] |= {"gas": "0x0", "type": "0x0"}
    block.receipts.pop()

    def receipt(params: list[Any]) -> Any:
        found = block.receipts[0]
        return found if params[0] == found["transactionHash"] else missing

    honest.answers["eth_getTransactionReceipt"] = receipt
    assert record(honest.url, tmp_path, 7, 7, "--no-tokens", "--patience", "1") == 0
    verified = Recording(tmp_path).blocks(["receipts_root_verified"])["receipts_root_verified"]
    assert verified.to_pylist() == [True]


def test_a_receipt_too_many_is_left_out_with_and_without_verification(
    honest: Node, tmp_path: Path
) -> None:
    honest.blocks["0x7"] = with_state_sync(honest.blocks["0x7"], in_block=False)
    assert record(honest.url, tmp_path / "a", 7, 7, "--no-tokens") == 0
    assert record(honest.url, tmp_path / "b", 7, 7, "--no-tokens", "--no-verify") == 0


@pytest.mark.parametrize(
    ("block", "root", "words"),
    [
        (make_block(4_000_000), None, "post-state `root`"),
        (make_block(20_000_000), None, "logs are missing or wrong"),
        (make_block(4_000_000, receipt={"type": "0x2"}), None, "logs are missing or wrong"),
        (make_block(7, receipt={"type": "0x7e"}), None, "receipts of type 0x7e"),
        (make_block(7), "0x" + "0" * 64, "states no receipts root"),
        (make_block(7), receipts_root([]), "that of a block without transactions"),
        (RecordedBlock(make_block(7).block, []), None, "0 receipts for 1 transactions"),
    ],
)
def test_the_kind_of_mismatch_is_named(block: RecordedBlock, root: str | None, words: str) -> None:
    verified, problem = verified_block(sealed(block, root or "0x" + "11" * 32))
    assert verified is None
    assert words in problem
