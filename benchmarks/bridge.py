"""The real `forta-agent run --prod` with one transaction in flight, compared with an empty bot."""

import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.cgroup import CpuGroup, cpu_group
from benchmarks.kernels import TRANSFERS
from benchmarks.report import Line
from benchmarks.sources import sources
from benchmarks.start_up import MEMORY_MB
from benchmarks.traffic import Traffic
from src.settings import PROJECT_ROOT
from tests.support.forta_bridge import Bridge, production_bot, transaction_event

RATE_SHARE = 0.8
"""Share of an empty bot's transactions a second that the project promises with mainnet's mix."""

_BY_TRANSFERS = {0: 21_885, 1: 5_894, 2: 1_590, 3: 840, 4: 338, 16: 414}
"""Mainnet's transactions by their transfers, in whole blocks. 16: the mean of more than 4."""

_MIX = "mainnet's mix"
_EMPTY_BOT = "def handle_transaction(_event):\n    return []\n"
_SENDERS = 3

Event = dict[str, Any]


@dataclass(slots=True)
class Bot:
    """A running bot and what was measured of it.

    Attributes:
        bridge: its client.
        seconds: round trips by what was sent.
        cpu: processor seconds a transaction, of all its processes.
    """

    bridge: Bridge
    seconds: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    def feed(self, name: str, events: Sequence[Event]) -> None:
        """Send the events one after another."""
        cpu = self._cpu_seconds()
        for event in events:
            started = time.perf_counter()
            self.bridge.evaluate(event)
            self.seconds.setdefault(name, []).append(time.perf_counter() - started)
        self.cpu.setdefault(name, []).append((self._cpu_seconds() - cpu) / len(events))

    def rate(self, name: str) -> float:
        """Transactions a second."""
        return len(self.seconds[name]) / sum(self.seconds[name])

    def processes(self) -> list[psutil.Process]:
        """Node and its Python child."""
        root = psutil.Process(self.bridge.process.pid)
        return [root, *root.children(recursive=True)]

    def python_mb(self) -> float:
        """Resident memory of the Python child."""
        return max(
            process.memory_info().rss / 2**20
            for process in self.processes()
            if "python" in process.name()
        )

    def _cpu_seconds(self) -> float:
        times = [process.cpu_times() for process in self.processes()]
        return float(sum(each.user + each.system for each in times))


def measure(*, rounds: int, transactions: int, cores: float) -> tuple[list[Line], list[str]]:
    """Lines, and what was skipped and why.

    Args:
        rounds: how often each bot is fed with each kind of transaction, alternately.
        transactions: how many it is fed with each time.
        cores: share of a core for the second half of the lines.
    """
    lines = list(_compare(rounds, transactions, None, ""))
    with cpu_group(cores) as group:
        if group is None:
            return lines, [f"{cores:g} CPU: cannot create a control group"]
        # One group for both bots: one transaction is in flight, so one of them always rests.
        lines += _compare(max(1, rounds // 2), transactions, group, f", {cores:g} CPU")
    return lines, []


def _compare(rounds: int, transactions: int, group: CpuGroup | None, suffix: str) -> Iterator[Line]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = stack.enter_context(sources())
        ours = stack.enter_context(_running(folder / "ours", settings, group))
        empty = stack.enter_context(_running(folder / "empty", {}, group, source=_EMPTY_BOT))
        kinds = _kinds(transactions)
        for name, events in kinds.items():
            ours.feed("warm-up", events)
            empty.feed("warm-up", events[:20])
            for _ in range(rounds):
                ours.feed(name, events)
                empty.feed(name, events)
        for name in kinds:
            yield Line(
                "bridge", f"gRPC round trip, {name}{suffix}",
                statistics.median(ours.seconds[name]), statistics.median(empty.seconds[name]),
                "empty bot", kind="wall",
            )  # fmt: skip
            yield Line(
                "bridge", f"CPU of Node and Python, {name}{suffix}",
                statistics.median(ours.cpu[name]), statistics.median(empty.cpu[name]), "empty bot",
            )  # fmt: skip
            yield Line(
                "bridge", f"sustained rate, {name}{suffix}", ours.rate(name), empty.rate(name),
                "empty bot", unit="tx/s", kind="",
                ratio_limit=RATE_SHARE if name == _MIX and group is None else None,
            )  # fmt: skip
        yield Line(
            "bridge", f"resident memory of Python after that{suffix}", ours.python_mb(),
            empty.python_mb(), "empty bot", unit="MB", kind="", limit=MEMORY_MB,
        )  # fmt: skip


@contextmanager
def _running(
    folder: Path, settings: Mapping[str, str], group: CpuGroup | None, source: str | None = None
) -> Iterator[Bot]:
    """Our bot, or one made of `source`, initialised and within the group."""
    folder.mkdir()
    project = PROJECT_ROOT
    if source is not None:
        project = folder / "project"
        (project / "src").mkdir(parents=True)
        (project / "src/agent.py").write_text(source)
        (project / "package.json").write_text(
            '{"name": "empty", "version": "0.0.0", "chainIds": [1]}'
        )
    with production_bot(folder, settings, project) as bridge:
        bot = Bot(bridge)
        if group is not None:
            for process in bot.processes():
                group.add(process.pid)
        bridge.initialize()
        yield bot


def _kinds(transactions: int) -> dict[str, list[Event]]:
    traffic = Traffic(6)
    rng = random.Random(7)
    senders = [traffic.address() for _ in range(_SENDERS)]

    def event(size: int) -> Event:
        sender = rng.choice(senders)
        return transaction_event(
            tx_hash=f"0x{rng.getrandbits(256):064x}",
            sender=sender,
            logs=[
                {name: value for name, value in log.items() if name != "logIndex"}
                for log in traffic.logs(size, sender)
            ],
        )

    mixed = rng.choices([*_BY_TRANSFERS], [*_BY_TRANSFERS.values()], k=transactions)
    return {
        f"{TRANSFERS} transfers": [event(TRANSFERS) for _ in range(transactions)],
        _MIX: [event(size) for size in mixed],
    }
