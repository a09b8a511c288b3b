"""Builds the bot's image and checks it under the limits of a scan node: `npm run image:check`.

Runs the image with slightly stricter limits than a scan node: read-only root file system, 0.2 CPU,
1000 MB, not root. It checks gRPC, Initialize, a plain and a hostile transaction, health, the
latency of many transactions, memory and SIGTERM. Then it kills the Python child, and lets the
kernel's out-of-memory killer kill another: both containers must exit with an error code, so that
they are restarted. Prints all measurements.

Needs Linux and Docker, or Podman 4. If base images cannot be pulled, substitutes with the same
names are built from Debian packages (mmdebstrap) and the local Node.
"""

# ruff: noqa: S108 - paths inside the container

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil

from scripts.container_engine import Engine, EngineError, find_engine
from src import cli
from tests.support.forta_bridge import Bridge, connect, free_port, transaction_event

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "localhost/anomalous-token-transfers:check"
CPUS = 0.2
MEMORY_MB = 1000
MAX_START_SECONDS = 60.0
MAX_STOP_SECONDS = 5.0
MAX_RESIDENT_MB = 500.0
MAX_IMAGE_MB = 1000.0

LOGS_LABEL = "network.forta.settings.agent-logs.enable"
USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
SENDER = "0x" + "a1" * 20
SUCCESS = 2  # ResponseStatus in the protocol
SCORED = {"NORMAL-TOKEN-TRANSFERS-TX", "ANOMALOUS-TOKEN-TRANSFERS-TX"}
_EPILOG = """\
examples:
  npm run image:check
  npm run image:check -- --no-build --transactions 50

exit codes: 0 all checks hold, 1 one does not or no image could be built, 2 wrong usage.
"""
_PLANTED = "planted-secret"
GREEDY_AGENT = """
def handle_transaction(_event):
    return []

taken = [bytearray(b"x") * 100_000_000 for _ in range(20)]
"""
CACHED_KERNELS = """
import sys
from src.detection import precompile
kernels = precompile.compiled_kernels()
dispatchers = [
    dispatcher
    for module in precompile.KERNEL_MODULES
    for dispatcher in vars(module).values()
    if hasattr(dispatcher, "stats") and dispatcher.signatures  # helpers are inside their callers
]
sys.exit(not kernels or any(d.stats.cache_misses or not d.stats.cache_hits for d in dispatchers))
"""


@dataclass
class Report:
    """Measurements and failed checks."""

    failures: list[str] = field(default_factory=list)

    def note(self, name: str, value: str) -> None:
        """Print a figure."""
        sys.stdout.write(f"{name:<42}{value}\n")
        sys.stdout.flush()

    def expect(self, holds: bool, name: str, value: str) -> None:
        """Print a figure that must hold."""
        self.note(name, value if holds else f"{value}   <-- failed")
        if not holds:
            self.failures.append(name)


@cli.command("image:check")
def main(arguments: list[str] | None = None) -> int:
    """Build, run and check the image; returns the exit code."""
    options = _parser().parse_args(arguments)
    report = Report()
    with tempfile.TemporaryDirectory(prefix="image-check-") as scratch:
        engine = find_engine(Path(scratch))
        if not options.no_build:
            context = Path(scratch) / "context"
            _plant(context)
            seconds = _timed(lambda: engine.build(context, IMAGE))
            report.note("build", f"{seconds:.0f} s")
        _check_image(engine, report)
        _check_container(engine, report, Path(scratch), options.transactions)
        _check_killed_child(engine, report, Path(scratch))
        _check_out_of_memory(engine, report, Path(scratch))
    if report.failures:
        sys.stderr.write(f"image:check: {len(report.failures)} checks failed: ")
        sys.stderr.write(f"{', '.join(report.failures)}\n")
        return 1
    return 0


def _plant(context: Path) -> None:
    """A copy of the project with key files where people leave them by mistake."""
    unneeded = shutil.ignore_patterns(".git", ".venv", "node_modules", ".cache", "__pycache__")
    shutil.copytree(ROOT, context, ignore=unneeded)
    for folder in ("", "src", "src/chain", "src/utils", "src/keyfiles", "docs/model"):
        (context / folder).mkdir(exist_ok=True)
        for ending in (".json", ".pem", ".key", ".env", ""):
            (context / folder / f"{_PLANTED}{ending}").write_text("a planted key")


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("image:check", __doc__, _EPILOG)
    parser.add_argument(
        "--no-build", action="store_true", help=f"check {IMAGE} without building it"
    )
    parser.add_argument(
        "--transactions", type=cli.positive, default=200, metavar="N", help="to time (default: 200)"
    )
    return parser


