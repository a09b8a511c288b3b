"""Every local mode of the real forta-agent CLI, with the project's bot on a real local chain."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.demo.anvil import anvil
from src.demo.contracts import ROOT, compile_contracts
from src.demo.forta_cli import cli_environment, run_cli
from src.demo.processes import running
from src.demo.scenarios import SCENARIOS, Played, play
from src.demo.world import GENESIS, World, build
from tests.support.waiting import wait_until

pytestmark = pytest.mark.integration

NORMAL = "NORMAL-TOKEN-TRANSFERS-TX"
ANOMALOUS = "ANOMALOUS-TOKEN-TRANSFERS-TX"

Stage = tuple[World, dict[str, Played]]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with anvil(timestamp=GENESIS) as chain:
        world = build(chain, compile_contracts())
        yield world, {played.scenario.key: played for played in play(world, SCENARIOS)}


def block_of(stage: Stage, key: str) -> int:
    receipt = stage[0].chain.rpc("eth_getTransactionReceipt", stage[1][key].transaction_hash)
    return int(receipt["blockNumber"], 16)


def run(stage: Stage, tmp_path: Path, *arguments: str) -> dict[str, list[str]]:
    """Alert ids of the primary findings by transaction hash."""
    result = run_cli(
        *arguments,
        json_rpc_url=stage[0].chain.url,
        home=tmp_path,
        settings={"LOOKUP_DEADLINE_SECONDS": "25", "JSON_RPC_REQUESTS_PER_SECOND": "1000"},
    )
    return {
        tx_hash: [
            finding["alertId"] for finding in findings if "-TRANSFERS-TX" in finding["alertId"]
        ]
        for tx_hash, findings in result.findings.items()
    }


def test_tx(stage, tmp_path):
    payment, theft, ether = (stage[1][key] for key in ("usdc", "theft", "ether"))
    hashes = [played.transaction_hash for played in (payment, theft, ether)]
    assert run(stage, tmp_path, "tx", ",".join(hashes)) == {
        payment.transaction_hash: [NORMAL],
        theft.transaction_hash: [ANOMALOUS],
        ether.transaction_hash: [],
    }


def test_block(stage, tmp_path):
    number = str(block_of(stage, "theft"))
    assert run(stage, tmp_path, "block", number) == {
        stage[1]["theft"].transaction_hash: [ANOMALOUS]
    }


def test_range(stage, tmp_path):
    first, last = block_of(stage, "usdc"), block_of(stage, "theft")
    found = run(stage, tmp_path, "range", f"{first}..{last}")
    in_range = {
        played.transaction_hash: [ANOMALOUS if played.scenario.key == "theft" else NORMAL]
        for played in stage[1].values()
        if played.transfers
    }
    assert {tx_hash: found.get(tx_hash) for tx_hash in in_range} == in_range


def test_sequence(stage, tmp_path):
    payment = stage[1]["usdc"].transaction_hash
    found = run(stage, tmp_path, "sequence", f"tx{payment},{block_of(stage, 'theft')}")
    assert found == {payment: [NORMAL], stage[1]["theft"].transaction_hash: [ANOMALOUS]}


def test_file(stage, tmp_path):
    chain = stage[0].chain
    played = stage[1]["usdc"]
    receipt = chain.rpc("eth_getTransactionReceipt", played.transaction_hash)
    block = chain.rpc("eth_getBlockByNumber", receipt["blockNumber"], False)
    event = {
        "type": 0,
        "network": 1,
        "hash": played.transaction_hash,
        "transaction": {"hash": played.transaction_hash, "from": played.sender, "data": "0x"},
        "addresses": {played.sender: True},
        "traces": [],
        "logs": receipt["logs"],
        "block": {
            "hash": block["hash"],
            "number": int(block["number"], 16),
            "timestamp": int(block["timestamp"], 16),
        },
    }
    path = tmp_path / "events.json"
    path.write_text(json.dumps({"transactionEvents": [event], "blockEvents": []}))
    found = run(stage, tmp_path, "file", str(path))
    assert found == {played.transaction_hash: [NORMAL]}


def test_live(tmp_path):
    with anvil(timestamp=GENESIS) as chain:
        payment = next(scenario for scenario in SCENARIOS if scenario.key == "usdc")
        play(build(chain, compile_contracts()), [payment])
        log = tmp_path / "live.log"
        with (
            log.open("w") as output,
            running(
                ["node", "scripts/forta.mjs", "start"], folder=tmp_path, patience=0,
                cwd=ROOT, env=cli_environment(chain.url, tmp_path),
                stdout=output, stderr=subprocess.STDOUT,
            ) as process,
        ):  # fmt: skip
            wait_until(lambda: NORMAL in log.read_text(), process)
