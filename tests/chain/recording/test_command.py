"""The command's usage, its rate, and folders of other chains."""

from pathlib import Path

import pytest

from src.chain.recording.format import Recording, RecordingError
from src.history.record import main
from tests.chain.recording.node import Node, record, recorded_blocks


def test_a_low_rate_with_many_workers_is_kept_and_no_error(node: Node, tmp_path: Path) -> None:
    slow = ["--requests-per-second", "1", "--workers", "50", "--timeout", "0.9"]
    assert record(node.url, tmp_path, 7, 7, "--no-verify", "--no-tokens", *slow) == 0
    assert len(recorded_blocks(tmp_path)) == 1


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


def test_a_node_of_another_chain_than_the_setting_is_refused(
    node: Node,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FORTA_CHAIN_ID", "8453")
    assert record(node.url, tmp_path / "out", 7, 7, "--no-verify") == 2
    assert "FORTA_CHAIN_ID must be 1, the chain of the node" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
