"""The guard in front of a real node: what it adds to a call, and how many transactions it screens.

The node, the guard and the clients share this machine, so elapsed times are those of all three.
What is promised is therefore the guard's own processor time.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import psutil
from eth_utils.crypto import keccak
from web3 import Web3

from benchmarks.report import Line
from src.demo.anvil import MAX_FEE, PRIORITY_FEE, anvil
from src.demo.contracts import compile_contracts
from src.demo.guarded import guard, signer
from src.demo.world import GENESIS, USDC, World, build, mint

_GROUP: Final = "guard"
_PASSING_SECONDS: Final = 1e-3
_SCREENING_SECONDS: Final = 10e-3
SENDERS: Final = 8
_GAS: Final = 100_000


class _Transfer(NamedTuple):
    """A transfer of USDC: signed, and as a call to simulate."""

    raw: str
    call: dict[str, Any]

    def receipt_of(self, world: World) -> dict[str, Any] | None:
        """Its receipt; None while it is not mined."""
        found: dict[str, Any] | None = world.chain.rpc(
            "eth_getTransactionReceipt", Web3.to_hex(keccak(hexstr=self.raw))
        )
        return found


class Endpoint:
    """A JSON-RPC endpoint over one kept connection at a time."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def ask(self, method: str, *params: Any) -> float:
        """Seconds that a call takes. Raises RuntimeError for an error reply."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        started = time.perf_counter()
        async with self._session.post(self._url, json=body) as response:
            reply = await response.json()
        seconds = time.perf_counter() - started
        if "result" not in reply:
            raise RuntimeError(f"{method}: {reply.get('error')}")
        return seconds


def measure(*, samples: int, burst: int) -> list[Line]:
    """Measure single calls, alternately, then a burst of transactions of several senders.

    Args:
        samples: calls of each kind.
        burst: transactions.
    """
    code = compile_contracts()
    with (
        tempfile.TemporaryDirectory(prefix="bench-guard-") as folder,
        anvil(timestamp=GENESIS) as chain,
    ):
        world = build(chain, code)
        for sender in chain.accounts[:SENDERS]:
            mint(world, world.tokens[USDC], sender, 10**6)
        with guard(chain, Path(folder)) as url:
            return asyncio.run(_measure(world, url, samples, burst))


async def _measure(world: World, url: str, samples: int, burst: int) -> list[Line]:
    async with aiohttp.ClientSession() as session:
        node, guarded = Endpoint(session, world.chain.url), Endpoint(session, url)
        return [
            await _passing(node, guarded, 10 * samples),
            *await _screening(node, guarded, *(transfers_of(world, n, samples) for n in (0, 1))),
            await _burst(world, node, guarded, burst),
        ]


async def _passing(node: Endpoint, guarded: Endpoint, count: int) -> Line:
    before = _guard_seconds()
    for _ in range(count):
        await guarded.ask("eth_chainId")
    own = (_guard_seconds() - before) / count
    asked = statistics.median([await node.ask("eth_chainId") for _ in range(count)])
    return Line(
        _GROUP, "the guard, for a call that passes", own, asked, "the node's elapsed time",
        limit=_PASSING_SECONDS,
    )  # fmt: skip


async def _screening(
    node: Endpoint, guarded: Endpoint, past: Sequence[_Transfer], ours: Sequence[_Transfer]
) -> list[Line]:
    """Of two senders: the guard does not know what is sent past it and is not mined yet."""
    simulated, sent, screened = [], [], []
    used = 0.0
    for plain, screening in zip(past, ours, strict=True):
        sent.append(await node.ask("eth_sendRawTransaction", plain.raw))
        simulation = {
            "blockStateCalls": [{"calls": [screening.call]}],
            "traceTransfers": True,
            "validation": True,
        }
        simulated.append(await node.ask("eth_simulateV1", simulation, "pending"))
        before = _guard_seconds()
        screened.append(await guarded.ask("eth_sendRawTransaction", screening.raw))
        used += _guard_seconds() - before
    bare = statistics.median(simulated) + statistics.median(sent)
    return [
        Line(
            _GROUP, "the guard, for a transaction", used / len(screened), bare,
            "the node's elapsed time", limit=_SCREENING_SECONDS,
        ),
        Line(
            _GROUP, "a transaction screened and sent", statistics.median(screened), bare,
            "simulated and sent by the node", kind="wall",
        ),
    ]  # fmt: skip


async def _burst(world: World, node: Endpoint, guarded: Endpoint, count: int) -> Line:
    """One client a sender, each of which waits for the answer before it sends the next."""
    each = count // (2 * SENDERS)
    transfers = [transfers_of(world, number, 2 * each) for number in range(SENDERS)]

    async def rate(endpoint: Endpoint, chosen: slice) -> float:
        async def send(ours: Sequence[_Transfer]) -> None:
            for one in ours[chosen]:
                await endpoint.ask("eth_sendRawTransaction", one.raw)

        started = time.perf_counter()
        await asyncio.gather(*map(send, transfers))
        return SENDERS * each / (time.perf_counter() - started)

    plain = await rate(node, slice(each))
    last = [one[each - 1] for one in transfers]
    while not all(one.receipt_of(world) for one in last):  # what went past the guard is mined
        await asyncio.sleep(0.05)
    screened = await rate(guarded, slice(each, None))
    return Line(
        _GROUP, "transactions of 8 clients, screened", screened, plain, "the node itself",
        unit="tx/s", kind="wall",
    )  # fmt: skip


def _guard_seconds() -> float:
    """Processor time of the guard."""
    times = guard_process().cpu_times()
    return float(times.user + times.system)


def guard_process() -> psutil.Process:
    """The guard, which this process has started."""
    for child in psutil.Process().children(recursive=True):
        if "src.service.guard" in child.cmdline():
            return child
    raise RuntimeError("the guard is not running")


def next_nonce(world: World, number: int) -> int:
    """The next nonce of a development account, as far as its transactions are mined."""
    account = signer(number).address
    return int(world.chain.rpc("eth_getTransactionCount", account, "latest"), 16)


def transfers_of(
    world: World, number: int, count: int, first: int | None = None
) -> list[_Transfer]:
    """Transfers of a development account to another one, in the order of their nonces.

    Args:
        world: the chain with its contracts.
        number: of the account.
        count: of the transfers.
        first: nonce; None for the account's next one.
    """
    account, receiver = signer(number), world.chain.accounts[-1]
    first = next_nonce(world, number) if first is None else first
    token = world.tokens[USDC]
    data = world.code["Token"].call("transfer(address,uint256)", receiver, token.units(1))
    found = []
    for nonce in range(first, first + count):
        transaction: dict[str, Any] = {
            "to": Web3.to_checksum_address(token.address), "data": data, "value": 0, "gas": _GAS,
            "type": 2, "chainId": 1, "nonce": nonce, "maxFeePerGas": MAX_FEE,
            "maxPriorityFeePerGas": PRIORITY_FEE,
        }  # fmt: skip
        signed = account.sign_transaction(transaction)
        call = {
            name: hex(value) if isinstance(value, int) else value
            for name, value in transaction.items()
            if name not in {"type", "chainId"}
        }
        call["from"] = account.address
        found.append(_Transfer("0x" + signed.raw_transaction.hex(), call))
    return found