def _check_image(engine: Engine, report: Report) -> None:
    size = int(engine.inspect(IMAGE, "{{.Size}}")) / 1e6
    report.expect(size < MAX_IMAGE_MB, "image", f"{size:.0f} MB")
    user = engine.inspect(IMAGE, "{{.Config.User}}")
    report.expect(user.split(":")[0] not in {"", "0", "root"}, "user", user or "root")
    label = engine.inspect(IMAGE, f'{{{{index .Config.Labels "{LOGS_LABEL}"}}}}')
    report.expect(label == "true", "agent logs", label)
    names = engine.run_once(
        IMAGE, ["find", "/app", "-not", "-path", "*/node_modules/*", "-not", "-path", "/app"]
    )
    secret = [name for name in names.splitlines() if _PLANTED in name or name.endswith(".env")]
    report.expect(not secret, "secrets in the image", ", ".join(secret) or "none")
    try:
        engine.run_once(IMAGE, ["python3", "-c", CACHED_KERNELS])
        report.expect(True, "kernels", "all from the image, none compiled at start")
    except EngineError:
        report.expect(False, "kernels", "compiled at start")


def _check_container(engine: Engine, report: Report, scratch: Path, transactions: int) -> None:
    port = free_port()
    began = time.monotonic()
    with _container(engine, port) as name, _connected(engine, name, port, scratch) as bot:
        report.note("gRPC answers after", f"{time.monotonic() - began:.1f} s")
        status = bot.initialize().status
        seconds = time.monotonic() - began
        report.expect(status == SUCCESS, "Initialize", _status(status))
        report.expect(seconds < MAX_START_SECONDS, f"ready at {CPUS} CPU after", f"{seconds:.1f} s")
        processes = _processes(engine, name)
        cpu = sum(sum(process.cpu_times()[:2]) for process in processes)
        report.note("CPU spent until then", f"{cpu:.1f} s")
        _check_findings(bot, report)
        _check_latency(bot, report, transactions)
        answer = bot.health_check()
        report.expect(answer.status == SUCCESS, "HealthCheck", _status(answer.status))
        report.expect(
            engine.succeeds(["exec", name, *_health_command(engine)]),
            "HEALTHCHECK of the image", "run in the container",
        )  # fmt: skip
        for process in processes:
            report.note(f"resident: {process.name()}", f"{process.memory_info().rss / 1e6:.0f} MB")
        resident = sum(process.memory_info().rss for process in processes) / 1e6
        report.expect(resident < MAX_RESIDENT_MB, "resident in all", f"{resident:.0f} MB")
        _check_stop(engine, report, name, processes)


def _check_findings(bot: Bridge, report: Report) -> None:
    """One primary finding each, scored, whatever the transaction holds; rules may add theirs."""
    hostile = [
        _transfer(SENDER, 2**256 - 1),
        {"address": USDC, "topics": [TRANSFER], "data": "0xzz"},
        {"address": USDC, "topics": [], "data": ""},
        *(_transfer("0x" + f"{i % 7 + 1:040x}", 10 ** (i % 70), f"0x{i:040x}") for i in range(200)),
    ]
    for name, logs in (("plain transfer", [_transfer(SENDER, 25_000_000)]), ("hostile", hostile)):
        began = time.monotonic()
        answer = bot.evaluate(_event(f"0x{len(logs):064x}", logs))
        elapsed = (time.monotonic() - began) * 1000
        found = [finding.alertId for finding in answer.findings]
        primary = [alert_id for alert_id in found if alert_id in SCORED]
        holds = answer.status == SUCCESS and len(primary) == 1
        report.expect(holds, f"{name} ({len(logs)} logs)", f"{', '.join(found)}, {elapsed:.0f} ms")
    answer = bot.evaluate(_event("0x" + "e" * 64, []))
    report.expect(not answer.findings, "no transfer", f"{len(answer.findings)} findings")


def _check_latency(bot: Bridge, report: Report, transactions: int) -> None:
    times = []
    for number in range(transactions):
        logs = [_transfer(SENDER, number + 1, f"0x{number + i + 1:040x}") for i in range(5)]
        began = time.monotonic()
        bot.evaluate(_event(f"0x{number + 10**9:064x}", logs))
        times.append((time.monotonic() - began) * 1000)
    if len(times) > 1:
        tenths = statistics.quantiles(times, n=20)
        report.note(
            f"a transaction with 5 transfers (n={transactions})",
            f"p50 {statistics.median(times):.1f} ms, p95 {tenths[-1]:.1f} ms, "
            f"mean {statistics.fmean(times):.1f} ms",
        )


