"""The two bots that the soak run can feed: the handler in this process, and the real one."""

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from forta_agent import create_transaction_event

import src.agent
from benchmarks.soak_oracle import COMPARED, ShownFinding
from benchmarks.sources import running_bot
from tests.support.forta_bridge import production_bot, transaction_event


@dataclass(frozen=True, slots=True)
class Usage:
    """What a bot's processes use.

    Attributes:
        python_mb, node_mb: resident memory; `node_mb` is 0 where there is no Node.
        cpu_seconds: processor time of both so far.
    """

    python_mb: float = 0.0
    node_mb: float = 0.0
    cpu_seconds: float = 0.0


@dataclass(slots=True)
class Subject:
    """The bot under test.

    Attributes:
        handle: gives a transaction's findings.
        usage: of its processes, now.
        name: where it runs.
        limit_mb: resident memory of Python that is promised, None where it is not the bot's alone.
    """

    handle: Callable[[dict[str, Any]], list[ShownFinding]]
    usage: Callable[[], Usage]
    name: str = ""
    limit_mb: float | None = None


@contextmanager
def in_process(settings: Mapping[str, str], _limit_mb: float) -> Iterator[Subject]:
    """The handler in this process; its processor time is counted within the handler only."""
    cpu_seconds = 0.0
    process = psutil.Process()

    def handle(event: dict[str, Any]) -> list[ShownFinding]:
        nonlocal cpu_seconds
        transaction = create_transaction_event(event)
        began = time.process_time()
        findings = src.agent.handle_transaction(transaction)
        cpu_seconds += time.process_time() - began
        return [(finding.alert_id, _compared(finding.metadata)) for finding in findings]

    def usage() -> Usage:
        return Usage(python_mb=process.memory_info().rss / 2**20, cpu_seconds=cpu_seconds)

    with running_bot(settings):
        logging.disable(logging.WARNING)
        try:
            yield Subject(handle, usage, "in this process")
        finally:
            logging.disable(logging.NOTSET)


@contextmanager
def through_bridge(settings: Mapping[str, str], limit_mb: float) -> Iterator[Subject]:
    """The real `forta-agent run --prod`, over gRPC."""
    with (
        tempfile.TemporaryDirectory() as folder,
        production_bot(Path(folder), settings) as bridge,
    ):
        bridge.initialize()
        node = psutil.Process(bridge.process.pid)
        (python,) = node.children(recursive=True)

        def handle(event: dict[str, Any]) -> list[ShownFinding]:
            answer = bridge.evaluate(
                transaction_event(
                    tx_hash=event["transaction"]["hash"],
                    sender=event["transaction"]["from"],
                    logs=event["logs"],
                    timestamp=int(event["block"]["timestamp"], 16),
                )
            )
            return [(finding.alertId, _compared(finding.metadata)) for finding in answer.findings]

        def usage() -> Usage:
            return Usage(
                python_mb=python.memory_info().rss / 2**20,
                node_mb=node.memory_info().rss / 2**20,
                cpu_seconds=sum(sum(each.cpu_times()[:2]) for each in (node, python)),
            )

        yield Subject(handle, usage, "forta-agent run --prod, over gRPC", limit_mb)


def _compared(metadata: Mapping[str, str]) -> dict[str, str]:
    return {name: metadata[name] for name in COMPARED if name in metadata}
