"""The second SDK on local chains: the same findings as the first one's, to the letter.

It needs an environment of its own, since it does not import with the project's web3:

    python -m venv .venv-v2
    .venv-v2/bin/pip install --no-deps --require-hashes -r requirements/v2.txt
    FORTA_V2_PYTHON=.venv-v2/bin/python npm test -- tests/agent/test_agent_v2.py
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from src.settings import PROJECT_ROOT, SETTINGS
from tests.support.two_usdcs import two_usdcs

PYTHON = os.environ.get("FORTA_V2_PYTHON", "")

# Both SDKs' events of the same transactions, through the same bots.
BOTH = """
import asyncio, json, sys
from dataclasses import replace
import requests
from forta_agent import create_transaction_event
from forta_bot_sdk import create_scan_evm
from src import agent, agent_v2
from src.settings import load_settings
from src.utils.findings import TokenTransfersFinding

urls, chain_id, hashes = json.loads(sys.argv[1])
bots = agent_v2.open_bots(replace(load_settings(), is_chain_set=False), agent_v2.Nodes(tuple(urls)))
print(sorted(bot.settings.chain_id for bot in bots))
bot = next(bot for bot in bots if bot.settings.chain_id == chain_id)

def rpc(method, *params):
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return requests.post(bot.settings.json_rpc_url, json=body, timeout=60).json()["result"]

def public(finding):
    metadata = {k: v for k, v in finding.metadata.items() if not k.endswith("response_time")}
    return [
        finding.name, finding.description, finding.alert_id, int(finding.severity),
        int(finding.type), metadata, finding.addresses,
        [[l.entity, int(l.entity_type), l.label, l.confidence] for l in finding.labels],
        finding.timestamp.isoformat(),
    ]

first = {}
for tx_hash in hashes:
    receipt = rpc("eth_getTransactionReceipt", tx_hash)
    event = create_transaction_event({
        "transaction": rpc("eth_getTransactionByHash", tx_hash), "network": chain_id,
        "block": rpc("eth_getBlockByNumber", receipt["blockNumber"], False),
        "logs": receipt["logs"],
    })
    found = agent.assess_event(event, bot, TokenTransfersFinding.emit_finding)
    first[tx_hash] = [public(one) for one in found]
bot.deduplicator.close()
object.__setattr__(bot, "deduplicator", type(bot.deduplicator)(3600.0, chain_id=chain_id))

second = {}
handle = agent_v2.handler(bot)
async def seen(event, provider):
    found = await handle(event, provider)
    second[event.hash.lower()] = [public(one) for one in found]
    return found
asyncio.run(create_scan_evm()({**agent_v2.scan_options(bot), "handle_transaction": seen}))
print(json.dumps([first, second]))
"""


@pytest.mark.integration
@pytest.mark.skipif(not PYTHON, reason="FORTA_V2_PYTHON names no Python with requirements/v2.txt")
@pytest.mark.parametrize("chain_id", [1, 8453])
def test_both_sdks_give_the_same_findings(chain_id: int, tmp_path: Path) -> None:
    with two_usdcs(chain_id) as usdc, two_usdcs(56) as other:
        hashes = [usdc.genuine, usdc.counterfeit]
        given = json.dumps([[usdc.chain.url, other.chain.url], chain_id, hashes])
        child = run(BOTH, given, FORTA_CHAIN_ID=str(chain_id), FORTA_CLI_TX=",".join(hashes),
                    FORTA_CLI="true", FORTA_CLI_NO_CACHE="1", HOME=str(tmp_path))  # fmt: skip
    assert child.returncode == 0, child.stderr[-2_000:]
    assert str(sorted([chain_id, 56])) in child.stdout
    first, second = json.loads(child.stdout.splitlines()[-1])
    assert first == second
    assert set(first) == set(hashes)
    ids = {tx_hash: {finding[2] for finding in found} for tx_hash, found in first.items()}
    assert "IMPERSONATED-TOKEN" in ids[usdc.counterfeit]
    assert "IMPERSONATED-TOKEN" not in ids[usdc.genuine]


def run(program: str, *arguments: str, **environ: str) -> Any:
    unset = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    return subprocess.run(
        [PYTHON, "-c", program, *arguments],
        cwd=PROJECT_ROOT,
        env=unset
        | {
            "FORTA_BOT_ID": "0x01",
            "LOOKUP_DEADLINE_SECONDS": "25",
            "JSON_RPC_REQUESTS_PER_SECOND": "1000",
        }
        | environ,
        capture_output=True,
        text=True,
        check=False,
    )
