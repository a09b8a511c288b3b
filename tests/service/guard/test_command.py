"""`npm run guard` before a real node, used by web3.py, a bundler-like client and plain JSON."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any, NamedTuple

import pytest
import requests
from eth_account import Account
from eth_account.signers.local import LocalAccount
from hexbytes import HexBytes
from web3 import AsyncWeb3, HTTPProvider, Web3, WebSocketProvider
from web3.exceptions import Web3RPCError
from web3.types import TxReceipt

from src.demo.anvil import Chain, anvil
from src.demo.processes import free_port, running
from tests.support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]
MNEMONIC = "test test test test test test test test test test test junk"
GENESIS = 1_704_067_200


class Running(NamedTuple):
    """A guard in front of a chain."""

    url: str
    chain: Chain
    log: Path
    process: "subprocess.Popen[Any]"

    @property
    def web3(self) -> Web3:
        return Web3(HTTPProvider(self.url))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("guard")
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if "RPC" not in name}
    environment["DATABASE_URL"] = f"sqlite:///{folder / 'guard.db'}"
    with anvil(timestamp=GENESIS) as chain:
        command = [
            sys.executable, "-m", "src.service.guard", "--upstream", f"{chain.url}/?key=secret-key",
            "--on-unknown", "refuse", "--limit-seconds", "60", "--port", str(port),
        ]  # fmt: skip
        log = folder / "guard.log"
        with (
            log.open("wb") as output,
            running(command, cwd=ROOT, env=environment, stderr=output, patience=60) as process,
        ):
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: _is_ready(url), process)
            yield Running(url, chain, log, process)


def _is_ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=PATIENCE).status_code == 200
    except requests.ConnectionError:
        return False


def signer(number: int = 0) -> LocalAccount:
    Account.enable_unaudited_hdwallet_features()
    found: LocalAccount = Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{number}")
    return found


def signed(guarded: Running, number: int, ahead: int = 0, **changes: Any) -> bytes:
    """A payment of one wei by a development account, `ahead` nonces after its next one."""
    sender = signer(number)
    transaction = {
        "to": "0x" + "11" * 20, "value": 1, "gas": 21_000, "type": 2, "chainId": 1,
        "maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**9,
        "nonce": int(guarded.chain.rpc("eth_getTransactionCount", sender.address, "latest"), 16)
        + ahead,
        **changes,
    }  # fmt: skip
    return bytes(sender.sign_transaction(transaction).raw_transaction)


def mined(guarded: Running, tx_hash: HexBytes) -> TxReceipt:
    """The receipt, once the chain has it: it accepts a transaction before it mines it."""
    return guarded.web3.eth.wait_for_transaction_receipt(tx_hash, timeout=PATIENCE)


def test_web3_sends_through_it(guarded: Running) -> None:
    sent = guarded.web3.eth.send_raw_transaction(signed(guarded, 0))
    assert mined(guarded, sent)["status"] == 1

    def decision() -> dict[str, Any]:
        url = f"{guarded.url}/screenings?transaction={sent.to_0x_hex()}"
        (found,) = requests.get(url, timeout=PATIENCE).json()
        return dict(found)

    wait_until(lambda: decision()["mined_action"])
    found = decision()
    assert (found["action"], found["status"], found["outcome"]) == ("ALLOW", "success", "passed")
    assert (found["mined_action"], found["reverted"]) == ("ALLOW", False)


def test_web3_subscribes_and_sends_over_a_socket(guarded: Running) -> None:
    async def use() -> tuple[int, str]:
        async with AsyncWeb3(WebSocketProvider(guarded.url.replace("http", "ws"))) as web3:
            await web3.eth.subscribe("newHeads")
            sent = await web3.eth.send_raw_transaction(signed(guarded, 1))
            async for message in web3.socket.process_subscriptions():
                return int(message["result"]["number"]), sent.to_0x_hex()
        raise AssertionError

    number, tx_hash = asyncio.run(use())
    assert mined(guarded, HexBytes(tx_hash))["blockNumber"] == number


def test_a_bundlers_batch(guarded: Running) -> None:
    raws = ["0x" + signed(guarded, 2, ahead).hex() for ahead in range(3)]
    calls = [("eth_chainId", []), *(("eth_sendRawTransaction", [raw]) for raw in raws)]
    body = [
        {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        for number, (method, params) in enumerate(calls)
    ]
    found = requests.post(guarded.url, json=body, timeout=PATIENCE).json()
    assert [one["id"] for one in found] == [0, 1, 2, 3]
    assert found[0]["result"] == "0x1"
    for one in found[1:]:
        assert mined(guarded, HexBytes(one["result"]))["status"] == 1


@pytest.mark.skipif(which("curl") is None, reason="NO CURL: it was not tried as a client")
def test_curl_sends_json_as_cast_does(guarded: Running) -> None:
    raw = "0x" + signed(guarded, 6).hex()
    body = f'{{"method":"eth_sendRawTransaction","params":["{raw}"],"id":0,"jsonrpc":"2.0"}}'
    command = ["curl", "-s", "-H", "content-type: application/json", "--data", body, guarded.url]
    done = subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE)
    answer = json.loads(done.stdout)
    assert answer["id"] == 0
    assert mined(guarded, HexBytes(answer["result"]))["status"] == 1


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"chainId": 5}, "chain 5"),
        ({"nonce": 0}, "nonce 0 was used"),
        ({"nonce": 1_000}, "nonce 1000 comes after"),
        ({"maxFeePerGas": 1, "maxPriorityFeePerGas": 1}, "base fee"),
        ({"value": 10**30}, ""),
    ],
)
def test_what_cannot_be_simulated_is_refused(
    guarded: Running, changes: dict[str, Any], problem: str
) -> None:
    mined(guarded, guarded.web3.eth.send_raw_transaction(signed(guarded, 3)))
    before = guarded.chain.rpc("eth_blockNumber")
    with pytest.raises(Web3RPCError) as refused:
        guarded.web3.eth.send_raw_transaction(signed(guarded, 3, **changes))
    assert problem in str(refused.value)
    assert guarded.chain.rpc("eth_blockNumber") == before


def test_bytes_that_are_no_transaction_are_refused(guarded: Running) -> None:
    with pytest.raises(Web3RPCError, match="not a signed transaction"):
        guarded.web3.eth.send_raw_transaction(b"\x02" + b"\xff" * 100)


def test_the_log_has_decisions_and_no_secrets(guarded: Running) -> None:
    raw = signed(guarded, 4)
    mined(guarded, guarded.web3.eth.send_raw_transaction(raw))
    with pytest.raises(Web3RPCError):
        guarded.web3.eth.send_raw_transaction(raw)
    text = guarded.log.read_text()
    assert "ALLOW, success, passed" in text
    assert "unknown refused" in text
    for secret in (raw.hex(), raw.hex()[40:80], "secret-key", str(guarded.chain.url)):
        assert secret not in text


def test_it_stops_when_it_is_told(guarded: Running) -> None:
    """The last test of this module: the guard is gone after it."""
    guarded.process.send_signal(signal.SIGTERM)
    assert guarded.process.wait(PATIENCE) == 0
