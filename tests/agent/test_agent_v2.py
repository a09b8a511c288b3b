"""The second SDK on local chains: the same findings as the first one's, to the letter.

It needs an environment of its own, since it does not import with the project's web3:

    python -m venv .venv-v2
    .venv-v2/bin/pip install --no-deps --require-hashes -r requirements/v2.txt
    FORTA_V2_PYTHON=.venv-v2/bin/python npm test -- tests/agent/test_agent_v2.py
"""

import json
import os
import signal
import subprocess
from contextlib import closing
from pathlib import Path
from socket import create_server
from typing import Any

import pytest
import requests

from src.settings import PROJECT_ROOT, SETTINGS
from tests.support.fake_chain import FakeNode, serve
from tests.support.two_usdcs import two_usdcs
from tests.support.waiting import wait_until

PYTHON = os.environ.get("FORTA_V2_PYTHON", "")
needs_sdk = pytest.mark.skipif(
    not PYTHON, reason="FORTA_V2_PYTHON names no Python with requirements/v2.txt"
)
MODULE = ("-m", "src.agent_v2")

# Both SDKs' events of the same transactions, through the same bots.
BOTH = """
import asyncio, json, sys
from dataclasses import replace
import requests
from forta_agent import create_transaction_event
from forta_bot_sdk import create_scan_evm
from prometheus_client import REGISTRY
from src import agent, agent_v2
from src.chain.networks import network
from src.settings import load_settings
from src.utils.findings import TokenTransfersFinding

urls, chain_id, hashes = json.loads(sys.argv[1])
bots = agent_v2.open_bots(replace(load_settings(), is_chain_set=False), agent_v2.Nodes(tuple(urls)))
print(sorted(bot.settings.chain_id for bot in bots))
bot = next(bot for bot in bots if bot.settings.chain_id == chain_id)
told = {"chain_id": str(chain_id), "chain": network(chain_id).name}
print("in use", REGISTRY.get_sample_value("token_transfers_chain_info", told))

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
seen = {"alert_id": "IMPERSONATED-TOKEN", "action": "REVIEW"}
print("counted", REGISTRY.get_sample_value("token_transfers_findings_total", seen))
print(json.dumps([first, second]))
"""


@pytest.mark.integration
@needs_sdk
@pytest.mark.parametrize("chain_id", [1, 8453])
def test_both_sdks_give_the_same_findings(chain_id: int, tmp_path: Path) -> None:
    with two_usdcs(chain_id) as usdc, two_usdcs(56) as other:
        hashes = [usdc.genuine, usdc.counterfeit]
        given = json.dumps([[other.chain.url, usdc.chain.url], chain_id, hashes])
        child = run("-c", BOTH, given, FORTA_CHAIN_ID=str(chain_id), FORTA_CLI_TX=",".join(hashes),
                    FORTA_CLI="true", FORTA_CLI_NO_CACHE="1", HOME=str(tmp_path),
                    METRICS_PORT="0")  # fmt: skip
    assert child.returncode == 0, child.stderr[-2_000:]
    assert str(sorted([chain_id, 56])) in child.stdout
    first, second = json.loads(child.stdout.splitlines()[-1])
    assert first == second
    assert "in use 1.0" in child.stdout  # the metrics count every chain, not the first node's alone
    assert "counted 2.0" in child.stdout
    assert set(first) == set(hashes)
    ids = {tx_hash: {finding[2] for finding in found} for tx_hash, found in first.items()}
    assert "IMPERSONATED-TOKEN" in ids[usdc.counterfeit]
    assert "IMPERSONATED-TOKEN" not in ids[usdc.genuine]


@pytest.mark.integration
@needs_sdk
@pytest.mark.parametrize(
    ("environ", "code", "said"),
    [
        (
            {"FORTA_CHAIN_ID": "8453"},
            2,
            "FORTA_CHAIN_ID must be 1, the chain of the node, or unset",
        ),
        ({"JSON_RPC_URLS": "two of one"}, 2, "JSON_RPC_URLS must be http:// or https:// URLs"),
        ({"JSON_RPC_URL": "http://127.0.0.1:1"}, 1, "node: "),
    ],
)
def test_it_says_in_one_line_why_it_does_not_start(
    environ: dict[str, str], code: int, said: str, tmp_path: Path
) -> None:
    with serve(FakeNode().answer) as url:
        child = run(*MODULE, **{"JSON_RPC_URL": url, "HOME": str(tmp_path)} | environ)
    assert child.returncode == code
    assert child.stderr.splitlines()[-1].startswith(f"start:v2: {said}")
    assert "Traceback" not in child.stderr


@pytest.mark.integration
@needs_sdk
def test_it_chooses_the_node_of_its_chain_and_ends_at_a_signal(tmp_path: Path) -> None:
    with closing(create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    with two_usdcs(8453) as base, serve(FakeNode().answer) as mainnet:
        environ = {
            "JSON_RPC_URLS": f"{mainnet} {base.chain.url}",
            "FORTA_CHAIN_ID": "8453",
            "FORTA_HEALTH_CHECK_PORT": str(port),
            "HOME": str(tmp_path),
        }
        with subprocess.Popen(
            [PYTHON, *MODULE], cwd=PROJECT_ROOT, env=environment(**environ),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as child:  # fmt: skip
            wait_until(lambda: is_healthy(port), child)
            child.send_signal(signal.SIGTERM)
            output, _ = child.communicate()
    assert "ready on Base (chain 8453)" in output
    assert "chain 1)" not in output
    assert output.splitlines()[-1] == "start:v2: interrupted"


def is_healthy(port: int) -> bool:
    try:
        answer = requests.get(f"http://127.0.0.1:{port}/health", timeout=10)
    except requests.ConnectionError:
        return False
    return answer.status_code == 200


def environment(**environ: str) -> dict[str, str]:
    unset = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    usual = {
        "FORTA_BOT_ID": "0x01",
        "LOOKUP_DEADLINE_SECONDS": "25",
        "JSON_RPC_REQUESTS_PER_SECOND": "1000",
    }
    return unset | usual | environ


def run(*arguments: str, **environ: str) -> Any:
    return subprocess.run(
        [PYTHON, *arguments],
        cwd=PROJECT_ROOT, env=environment(**environ),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
