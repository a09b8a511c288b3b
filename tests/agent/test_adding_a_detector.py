"""docs/adding-a-detector.md holds: its steps, taken in a copy of the project, add a detector."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from src.chain.transfers import Transfer
from src.settings import PROJECT_ROOT, SETTINGS
from tests.backtest.data import Transaction, write_dataset
from tests.backtest.test_equality import event_of
from tests.conftest import ALICE, BOB, TX_HASH, USDC

PAGE = PROJECT_ROOT / "docs" / "adding-a-detector.md"
COPIED = ("src", "policy.yaml", "isolation_forest.pkl", "isolation_forest.manifest.json")

# A transfer there and back.
ROUND_TRIP = Transaction(
    TX_HASH, 20_000, 0, ALICE, BOB, 9,
    [Transfer(USDC, ALICE, BOB, 10**6, 0), Transfer(USDC, BOB, ALICE, 10**6, 1)],
)  # fmt: skip

# The bot, the service and a backtest, in one process that imports once what they have in common.
DECIDE = """
import json, sys
from forta_agent import create_transaction_event
from src import agent
from src.backtest.__main__ import main as backtest
from src.chain.transfers import Transfer
from src.decision.__main__ import main as check
from src.service.decider import Decider
from src.service.records import LoadedTransaction
from src.settings import load_settings

given = json.load(sys.stdin)
assert check(["--check", "policy.yaml"]) == 0
agent.initialize()
found = agent.handle_transaction(create_transaction_event(given["event"]))
by_bot = [
    [f.alert_id, f.name, f.description, f.severity.name, f.metadata["reason"]]
    for f in found if "detector" in f.metadata
]
agent.BOT.close()

decider = Decider(load_settings())
*facts, transfers = given["loaded"]
moved = tuple(Transfer(*transfer) for transfer in transfers)
found = decider.decide(LoadedTransaction(*facts, moved)).alerts
by_service = [[a.alert_id, a.name, a.description, a.severity, a.reason] for a in found]
decider.close()

assert backtest(given["backtest"]) == 0
print(json.dumps([by_bot, by_service]))
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project, compiled kernels included, after the page's three steps."""
    copy = tmp_path / "project"
    copy.mkdir()
    for name in COPIED:
        source = PROJECT_ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, copy / name)
    detector, registration = blocks("python")
    (switch,) = blocks("yaml")
    folder = copy / "src" / "detection" / "detectors"
    (folder / "round_trip.py").write_text(detector)
    imported, registered = registration.strip("\n").split("\n\n")
    registry = folder / "__init__.py"
    text = registry.read_text()
    before_import, before_classes = "from src.detection.detectors.supervised", "] = (\n"
    for before in (before_import, before_classes):
        assert text.count(before) == 1
    text = text.replace(before_import, f"{imported}\n{before_import}")
    registry.write_text(text.replace(before_classes, f"{before_classes}{registered}\n"))
    policy = copy / "policy.yaml"
    text = policy.read_text()
    assert text.count("\ndetectors:\n") == 1
    policy.write_text(text.replace("\ndetectors:\n", f"\ndetectors:\n{switch}"))
    return copy


@pytest.mark.parametrize("check", [("check",), ("format", "--check")], ids=["rules", "format"])
def test_the_pages_detector_passes_lint_as_it_stands_there(check: tuple[str, ...]) -> None:
    linted = subprocess.run(
        [
            Path(sys.executable).with_name("ruff"), *check,
            "--stdin-filename", "src/detection/detectors/round_trip.py", "-",
        ],
        cwd=PROJECT_ROOT, input=blocks("python")[0], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_the_three_steps_add_a_detector_to_the_bot_the_service_and_the_backtest(
    project: Path, tmp_path: Path
) -> None:
    event = event_of(ROUND_TRIP)
    data, out = tmp_path / "data", tmp_path / "out"
    write_dataset(data, [ROUND_TRIP])
    given = {
        "event": {
            "transaction": {"hash": TX_HASH, "from": ALICE, "to": BOB, "nonce": 9},
            "block": {"number": ROUND_TRIP.block, "timestamp": ROUND_TRIP.timestamp},
            "logs": [
                {"address": log.address, "topics": log.topics, "data": log.data, "logIndex": place}
                for place, log in enumerate(event.logs)
            ],
        },
        "loaded": [
            TX_HASH, ROUND_TRIP.block, "0x" + "b" * 64, ROUND_TRIP.timestamp, 0, ALICE, BOB, 9,
            None, None, ROUND_TRIP.transfers,
        ],
        "backtest": [
            "--data", str(data), "--out", str(out), "--threshold", "1", "--workers", "1",
        ],
    }  # fmt: skip
    unset = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    environment = unset | {
        "JSON_RPC_URL": "http://127.0.0.1:1", "FORTA_CHAIN_ID": "1", "ANOMALY_THRESHOLD": "1",
    }  # fmt: skip
    child = subprocess.run(
        [sys.executable, "-c", DECIDE],
        cwd=project, env=environment | {"PYTHONPATH": str(project)}, input=json.dumps(given),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    assert "on     round_trip" in child.stdout
    by_bot, by_service = json.loads(child.stdout.splitlines()[-1])

    (table,) = (out / "alerts").glob("day=*/*.parquet")
    ((_normal, rule),) = map(json.loads, pq.ParquetFile(table).read()["alerts"].to_pylist())
    by_backtest = [[rule[key] for key in ("alert_id", "name", "description", "severity", "reason")]]

    expected = [
        "ROUND-TRIP", "Round Trip", f"{ALICE} executed tx in which tokens return to their account",
        "High", "1 transfer of tokens came back",
    ]  # fmt: skip
    assert by_bot == by_service == by_backtest == [expected]
