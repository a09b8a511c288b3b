"""The demo with the guard in front of the chain: the theft is refused before it is mined.

All transactions are signed here and sent by web3.py through the guard. Then the same theft twice by
a contract that behaves well while it believes itself simulated: one looks for signs of a
simulation, the other waits for a transaction that is sent past the guard.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import HTTPProvider, Web3
from web3.exceptions import Web3RPCError

from src.demo.anvil import GAS_LIMIT, MAX_FEE, PRIORITY_FEE, Chain, ChainError
from src.demo.contracts import ROOT
from src.demo.processes import free_port, running
from src.demo.scenarios import SCENARIOS, attack_data
from src.demo.world import World

PASSED: Final = "passed"
REFUSED: Final = "refused"

_MNEMONIC: Final = "test test test test test test test test test test test junk"
_READY_SECONDS: Final = 300.0
_POLL_SECONDS: Final = 0.1
_MINED_SECONDS: Final = 120.0
_SETTINGS: Final = {"LOOKUP_DEADLINE_SECONDS": "25"}
_THEFT: Final = "theft"


class Refused(ChainError):
    """The guard refused a transaction."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(str(error.get("message", "refused")))
        self.data: Mapping[str, Any] = error.get("data") or {}


@dataclass(frozen=True, slots=True)
class Guarded:
    """A transaction that was sent through the guard."""

    key: str
    title: str
    # expected, answer: `PASSED` or `REFUSED`.
    expected: str
    answer: str
    action: str  # of the screening
    reasons: tuple[str, ...]  # of the screening, for people
    mined_action: str = ""  # on the mined transaction, where the demo waits for it
    note: str = ""  # what is to be learnt from it, or ""


class GuardedChain(Chain):
    """A chain whose transactions are signed here and sent through the guard by web3.py.

    Everything but clients' transactions goes to `url`.
    """

    def __init__(self, url: str, guard_url: str) -> None:
        super().__init__(url)
        self.guard_url = guard_url
        self._web3 = Web3(HTTPProvider(guard_url))

    def _sent(self, transaction: dict[str, Any]) -> str:
        sender = Web3.to_checksum_address(transaction.pop("from"))
        number = self.accounts.index(sender.lower())
        signed = signer(number).sign_transaction(
            {
                **transaction,
                "to": Web3.to_checksum_address(transaction["to"]) if "to" in transaction else b"",
                "type": 2,
                "chainId": self._web3.eth.chain_id,
                "nonce": self._web3.eth.get_transaction_count(sender),
            }
        )
        try:
            return self._web3.eth.send_raw_transaction(signed.raw_transaction).to_0x_hex()
        except Web3RPCError as error:
            response = error.rpc_response or {}
            raise Refused(dict(response.get("error") or {})) from None


