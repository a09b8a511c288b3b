"""`python -m benchmarks.decided_load`: decisions on decided transactions, against a bare route.

Starts the service with its default limits and its embedded demo, and beside it the same uvicorn
with one FastAPI route that returns a constant. Clients request decisions over kept-alive
connections, each as soon as its last response is complete: from the service and the bare route in
turns, so that both meet the same machine. Prints JSON; exit code 1 if a response was an error.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from fastapi import FastAPI

from src.demo.processes import running

ROOT = Path(__file__).resolve().parent.parent
_READY_SECONDS = 180.0
_ROUNDS = 3
_WARM_UP_SECONDS = 2.0
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)

bare = FastAPI()


@bare.post("/transactions/{tx_hash}/decision")
def decide(tx_hash: str) -> dict[str, Any]:
    """What a route costs that does nothing, as a plain function like the service's."""
    return {"transaction_hash": tx_hash, "action": "ALLOW", "reasons": []}


@dataclass
class Results:
    """What the clients saw; latencies in seconds."""

    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0
    cpu_seconds: float = 0.0  # of the server, all its processes

    def summary(self) -> dict[str, float]:
        """Requests a second, the server's CPU time, percentiles of the latency."""
        ordered = sorted(self.latencies)
        shares = {
            f"p{share}_ms": round(1000 * ordered[len(ordered) * share // 100], 1)
            for share in (50, 95, 99)
        }
        return {
            "requests_per_second": round(len(ordered) / self.seconds, 1),
            "cpu_us_per_request": round(1e6 * self.cpu_seconds / len(ordered)),
            **shares,
        }


class _Client(asyncio.Protocol):
    """One client: asks, waits for the whole response, asks again. Leaner than a library."""

    def __init__(self, requests: Iterator[bytes], results: Results, until: float) -> None:
        self._requests = requests
        self._results = results
        self._until = until
        self._read = b""
        self._started = 0.0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, ended, body = self._read.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not ended or (length is not None and len(body) < int(length[1])):
            return
        self._results.latencies.append(time.perf_counter() - self._started)
        self._results.statuses[int(head[9:12])] += 1
        self._read = b""
        if time.monotonic() < self._until:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.done.set_result(None)

    def _ask(self) -> None:
        self._started = time.perf_counter()
        self._transport.write(next(self._requests))


async def load(port: int, hashes: Sequence[str], clients: int, seconds: float) -> Results:
    """Ask for decisions for some seconds."""
    heads = [
        f"POST /transactions/{one}/decision HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        "Content-Length: 0\r\n\r\n".encode()
        for one in hashes
    ]
    results, requests = Results(), itertools.cycle(heads)
    started = time.monotonic()
    made = [
        await asyncio.get_running_loop().create_connection(
            lambda: _Client(requests, results, started + seconds), "127.0.0.1", port
        )
        for _ in range(clients)
    ]
    await asyncio.gather(*(client.done for _, client in made))
    results.seconds = time.monotonic() - started
    return results


def _cpu_seconds(server: psutil.Process) -> float:
    """Processor time so far of a server and its workers."""
    times = [one.cpu_times() for one in (server, *server.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def _add(one: Results, other: Results) -> None:
    one.latencies += other.latencies
    one.statuses += other.statuses
    one.seconds += other.seconds
    one.cpu_seconds += other.cpu_seconds


def _decided(port: int) -> list[str]:
    """Hashes of decided transactions, once the demo has decided on all."""
    until, before = time.monotonic() + _READY_SECONDS, -1
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            url = f"http://127.0.0.1:{port}/alerts?limit=200"
            with urllib.request.urlopen(url) as answer:
                alerts = json.load(answer)
            if alerts and len(alerts) == before:
                return sorted({alert["transaction_hash"] for alert in alerts})
            before = len(alerts)
        time.sleep(2)
    raise SystemExit("the service did not become ready")


def main() -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decided_load", description=__doc__)
    parser.add_argument("--clients", type=int, default=50, metavar="N", help="at once (50)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="of both (2)")
    parser.add_argument("--seconds", type=float, default=30, metavar="S", help="of each (30)")
    options = parser.parse_args()
    service, other = Results(), Results()
    with (
        tempfile.TemporaryDirectory(prefix="decided-load-") as folder,
        contextlib.ExitStack() as up,
    ):
        servers = [_start(up, Path(folder), options.workers, bare=is_bare) for is_bare in (0, 1)]
        hashes = _decided(servers[0][0])
        for port, _ in servers:
            asyncio.run(load(port, hashes, options.clients, _WARM_UP_SECONDS))
        for _ in range(_ROUNDS):
            for (port, server), results in zip(servers, (service, other), strict=True):
                before = _cpu_seconds(server)
                seconds = options.seconds / _ROUNDS
                measured = asyncio.run(load(port, hashes, options.clients, seconds))
                measured.cpu_seconds = _cpu_seconds(server) - before
                _add(results, measured)
    errors = {status: count for status, count in service.statuses.items() if status != 200}
    rates = [one.summary()["requests_per_second"] for one in (service, other)]
    summary = {
        "clients": options.clients,
        "workers": options.workers,
        "service": service.summary(),
        "bare": other.summary(),
        "ratio": round(rates[0] / rates[1], 2),
        "errors": errors,
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(summary, indent=1))
    return 1 if errors else 0


def _start(
    up: contextlib.ExitStack, folder: Path, workers: int, *, bare: int
) -> tuple[int, psutil.Process]:
    """Start the service, or the bare application; returns its port and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if "RPC" not in name}
    environment["DATABASE_URL"] = f"sqlite:///{folder}/service.db"
    options = ["--port", str(port), "--workers", str(workers)]
    command = ["-m", "src.service"]
    if bare:
        command = ["-m", "uvicorn", "benchmarks.decided_load:bare", "--no-access-log"]
    process = up.enter_context(
        running(
            [sys.executable, *command, *options],
            folder=folder,
            patience=30,
            cwd=ROOT,
            env=environment,
            stderr=subprocess.DEVNULL,
        )
    )
    return port, psutil.Process(process.pid)


if __name__ == "__main__":
    sys.exit(main())