def _check_stop(engine: Engine, report: Report, name: str, processes: list[Any]) -> None:
    began = time.monotonic()
    engine.call(["kill", "--signal", "TERM", name])
    _, alive = psutil.wait_procs(processes, timeout=2 * MAX_STOP_SECONDS)
    seconds = time.monotonic() - began
    left = ", ".join(process.name() for process in alive)
    report.expect(
        not alive and seconds < MAX_STOP_SECONDS, "SIGTERM ends all processes after",
        f"{seconds:.1f} s" + (f", left: {left}" if left else ""),
    )  # fmt: skip


def _check_killed_child(engine: Engine, report: Report, scratch: Path) -> None:
    """The CLI outlives its Python child and answers nothing: the container must not."""
    port = free_port()
    with _container(engine, port) as name, _connected(engine, name, port, scratch) as bot:
        bot.initialize()
        (python,) = [p for p in _processes(engine, name) if p.name().startswith("python")]
        _check_end(engine, report, name, "SIGKILL of Python", python.kill)


def _check_out_of_memory(engine: Engine, report: Report, scratch: Path) -> None:
    """The same with the kernel's out-of-memory killer: handlers allocate more than the limit."""
    agent = scratch / "agent.py"
    agent.write_text(GREEDY_AGENT)
    # Without the prefix Python would take the bytecode that the image has for the module.
    options = [
        "--volume", f"{agent}:/app/src/agent.py:ro", "--env", "PYTHONPYCACHEPREFIX=/tmp/bytecode"
    ]  # fmt: skip
    with _container(engine, free_port(), options) as name:
        _check_end(engine, report, name, "out of memory", lambda: None, MAX_START_SECONDS)


def _check_end(
    engine: Engine,
    report: Report,
    name: str,
    cause: str,
    provoke: Callable[[], None],
    limit: float = MAX_STOP_SECONDS,
) -> None:
    """Holds when the container ends within `limit` seconds with a code that says that it failed."""
    provoke()
    began = time.monotonic()
    try:
        code = int(engine.call(["wait", name], timeout=2 * limit))
    except EngineError:
        report.expect(False, f"{cause}: the container ends", "never")
        return
    seconds = time.monotonic() - began
    report.expect(
        code != 0 and seconds < limit, f"{cause}: the container ends",
        f"after {seconds:.1f} s with exit code {code}",
    )  # fmt: skip


@contextmanager
def _container(engine: Engine, port: int, options: Sequence[str] = ()) -> Iterator[str]:
    name = f"image-check-{port}"
    engine.call(
        ["run", "--detach", "--name", name, "--network", "host", "--read-only", "--tmpfs", "/tmp",
         "--cpus", str(CPUS), "--memory", f"{MEMORY_MB}m", "--memory-swap", f"{MEMORY_MB}m",
         "--cap-drop", "all", *options,
         "--env", f"AGENT_GRPC_PORT={port}", IMAGE]
    )  # fmt: skip
    try:
        yield name
    finally:
        engine.call(["rm", "--force", name])


@contextmanager
def _connected(engine: Engine, name: str, port: int, scratch: Path) -> Iterator[Bridge]:
    try:
        with connect(port, scratch, timeout=MAX_START_SECONDS) as bot:
            yield bot
    except (grpc.FutureTimeoutError, grpc.RpcError) as error:
        raise EngineError(
            f"the bot does not answer ({type(error).__name__}). Its log:\n{engine.logs(name)}"
        ) from error


def _processes(engine: Engine, name: str) -> list[psutil.Process]:
    first = psutil.Process(int(engine.inspect(name, "{{.State.Pid}}")))
    return [first, *first.children(recursive=True)]


def _health_command(engine: Engine) -> list[str]:
    image = json.loads(engine.call(["image", "inspect", IMAGE]))[0]
    health = image.get("Healthcheck") or image["Config"]["Healthcheck"]  # Podman, Docker
    form, *command = health["Test"]
    return command if form == "CMD" else ["sh", "-c", *command]


def _transfer(sender: str, amount: int, recipient: str = "0x" + "b2" * 20) -> dict[str, Any]:
    topics = [TRANSFER, *("0x" + "0" * 24 + account[2:] for account in (sender, recipient))]
    return {"address": USDC, "topics": topics, "data": f"0x{amount:064x}"}


def _event(tx_hash: str, logs: list[dict[str, Any]]) -> dict[str, Any]:
    return transaction_event(tx_hash=tx_hash, sender=SENDER, logs=logs)


def _status(number: int) -> str:
    return {0: "UNKNOWN", 1: "ERROR", SUCCESS: "SUCCESS"}.get(number, str(number))


def _timed(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
