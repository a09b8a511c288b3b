"""The demo's command from start to end, also when it is stopped."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from src.demo.contracts import ROOT
from src.demo.processes import supervised
from src.demo.scenarios import NO_FINDING
from tests.demo.chains import answers
from tests.support.waiting import PATIENCE


def start_demo(*options: str, temporary: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        supervised([sys.executable, "-m", "src.demo", *options]),
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.integration
def test_the_demo_finds_the_theft_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with start_demo("--json", temporary=tmp_path) as demo:
        stdout, stderr = demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 0, stderr
    answer = json.loads(stdout)
    found = {
        transaction["scenario"]: transaction["answer"] for transaction in answer["transactions"]
    }
    assert found["usdc"] == "NORMAL"
    assert found["theft"] == "ANOMALOUS"
    assert found["ether"] == NO_FINDING
    assert list(tmp_path.iterdir()) == []


@pytest.mark.integration
def test_the_demo_finds_the_theft_on_another_chain(tmp_path: Path) -> None:
    with start_demo("--json", "--chain", "base", temporary=tmp_path) as demo:
        stdout, stderr = demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 0, stderr
    transactions = {one["scenario"]: one for one in json.loads(stdout)["transactions"]}
    assert transactions["theft"]["answer"] == "ANOMALOUS"
    assert {one["finding"]["protocol"] for one in transactions.values() if one["finding"]} == {
        "base"
    }
    counterfeit = transactions["counterfeit"]["finding"]["metadata"]
    assert "impersonated_token" in counterfeit["reasons"]
    assert transactions["usdc"]["finding"]["metadata"]["action"] == "ALLOW"


@pytest.mark.integration
def test_the_guard_refuses_the_theft_before_it_is_mined(tmp_path: Path) -> None:
    with start_demo("--json", "--guard", temporary=tmp_path) as demo:
        stdout, stderr = demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 0, stderr
    sent = {one["key"]: one for one in json.loads(stdout)["sent"]}
    refused = {key for key, one in sent.items() if one["answer"] == "refused"}
    assert refused == {"theft", "shy"}
    assert len(sent) == 14
    assert (sent["armed"]["action"], sent["armed"]["mined_action"]) == ("ALLOW", "BLOCK")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.integration
def test_a_signal_ends_the_demo_and_all_that_it_started(tmp_path: Path) -> None:
    with start_demo("--keep", "--json", temporary=tmp_path) as demo:
        assert demo.stderr is not None
        for line in demo.stderr:
            if "Running the bot" in line:
                break
        (log,) = tmp_path.glob("demo-*/anvil.log")
        listening = re.search(r"Listening on (\S+)", log.read_text())
        assert listening is not None
        url = f"http://{listening.group(1)}"
        assert answers(url)
        demo.send_signal(signal.SIGTERM)
        demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
    assert not answers(url)
