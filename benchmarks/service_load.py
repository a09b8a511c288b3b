"""`python -m benchmarks.service_load`: load test of the analysis service with many clients.

Starts the service with its embedded demo on a new SQLite database. Clients request decisions on
known transactions and write feedback, each waiting for a response before the next request. Then
checks that every acknowledged write is stored. Prints a table, or JSON; exit code 1 if a response
was an error or a write is missing.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from src import cli
from src.demo.processes import running

ROOT = Path(__file__).resolve().parent.parent
_READY_SECONDS = 180
_WRITE_SHARE = 0.1


@dataclass
class Results:
    """What the clients saw; latencies in seconds."""

    decisions: list[float] = field(default_factory=list)
    writes: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    acknowledged: dict[tuple[int, str], str] = field(default_factory=dict)


def connect(port: int, key: str) -> aiohttp.ClientSession:
    """A client of the service, with a connection that it keeps."""
    return aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers={"X-API-Key": key})


async def one_client(
    number: int, session: aiohttp.ClientSession, pause: float, results: Results, until: float
) -> None:
    """Send a request, wait for the answer, pause, send the next one."""
    draw = random.Random(number)
    async with session.get("/alerts?limit=200") as answer:
        alerts = await answer.json()
    hashes = sorted({alert["transaction_hash"] for alert in alerts})
    ids = [alert["id"] for alert in alerts]
    count = 0
    await asyncio.sleep(draw.random() * pause)
    while time.monotonic() < until:
        writes = draw.random() < _WRITE_SHARE
        started = time.perf_counter()
        if writes:
            alert, note = draw.choice(ids), f"client {number} write {count}"
            body = {"is_true_positive": True, "note": note}
            status = await _post(session, f"/alerts/{alert}/feedback", body)
            if status == 200:
                results.acknowledged[alert, f"client-{number}"] = note
        else:
            status = await _post(session, f"/transactions/{draw.choice(hashes)}/decision", None)
        (results.writes if writes else results.decisions).append(time.perf_counter() - started)
        results.statuses[status] += 1
        count += 1
        await asyncio.sleep(pause * draw.uniform(0.5, 1.5))


async def _post(session: aiohttp.ClientSession, path: str, body: Any) -> int:
    """Send the request and read the answer; returns its status."""
    async with session.post(path, json=body) as answer:
        await answer.read()
        return answer.status


async def missing_writes(session: aiohttp.ClientSession, results: Results) -> int:
    """The number of acknowledged writes that are not stored."""
    async with session.get("/alerts?limit=1000") as answer:
        alerts = await answer.json()
    found = {
        (alert["id"], given["author"]): given["note"]
        for alert in alerts
        for given in alert["feedback"]
    }
    return sum(found.get(where) != note for where, note in results.acknowledged.items())


async def load(options: argparse.Namespace, port: int, keys: list[str]) -> dict[str, Any]:
    """Load the service and sum up."""
    results = Results()
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(connect(port, key)) for key in keys]
        await _ready(sessions[0])
        started = time.monotonic()
        until = started + options.seconds
        async with asyncio.TaskGroup() as clients:
            for number, session in enumerate(sessions):
                clients.create_task(one_client(number, session, options.pause, results, until))
        seconds = time.monotonic() - started
        missing = await missing_writes(sessions[0], results)
    errors = sum(count for status, count in results.statuses.items() if status != 200)
    return {
        "clients": len(keys),
        "workers": options.workers,
        "seconds": round(seconds, 1),
        "requests": sum(results.statuses.values()),
        "requests_per_second": round(sum(results.statuses.values()) / seconds, 1),
        "errors": errors,
        "writes_acknowledged": len(results.writes),
        "writes_missing": missing,
        "decision_ms": _percentiles(results.decisions),
        "write_ms": _percentiles(results.writes),
    }


async def _ready(session: aiohttp.ClientSession) -> None:
    """Wait until the service answers and has decided on the demo's transactions."""
    until = time.monotonic() + _READY_SECONDS
    before = -1
    while time.monotonic() < until:
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get("/alerts?limit=1") as answer:
                total = int(answer.headers.get("X-Total-Count", 0))
            if 0 < total == before:
                return
            before = total
        await asyncio.sleep(2)
    raise SystemExit("the service did not become ready")


def _percentiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds) or [0.0]
    at = {
        f"p{share}": ordered[min(len(ordered) - 1, len(ordered) * share // 100)]
        for share in (50, 95, 99)
    }
    return {name: round(1000 * value, 1) for name, value in {**at, "max": ordered[-1]}.items()}


def main() -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service_load", description=__doc__)
    parser.add_argument(
        "--clients", type=cli.positive, default=50, metavar="N", help="at once (50)"
    )
    parser.add_argument(
        "--workers", type=cli.positive, default=2, metavar="N", help="of the service (2)"
    )
    parser.add_argument(
        "--seconds", type=cli.positive_number, default=120, metavar="S", help="(120)"
    )
    parser.add_argument(
        "--pause",
        type=cli.positive_number,
        default=0.5,
        metavar="S",
        help="between two requests (0.5)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    keys = [secrets.token_hex(16) for _ in range(options.clients)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="service-load-") as folder:
        environment = {name: value for name, value in os.environ.items() if "RPC" not in name} | {
            "DATABASE_URL": f"sqlite:///{folder}/service.db",
            "SERVICE_API_KEYS": ",".join(f"client-{n}:{key}" for n, key in enumerate(keys)),
            "SERVICE_PORT": str(port),
            "SERVICE_WORKERS": str(options.workers),
        }
        with running(
            [sys.executable, "-m", "src.service"],
            folder=Path(folder),
            patience=30,
            cwd=ROOT,
            env=environment,
            stderr=subprocess.DEVNULL,
        ):
            summary = asyncio.run(load(options, port, keys))
    if options.json:
        print(json.dumps(summary))
    else:
        for name, value in summary.items():
            print(f"{name:<22}{value}")
    return 1 if summary["errors"] or summary["writes_missing"] else 0


if __name__ == "__main__":
    sys.exit(main())
