"""A local Ethereum chain for the demo and the tests: an Anvil process and its JSON-RPC.

    with anvil(timestamp=1_700_000_000) as chain:
        receipt = chain.send(chain.accounts[0], to=token, data=contract.call("pause()"))

Everything that enters a hash is fixed (accounts, fees, time stamps), so the same calls give the
same addresses and transaction hashes on every run.
"""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import which
from typing import Any, Final

import requests

from src.demo.contracts import ROOT, Contract, decode_result
from src.demo.processes import running

BLOCK_SECONDS: Final = 12
"""Time between blocks on Ethereum, in seconds."""

_START_SECONDS: Final = 120.0
_RPC_SECONDS: Final = 120.0
_RECEIPT_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.005
GAS_LIMIT: Final = 12_000_000
MAX_FEE: Final = 100 * 10**9  # wei a gas
PRIORITY_FEE: Final = 10**9
_LISTENING: Final = re.compile(rb"Listening on (?:\S+:)?(\d+)\s")


class ChainError(RuntimeError):
    """The local chain does not start, or returns no or an error response. Says what to do."""


class Chain:
    """JSON-RPC to a local Anvil chain that mines one block for every transaction sent.

    Attributes:
        url: of the JSON-RPC endpoint.
        id: of the chain.
        accounts: the funded development accounts, lowercase; the node signs for them.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy for loopback
        self.accounts: list[str] = [account.lower() for account in self.rpc("eth_accounts")]
        self.id = int(self.rpc("eth_chainId"), 16)
        self._time = int(self.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def rpc(self, method: str, *params: Any) -> Any:
        """Call a JSON-RPC method and return its result.

        Raises:
            ChainError: no response, or an error response.
        """
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            answer = self._session.post(self.url, json=request, timeout=_RPC_SECONDS).json()
        except (requests.RequestException, ValueError) as error:
            raise ChainError(f"{method}: the local chain at {self.url} does not answer") from error
        if "error" in answer:
            raise ChainError(f"{method}: {answer['error'].get('message', 'unknown error')}")
        return answer["result"]

    def send(
        self, sender: str, *, to: str | None = None, data: str = "0x", value: int = 0
    ) -> dict[str, Any]:
        """Send a transaction from a development account, mined 12 seconds after the last block.

        The sender is one of `accounts`; without a receiver, the data deploy a contract; the value
        is wei.

        Returns:
            The receipt.

        Raises:
            ChainError: the transaction was refused or it reverted.
        """
        receipt = self._receipt(self.submit(sender, to=to, data=data, value=value))
        if receipt["status"] != "0x1":
            raise ChainError(f"transaction {receipt['transactionHash']} reverted")
        return receipt

    def submit(
        self, sender: str, *, to: str | None = None, data: str = "0x", value: int = 0
    ) -> str:
        """Send a transaction as `send` does, without waiting for it; returns its hash."""
        self._time += BLOCK_SECONDS
        self.rpc("evm_setNextBlockTimestamp", self._time)
        transaction = {
            "from": sender,
            "data": data,
            "value": hex(value),
            "gas": hex(GAS_LIMIT),
            "maxFeePerGas": hex(MAX_FEE),
            "maxPriorityFeePerGas": hex(PRIORITY_FEE),
        }
        if to is not None:
            transaction["to"] = to
        return self._sent(transaction)

    def deploy(
        self, sender: str, contract: Contract, types: tuple[str, ...] = (), *arguments: Any
    ) -> str:
        """Deploy a contract with these constructor arguments; returns its address, lowercase."""
        receipt = self.send(sender, data=contract.creation(types, *arguments))
        return str(receipt["contractAddress"]).lower()

    def put_at(self, address: str, contract: Contract) -> None:
        """Put a contract's code at a given address. No constructor runs."""
        self.rpc("anvil_setCode", address, contract.runtime_code)

    def call(self, to: str, data: str, *types: str) -> tuple[Any, ...]:
        """`eth_call` on the latest block, its result decoded as these ABI types."""
        return decode_result(types, self.rpc("eth_call", {"to": to, "data": data}, "latest"))

    def set_nonce(self, account: str, nonce: int) -> None:
        """Set the number of transactions that an account has sent by the latest block."""
        self.rpc("anvil_setNonce", account, hex(nonce))

    def mine(self, blocks: int, seconds: int = BLOCK_SECONDS) -> None:
        """Mine empty blocks, this many seconds apart."""
        self.rpc("evm_setNextBlockTimestamp", self._time + seconds)
        self.rpc("anvil_mine", hex(blocks), hex(seconds))
        self._time = int(self.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def _sent(self, transaction: dict[str, Any]) -> str:
        """The hash of a transaction, which the node signs."""
        return str(self.rpc("eth_sendTransaction", transaction))

    def _receipt(self, transaction_hash: str) -> dict[str, Any]:
        deadline = time.monotonic() + _RECEIPT_SECONDS
        while time.monotonic() < deadline:
            receipt: dict[str, Any] | None = self.rpc("eth_getTransactionReceipt", transaction_hash)
            if receipt is not None:
                return receipt
            time.sleep(_POLL_SECONDS)
        raise ChainError(f"transaction {transaction_hash} was not mined")


@contextmanager
def anvil(
    *, timestamp: int, port: int = 0, folder: Path | None = None, chain_id: int = 1
) -> Iterator[Chain]:
    """Run an Anvil chain for the length of the `with` block.

    The chain begins at block 0, not at a number of today's mainnet: Anvil has no blocks below its
    first one, and a search for an account's first transaction begins at block 0.

    Args:
        timestamp: of block 0, Unix seconds.
        port: on the loopback; 0 takes a free one.
        folder: for its log and state; removed if this process is killed. A new one by default.
        chain_id: of the chain.

    Raises:
        ChainError: Anvil is missing or does not start.
    """
    options = [
        "--chain-id", str(chain_id), "--timestamp", str(timestamp), "--port", str(port),
    ]  # fmt: skip
    command = [_binary(), *options, "--host", "127.0.0.1", "--hardfork", "cancun", "--no-cors"]
    with ExitStack() as stack:
        home = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="anvil-")))
        log = home / "anvil.log"
        environment = {**os.environ, "HOME": str(home), "NO_COLOR": "1"}
        with log.open("wb") as output:
            process = stack.enter_context(
                running(
                    command,
                    folder=home,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            )
        yield Chain(f"http://127.0.0.1:{_wait_for_port(process, log, port)}")


def _binary() -> str:
    """The Anvil binary instead of npm's wrapper, which would be a second process."""
    packages = ROOT / "node_modules" / "@foundry-rs"
    for candidate in sorted(packages.glob("anvil-*/bin/anvil*")):
        if os.access(candidate, os.X_OK):
            return str(candidate)
    found = which("anvil")
    if found is None:
        raise ChainError(
            "Anvil (npm @foundry-rs/anvil) is missing: run `npm ci`. Where npm has none for your "
            "platform, install Foundry and put its `anvil` on PATH."
        )
    return found


def _wait_for_port(process: "subprocess.Popen[bytes]", log: Path, port: int) -> int:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        listening = _LISTENING.search(log.read_bytes())
        if listening is not None:
            return int(listening.group(1))
        if process.poll() is not None:
            break
        time.sleep(_POLL_SECONDS)
    output = log.read_text("utf-8", "replace").strip()[-500:] or "no output"
    if "in use" in output.lower():
        raise ChainError(f"Port {port} is in use: choose another with --port, or 0 for a free one.")
    raise ChainError(f"Anvil did not start ({output}). Try `npm ci`, then the command again.")
