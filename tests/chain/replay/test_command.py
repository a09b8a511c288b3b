"""The command: what it serves, how it stops, and folders it cannot serve."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from src.chain.recording.format import open_writer
from src.chain.replay.__main__ import main
from src.demo.processes import supervised
from tests.chain.replay.served import ask
from tests.support.recording_chain import ROOT
from tests.support.waiting import PATIENCE


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_prints_what_it_serves_and_stops_immediately(
    dataset: Path, number: signal.Signals
) -> None:
    command = [
        sys.executable,
        "-m",
        "src.chain.replay",
        "--data",
        str(dataset),
        "--port",
        "0",
    ]
    with subprocess.Popen(
        supervised(command), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(7)]
        url = said[3].strip().removeprefix("export JSON_RPC_URL=")
        assert ask(url, "eth_chainId") == "0x1"
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
    assert f"Replaying chain 1 at {url}: 2 blocks (10-11), 3 transactions" in said[0]
    assert said[1].startswith("1 more are not served")
    assert said[3:] == [
        f"  export JSON_RPC_URL={url}\n",
        f"  npm run tx -- 0x{'b1' * 32} --nocache\n",
        "  npm run block -- 11 --nocache\n",
        "  npm run range -- 10..11 --nocache\n",
    ]


def truncate(folder: Path) -> None:
    file = folder / "transfers.parquet"
    file.write_bytes(file.read_bytes()[:-9])


def drop_column(folder: Path) -> None:
    file = folder / "transactions.parquet"
    pq.write_table(pq.read_table(file).drop_columns("gas_price"), file)


@pytest.mark.parametrize(
    ("spoil", "problem"), [(truncate, "transfers.parquet"), (drop_column, "gas_price")]
)
def test_a_damaged_data_set_is_an_error_that_names_it(
    dataset: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    problem: str,
) -> None:
    spoil(dataset)
    assert main(["--data", str(dataset), "--port", "0"]) == 1
    assert problem in capsys.readouterr().err


def test_the_error_for_an_unknown_folder_names_the_supported_kinds(
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
    small: str, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = small.rsplit(":", 1)[1]
    assert main(["--data", str(dataset), "--port", port]) == 1
    assert "--port" in capsys.readouterr().err
