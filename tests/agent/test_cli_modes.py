"""Every local mode of the real forta-agent CLI, with the project's bot on a real local chain.

The chain calls itself another one in most of them: what the bot says follows the node.
"""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from src.chain.networks import network
from src.demo.anvil import anvil
from src.demo.contracts import ROOT, compile_contracts
from src.demo.forta_cli import cli_environment, run_cli
from src.demo.processes import running
from src.demo.scenarios import SCENARIOS, Played, play
from src.demo.world import GENESIS, World, build, mint
from tests.support.two_usdcs import GENUINE
from tests.support.waiting import wait_until

pytestmark = pytest.mark.integration

NORMAL = "NORMAL-TOKEN-TRANSFERS-TX"
ANOMALOUS = "ANOMALOUS-TOKEN-TRANSFERS-TX"
IMPERSONATED = "IMPERSONATED-TOKEN"
TOLD = {NORMAL, ANOMALOUS, IMPERSONATED}

Stage = tuple[World, dict[str, Played]]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with anvil(timestamp=GENESIS) as chain:
        world = build(chain, compile_contracts())
        played = {played.scenario.key: played for played in play(world, SCENARIOS)}
        for chain_id in (137, 42161):
            played[f"usdc on {chain_id}"] = pay_genuine(world, chain_id)
        yield world, played


def pay_genuine(world: World, chain_id: int) -> Played:
    """A payment of the USDC of another chain, at its address there."""
    genuine = replace(world.tokens["USDC"], address=GENUINE[chain_id])
    world.chain.put_at(genuine.address, world.code["Token"])
    initialise = world.code["Token"].call("initialise(string,string,uint8)", "USD Coin", "USDC", 6)
    world.chain.send(world.people.alice, to=genuine.address, data=initialise)
    mint(world, genuine, world.people.alice, 1_000)
    usdc = next(scenario for scenario in SCENARIOS if scenario.key == "usdc")
    (played,) = play(replace(world, tokens={**world.tokens, "USDC": genuine}), [usdc])
    return played


def block_of(stage: Stage, key: str) -> int:
    receipt = stage[0].chain.rpc("eth_getTransactionReceipt", stage[1][key].transaction_hash)
    return int(receipt["blockNumber"], 16)


def run(stage: Stage, tmp_path: Path, *arguments: str, chain_id: int = 1) -> dict[str, list[str]]:
    """Alert ids of the findings by transaction hash, while the node calls itself that chain."""
    stage[0].chain.rpc("anvil_setChainId", chain_id)
    result = run_cli(
        *arguments,
        json_rpc_url=stage[0].chain.url,
        home=tmp_path,
        settings={"LOOKUP_DEADLINE_SECONDS": "25", "JSON_RPC_REQUESTS_PER_SECOND": "1000"},
    )
    found = [finding for findings in result.findings.values() for finding in findings]
    assert {finding["protocol"] for finding in found} == {network(chain_id).name}
    return {
        tx_hash: [finding["alertId"] for finding in findings if finding["alertId"] in TOLD]
        for tx_hash, findings in result.findings.items()
    }


def test_tx(stage, tmp_path):
    keys = ("usdc", "usdc on 137", "theft", "ether")
    usdc, genuine, theft, ether = (stage[1][key].transaction_hash for key in keys)
    hashes = ",".join([usdc, genuine, theft, ether])
    found = run(stage, tmp_path, "tx", hashes, chain_id=137)
    assert found[theft][0] == ANOMALOUS
    assert (found[usdc], found[genuine], found[ether]) == ([NORMAL, IMPERSONATED], [NORMAL], [])


def test_block(stage, tmp_path):
    number = str(block_of(stage, "theft"))
    assert run(stage, tmp_path, "block", number, chain_id=424_242) == {
        stage[1]["theft"].transaction_hash: [ANOMALOUS]
    }


def test_range(stage, tmp_path):
    first, last = block_of(stage, "usdc"), block_of(stage, "theft")
    found = run(stage, tmp_path, "range", f"{first}..{last}", chain_id=56)
    in_range = {
        played.transaction_hash: [ANOMALOUS if played.scenario.key == "theft" else NORMAL]
        for key, played in stage[1].items()
        if played.transfers and " on " not in key
    }
    assert {tx_hash: found[tx_hash][:1] for tx_hash in in_range} == in_range
    assert IMPERSONATED in found[stage[1]["counterfeit"].transaction_hash]


def test_sequence(stage, tmp_path):
    payment = stage[1]["usdc on 42161"].transaction_hash
    block = block_of(stage, "usdc")
    found = run(stage, tmp_path, "sequence", f"tx{payment},{block}", chain_id=42161)
    assert found == {
        payment: [NORMAL],
        stage[1]["usdc"].transaction_hash: [NORMAL, IMPERSONATED],
    }


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
    with anvil(timestamp=GENESIS, chain_id=8453) as chain:
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
