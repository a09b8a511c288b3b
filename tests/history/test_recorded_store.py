"""A recording holds its own history store, which is made again when blocks are added."""

import shutil
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from src.chain.recording.format import Recording
from src.datasets.store import MANIFEST, Store, is_store, open_store
from src.history.__main__ import main
from src.history.importing import ImportOptions, import_history
from tests.chain.recording.blocks import make_block, make_log, write_blocks
from tests.chain.recording.node import Node, record
from tests.history.imports import imported, rows_of


@pytest.fixture
def node(httpserver: HTTPServer) -> Node:
    return Node(httpserver)


def in_place(folder: Path, slice_transfers: int = 500_000) -> Store:
    options = ImportOptions(slice_transfers=slice_transfers)
    return import_history(str(folder), folder, options, lambda _: lambda _: None)


def slices_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def test_the_command_records_a_store(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert record(node.url, tmp_path, 7, 8, "--no-verify") == 0
    assert rows_of(open_store(tmp_path)) == rows_of(imported(tmp_path))
    assert [row["block_number"] for row in rows_of(open_store(tmp_path))] == [7, 8]
    assert f"npm run backtest -- --data {tmp_path} --out OUT" in capsys.readouterr().out


def test_an_extended_recording_has_the_store_of_one_recorded_at_once(
    node: Node, tmp_path: Path
) -> None:
    for last in (7, 8):
        assert record(node.url, tmp_path / "twice", 7, last, "--no-verify") == 0
    assert record(node.url, tmp_path / "once", 7, 8, "--no-verify") == 0
    assert slices_of(tmp_path / "twice") == slices_of(tmp_path / "once")
    assert len(Recording(tmp_path / "twice").parts) == 2


def test_a_recording_that_is_not_extended_to_its_end_has_no_store(
    node: Node, tmp_path: Path
) -> None:
    assert record(node.url, tmp_path, 7, 7, "--no-verify") == 0
    node.answers["eth_getBlockReceipts"] = node.answers["eth_getTransactionReceipt"] = None
    assert record(node.url, tmp_path, 7, 8, "--patience", "0.1") == 1
    assert not is_store(tmp_path)


def test_a_store_is_made_again_after_a_part_is_replaced(tmp_path: Path) -> None:
    write_blocks(tmp_path, 1, 2)
    assert in_place(tmp_path).facts["layout"] == "recording"
    first = slices_of(tmp_path)
    (part,) = Recording(tmp_path).parts
    shutil.rmtree(part.path)
    write_blocks(tmp_path, 1)
    write_blocks(tmp_path, 2, 3)
    assert [row["block_number"] for row in rows_of(in_place(tmp_path))] == [1, 2, 3]
    assert slices_of(tmp_path).keys().isdisjoint(first)


def test_an_interrupted_store_of_other_blocks_is_made_again(tmp_path: Path) -> None:
    write_blocks(tmp_path, 1, 2)
    in_place(tmp_path, slice_transfers=1)
    (tmp_path / MANIFEST).unlink()
    write_blocks(tmp_path, 3)
    (tmp_path / ".unfinished-blocks-000000000004-000000000005").mkdir()  # of a killed recorder
    (tmp_path / "2026-august.parquet").touch()  # of the user
    assert [row["block_number"] for row in rows_of(in_place(tmp_path, slice_transfers=1))] == [
        1, 2, 3,
    ]  # fmt: skip
    assert (tmp_path / "2026-august.parquet").exists()


def test_a_range_of_a_recording_is_not_its_own_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_blocks(tmp_path, 1, 2)
    words = ["--data", str(tmp_path), "--out", f"{tmp_path}/", "--from-block", "2"]
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "a recording's own store holds all its blocks" in capsys.readouterr().err
    assert not is_store(tmp_path)


def test_unverified_blocks_that_no_chain_has_are_recorded_without_a_store(
    node: Node, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logs = [make_log(), make_log(data=f"0x{1:064x}")]  # two at one place
    node.blocks["0x7"] = make_block(7, logs)
    assert record(node.url, tmp_path, 7, 7, "--no-verify") == 0
    assert len(Recording(tmp_path).parts) == 1
    assert not is_store(tmp_path)
    assert "can be replayed, but not backtested" in caplog.text
    assert "twice with another amount" in caplog.text


def test_blocks_without_transfers_are_an_empty_store(node: Node, tmp_path: Path) -> None:
    node.blocks["0x7"] = make_block(7, [])
    assert record(node.url, tmp_path, 7, 7, "--no-verify") == 0
    assert open_store(tmp_path).slices == ()
