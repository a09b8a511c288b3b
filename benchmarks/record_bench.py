"""Speed and size of a recording: `npm run bench:record`.

Records blocks of ERC-20 transfers from a local Anvil node, with one worker and with the default
number, alternately: straight from the node, and over a connection with latency (a proxy in a
process of its own). Each run is a process; what it takes for one block is its start-up, taken off.
"""

import asyncio
import gzip
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import requests

from benchmarks.report import Line, table
from src import cli
from src.demo.anvil import Chain, anvil
from src.demo.contracts import compile_contracts

PROJECT = Path(__file__).resolve().parents[1]

_EPILOG = """\
example:
  npm run bench:record -- --blocks 20 --rounds 1
"""
_TOKENS = 20
_PEOPLE = 3_000
_START_SECONDS = 60
_CHUNK = 1 << 16


def build(chain: Chain, blocks: int, transactions: int) -> tuple[int, int]:
    """Mine blocks of transfers; returns the first and the last of them."""
    draw = random.Random(0)
    sender, code = chain.accounts[0], compile_contracts()["Token"]
    tokens = [chain.deploy(sender, code) for _ in range(_TOKENS)]
    for number, token in enumerate(tokens):
        named = ("initialise(string,string,uint8)", f"Token {number}", f"T{number}", 18)
        chain.send(sender, to=token, data=code.call(*named))
        chain.send(sender, to=token, data=code.call("mint(address,uint256)", sender, 2**200))
    people = [f"0x{draw.getrandbits(160):040x}" for _ in range(_PEOPLE)]
    nonce = int(chain.rpc("eth_getTransactionCount", sender, "latest"), 16)
    first = int(chain.rpc("eth_blockNumber"), 16) + 1
    chain.rpc("evm_setAutomine", False)
    for _ in range(blocks):
        batch = []
        for _ in range(transactions):
            payment = (draw.choice(people), draw.randrange(1, 10**22))
            transaction = {
                "from": sender,
                "to": draw.choice(tokens),
                "data": code.call("transfer(address,uint256)", *payment),
                "gas": hex(100_000),
                "nonce": hex(nonce),
            }
            request = {"method": "eth_sendTransaction", "params": [transaction]}
            batch.append({"jsonrpc": "2.0", "id": nonce, **request})
            nonce += 1
        requests.post(chain.url, json=batch, timeout=_START_SECONDS).raise_for_status()
        chain.rpc("evm_mine")
    return first, first + blocks - 1


@contextmanager
def far_away(url: str, seconds: float) -> Iterator[str]:
    """The same node, its answers this much later, as over a network."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(url, seconds, sender), daemon=True)
    process.start()
    try:
        if not receiver.poll(_START_SECONDS):
            raise RuntimeError("the proxy did not start")
        yield f"http://127.0.0.1:{receiver.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(url: str, seconds: float, ports: Connection) -> None:
    asyncio.run(_forward(url, seconds, ports))


async def _forward(url: str, seconds: float, ports: Connection) -> None:
    """Pass bytes on as they come, those of the answers `seconds` later."""
    node = urlsplit(url)

    async def connected(ours: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        theirs, onward = await asyncio.open_connection(node.hostname, node.port)
        await asyncio.gather(_pass_on(ours, onward, 0.0), _pass_on(theirs, back, seconds))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    ports.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def _pass_on(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, seconds: float
) -> None:
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def write() -> None:
        while True:
            due, content = await waiting.get()
            await asyncio.sleep(due - time.monotonic())
            if not content:
                target.close()
                return
            target.write(content)
            await target.drain()

    writer = asyncio.create_task(write())
    while content := await source.read(_CHUNK):
        waiting.put_nowait((time.monotonic() + seconds, content))
    waiting.put_nowait((time.monotonic() + seconds, b""))
    await writer


def run(url: str, first: int, last: int, out: Path, workers: int | None) -> dict[str, float]:
    """Record in a process of its own; returns its seconds, CPU seconds and peak memory in MB."""
    arguments = ["--from-block", first, "--to-block", last, "--out", out, "--url", url]
    arguments += ["--requests-per-second", 100_000]  # the limit is not what is measured
    if workers is not None:
        arguments += ["--workers", workers]
    command = [sys.executable, "-m", "src.history.record", *map(str, arguments)]
    started = time.perf_counter()
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=PROJECT, stdout=nowhere, stderr=nowhere)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise cli.CommandError("the recording failed")
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1024,
    }


def answers(chain: Chain, first: int, last: int) -> bytes:
    """What the node says of these blocks, as JSON without spaces."""
    found = [
        (
            chain.rpc("eth_getBlockByNumber", hex(number), True),
            chain.rpc("eth_getBlockReceipts", hex(number)),
        )
        for number in range(first, last + 1)
    ]
    return json.dumps(found, separators=(",", ":")).encode()


@cli.command("bench:record")
def main(arguments: list[str] | None = None) -> int:
    """Measure and print a table, and JSON."""
    parser = cli.parser("bench:record", __doc__, _EPILOG)
    parser.add_argument("--blocks", type=cli.positive, default=60, help="blocks to record (60)")
    parser.add_argument(
        "--transactions", type=cli.positive, default=180, help="in each block (180)"
    )
    parser.add_argument("--latency", type=cli.number(0), default=20.0, help="milliseconds (20)")
    parser.add_argument("--rounds", type=cli.positive, default=2, help="runs of each kind (2)")
    options = parser.parse_args(arguments)
    with (
        anvil(timestamp=1_700_000_000) as chain,
        tempfile.TemporaryDirectory(prefix="record-bench-") as folder,
        far_away(chain.url, options.latency / 1000) as far,
    ):
        print("building the chain ...", file=sys.stderr)
        first, last = build(chain, options.blocks + 1, options.transactions)
        places = {"at once": chain.url, f"after {options.latency:g} ms": far}
        rows = options.blocks * options.transactions
        lines, found = [], {}
        for place, url in places.items():
            runs: dict[int | None, list[dict[str, float]]] = {1: [], None: []}
            for turn in range(options.rounds):
                for workers, measured in runs.items():
                    out = Path(folder) / f"{turn}-{workers}-{url.rpartition(':')[2]}"
                    start = run(url, first, first, out.with_suffix(".start"), workers)
                    whole = run(url, first, last, out, workers)
                    measured.append({k: whole[k] - start[k] for k in ("seconds", "cpu_seconds")})
                    measured[-1]["peak_mb"] = whole["peak_mb"]
            middle = {
                workers: {name: median(one[name] for one in measured) for name in measured[0]}
                for workers, measured in runs.items()
            }
            rates = [rows / middle[workers]["seconds"] for workers in (None, 1)]
            lines.append(
                Line("record", f"transactions recorded, answers {place}", rates[0], rates[1],
                     "one worker", "tx/s", "wall")
            )  # fmt: skip
            found[place] = {"one worker": middle[1], "default": middle[None]}
            blocks = options.blocks / middle[None]["seconds"]
            print(f"{place}: {blocks:.1f} blocks a second", file=sys.stderr)
        size = sum(path.stat().st_size for path in out.rglob("*.parquet"))
        text = answers(chain, first, last)
        for name, theirs in (("JSON", text), ("JSON, gzip", gzip.compress(text))):
            ours, against = (n / (rows + options.transactions) for n in (size, len(theirs)))
            lines.append(Line("record", "bytes a transaction", ours, against, name, "bytes", ""))
    print(table(lines))
    print(json.dumps({"blocks": options.blocks, "transactions": rows, "runs": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
