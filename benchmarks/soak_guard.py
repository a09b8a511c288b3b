"""Many transactions through one guard: what its memory does, and whether each is stored."""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil

from benchmarks.guard import SENDERS, Endpoint, guard_process, next_nonce, transfers_of
from src.demo.anvil import anvil
from src.demo.contracts import compile_contracts
from src.demo.guarded import guard
from src.demo.world import GENESIS, USDC, World, build, mint
from src.files import write_file

DEFAULT_TRANSACTIONS: Final = 20_000
ALLOWED_GROWTH_MB: Final = 20.0
"""From a quarter of the transactions on, when caches and the allocator have their working set."""

# A sender waits until these are mined: the guard screens behind at most 15 that are not.
_EACH: Final = 12
_POLL_SECONDS: Final = 0.02
_REPORTS: Final = 20
_JOIN_SECONDS: Final = 120.0


def run_guard(options: argparse.Namespace) -> int:
    """Send, report and judge; returns the exit code."""
    rounds = max(1, (options.transactions or DEFAULT_TRANSACTIONS) // (SENDERS * _EACH))
    code = compile_contracts()
    with (
        tempfile.TemporaryDirectory(prefix="soak-guard-") as folder,
        anvil(timestamp=GENESIS) as chain,
    ):
        world = build(chain, code)
        for sender in chain.accounts[:SENDERS]:
            mint(world, world.tokens[USDC], sender, 10**9)
        with guard(chain, Path(folder)) as url:
            found = asyncio.run(_soak(world, url, rounds))
        found["database_mb"] = round(Path(folder, "guard.db").stat().st_size / 2**20, 1)
    print(json.dumps(found, indent=2))
    if options.json:
        write_file(options.json, json.dumps(found, indent=2).encode())
    is_whole = found["sent"] == found["stored"] == found["joined"]
    return 0 if is_whole and found["growth_mb"] <= ALLOWED_GROWTH_MB else 1


async def _soak(world: World, url: str, rounds: int) -> dict[str, Any]:
    process, sizes = guard_process(), dict[int, float]()
    started, used = time.monotonic(), _cpu(process)
    async with aiohttp.ClientSession() as session:
        endpoint = Endpoint(session, url)

        nonces = [next_nonce(world, number) for number in range(SENDERS)]

        async def send(number: int) -> None:
            for one in transfers_of(world, number, _EACH, nonces[number]):
                await endpoint.ask("eth_sendRawTransaction", one.raw)
                nonces[number] += 1
            while next_nonce(world, number) < nonces[number]:
                await asyncio.sleep(_POLL_SECONDS)

        for done in range(1, rounds + 1):
            await asyncio.gather(*map(send, range(SENDERS)))
            if done % max(1, rounds // _REPORTS) == 0 or done == rounds:
                sent = done * SENDERS * _EACH
                sizes[sent] = round(process.memory_info().rss / 2**20, 1)
                print(f"{sent:,} sent, {sizes[sent]} MB", file=sys.stderr, flush=True)
        seconds, used_at_end = time.monotonic() - started, _cpu(process)
        stored = await _total(session, url, "")
        deadline = time.monotonic() + _JOIN_SECONDS
        while (joined := await _total(session, url, "&state=mined")) < stored:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(1.0)
    settled = next(size for sent, size in sizes.items() if sent >= max(sizes) / 4)
    return {
        "sent": max(sizes),
        "stored": stored,
        "joined": joined,
        "per_second": round(max(sizes) / seconds, 1),
        "resident_mb": sizes,
        "growth_mb": round(sizes[max(sizes)] - settled, 1),
        "guard_cpu_ms_each": round(1e3 * (used_at_end - used) / max(sizes), 2),
    }


async def _total(session: aiohttp.ClientSession, url: str, more: str) -> int:
    async with session.get(f"{url}/screenings?limit=1{more}") as answer:
        return int(answer.headers["X-Total-Count"])


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