@contextmanager
def guard(chain: Chain, folder: Path) -> Iterator[str]:
    """Run the guard in front of the chain; yields its URL.

    Raises:
        ChainError: it does not start.
    """
    port = free_port()
    command = [
        sys.executable, "-m", "src.service.guard", "--upstream", chain.url, "--port", str(port),
        "--on-unknown", "refuse", "--limit-seconds", "30",
    ]  # fmt: skip
    log = folder / "guard.log"
    settings = {name: value for name, value in os.environ.items() if "RPC" not in name}
    settings["DATABASE_URL"] = f"sqlite:///{folder / 'guard.db'}"
    with (
        log.open("wb") as output,
        running(
            command, folder=folder, cwd=ROOT, env=settings | _SETTINGS, stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + _READY_SECONDS
        while not _is_ready(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ChainError(f"the guard did not start: {log.read_text('utf-8')[-500:]}")
            time.sleep(_POLL_SECONDS)
        yield url


def play(world: World, guard_url: str) -> list[Guarded]:
    """Send every scenario's transaction through the guard, then the evasive thefts."""
    chain = GuardedChain(world.chain.url, guard_url)
    guarded = replace(world, chain=chain)
    results = []
    for scenario in SCENARIOS:
        expected = REFUSED if scenario.key == _THEFT else PASSED
        results.append(_result(guarded, scenario.key, scenario.title, expected, scenario.play))
    return [*results, _shy(guarded), _armed_later(guarded)]


def problems(results: list[Guarded]) -> list[str]:
    """Differences from the expected results, as sentences; empty if there are none."""
    found = [
        f'"{one.title}" should have {one.expected}, but was {one.answer}.'
        if one.expected == PASSED
        else f'"{one.title}" should be {one.expected}, but {one.answer}.'
        for one in results
        if one.answer != one.expected
    ]
    last = results[-1]
    if last.answer == PASSED and last.mined_action != "BLOCK":
        found.append(f'"{last.title}" was not recognised when it was mined.')
    return found


def _result(world: World, key: str, title: str, expected: str, send: Any) -> Guarded:
    try:
        receipt = send(world)
    except Refused as refused:
        data = refused.data
        reasons = tuple(data.get("reasons") or [str(refused)])
        return Guarded(key, title, expected, REFUSED, str(data.get("action", "")), reasons)
    decision = _decision(world, receipt["transactionHash"])
    return Guarded(key, title, expected, PASSED, decision["action"], tuple(decision["reasons"]))


def _shy(world: World) -> Guarded:
    contract = _deploy(world, waits=False)

    def send(world: World) -> dict[str, Any]:
        data = attack_data(world, "EvasiveAttack")
        return world.chain.send(world.people.thief, to=contract, data=data)

    title = "The theft, harmless if simulated"
    return _result(world, "shy", title, REFUSED, send)


def _armed_later(world: World) -> Guarded:
    """Screened while it is harmless; armed past the guard before the block."""
    contract = _deploy(world, waits=True)
    chain, thief, accomplice = world.chain, world.people.thief, world.people.spammer
    arm = {
        "from": accomplice, "to": contract, "data": world.code["EvasiveAttack"].call("arm()"),
        "gas": hex(GAS_LIMIT), "maxFeePerGas": hex(2 * MAX_FEE),
        "maxPriorityFeePerGas": hex(2 * PRIORITY_FEE),
    }  # fmt: skip
    chain.rpc("evm_setAutomine", False)
    try:
        tx_hash = chain.submit(thief, to=contract, data=attack_data(world, "EvasiveAttack"))
        chain.rpc("eth_sendTransaction", arm)
        chain.rpc("evm_mine")
    finally:
        chain.rpc("evm_setAutomine", True)
    decision = _decision(world, tx_hash)
    deadline = time.monotonic() + _MINED_SECONDS
    while decision["mined_action"] is None and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        decision = _decision(world, tx_hash)
    return Guarded(
        "armed",
        "The theft, armed past the guard",
        PASSED,
        PASSED,
        decision["action"],
        tuple(decision["reasons"]),
        decision["mined_action"] or "",
        "no simulation can see what changes after it; the difference is seen in the block",
    )


def _deploy(world: World, *, waits: bool) -> str:
    return world.chain.deploy(
        world.people.thief,
        world.code["EvasiveAttack"],
        ("address", "address", "address", "bool"),
        world.lender,
        world.router,
        world.pool,
        waits,
    )


def _decision(world: World, tx_hash: str) -> dict[str, Any]:
    """The guard's decision on a transaction."""
    assert isinstance(world.chain, GuardedChain)
    url = f"{world.chain.guard_url}/screenings?transaction={tx_hash}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return found[0]


def signer(number: int) -> LocalAccount:
    """The development account with this number, with its key."""
    Account.enable_unaudited_hdwallet_features()
    found: LocalAccount = Account.from_mnemonic(_MNEMONIC, account_path=f"m/44'/60'/0'/0/{number}")
    return found


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=10) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
