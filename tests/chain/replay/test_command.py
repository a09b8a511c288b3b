"""The command: what it serves, how it stops, and folders it cannot serve."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from src.chain.recording.format import open_writer
from src.chain.replay.__main__ import main
from src.demo.processes import supervised
from tests.chain.recording.blocks import write_blocks
from tests.chain.replay.served import ask
from tests.support.recording_chain import ROOT
from tests.support.waiting import PATIENCE


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_prints_what_it_serves_and_stops_immediately(
    tmp_path: Path, number: signal.Signals
) -> None:
    write_blocks(tmp_path, 10, 11)
    command = [
        sys.executable,
        "-m",
        "src.chain.replay",
        "--data",
        str(tmp_path),
        "--port",
        "0",
    ]
    with subprocess.Popen(
        supervised(command), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(6)]
        url = said[2].strip().removeprefix("export JSON_RPC_URL=")
        assert ask(url, "eth_chainId") == "0x1"
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
    assert f"Replaying chain 1 at {url}: 2 blocks (10-11), 2 transactions" in said[0]
    assert said[2:] == [
        f"  export JSON_RPC_URL={url}\n",
        f"  npm run tx -- 0x{11 + 2**64:064x} --nocache\n",
        "  npm run block -- 11 --nocache\n",
        "  npm run range -- 10..11 --nocache\n",
    ]


def test_the_error_for_an_unknown_folder_names_the_command_that_makes_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(tmp_path), "--port", "0"]) == 1
    assert "npm run record" in capsys.readouterr().err


def test_an_empty_recording_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_writer(tmp_path, 1):
        pass
    assert main(["--data", str(tmp_path), "--port", "0"]) == 1
    assert "no block" in capsys.readouterr().err


def test_a_port_in_use_is_an_error_that_names_the_option(
    small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = small.rsplit(":", 1)[1]
    assert main(["--data", str(tmp_path), "--port", port]) == 1
    assert "--port" in capsys.readouterr().err
