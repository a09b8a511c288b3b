"""Many varied and hostile transactions through one process: `npm run soak`.

Exit code 0 when none was lost and memory did not grow after the caches had filled, else 1.
"""

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from forta_agent import create_transaction_event

import src.agent
from benchmarks.hostile import FILL, HostileTraffic
from benchmarks.sources import Conduct, running_bot, sources
from src.utils.constants import ANOMALOUS_ALERT_ID, INVALID_ALERT_ID, NORMAL_ALERT_ID
from tests.forta_bridge import production_bot, transaction_event

ALLOWED_GROWTH_MB = 10.0
"""Resident memory may differ by so much between two moments without a leak."""

PROGRESS_SECONDS = 15.0
_MODELS = {NORMAL_ALERT_ID, ANOMALOUS_ALERT_ID, INVALID_ALERT_ID}
_FAILING_SHARE = 0.02
_DEADLINE_SECONDS = "0.01"
_NODE_REQUESTS_PER_SECOND = "200"


@dataclass(slots=True)
class Subject:
    """The bot under test.

    Attributes:
        handle: gives the alert ids of a transaction's findings.
        resident_mb: resident memory of its processes.
    """

    handle: Callable[[dict[str, Any]], list[str]]
    resident_mb: Callable[[], float]


@dataclass(slots=True)
class Outcome:
    """What a soak run has seen so far."""

    transactions: int = 0
    with_transfers: int = 0
    lost: int = 0
    invalid: int = 0
    seconds: float = 0.0
    filled_mb: float | None = None
    last_mb: float = 0.0

    @property
    def growth_mb(self) -> float | None:
        """Growth of memory since the caches were full; None in a run too short to say."""
        return None if self.filled_mb is None else self.last_mb - self.filled_mb

    @property
    def holds(self) -> bool:
        """Whether nothing was lost and memory stayed where it was."""
        return self.lost == 0 and (self.growth_mb is None or self.growth_mb <= ALLOWED_GROWTH_MB)

    def __str__(self) -> str:
        rate = self.transactions / self.seconds if self.seconds else 0.0
        filled = "" if self.filled_mb is None else f" ({self.filled_mb:.0f} MB at {FILL:,})"
        return (
            f"{self.transactions:,} transactions, {self.with_transfers:,} with transfers, "
            f"{rate:.0f} tx/s, {self.lost} lost, {self.invalid} invalid, "
            f"{self.last_mb:.0f} MB{filled}"
        )


def soak(subject: Subject, transactions: int, seed: int) -> Iterator[Outcome]:
    """Feed the subject; yields the outcome so far now and then, and at the end."""
    traffic = HostileTraffic(seed)
    outcome = Outcome()
    started = reported = time.monotonic()
    for number in range(1, transactions + 1):
        transaction = traffic.transaction()
        try:
            alerts = subject.handle(transaction.event)
        except Exception as error:  # noqa: BLE001  whatever is raised, the transaction is lost
            logging.getLogger(__name__).warning("lost: %s", type(error).__name__)
            alerts = None
        outcome.transactions = number
        outcome.with_transfers += transaction.has_transfers
        # Rules may add findings of their own; the model's word on a transaction comes once.
        if alerts is None or len(_MODELS & set(alerts)) != int(transaction.has_transfers):
            outcome.lost += 1
        else:
            outcome.invalid += INVALID_ALERT_ID in alerts
        if number == FILL:
            outcome.filled_mb = subject.resident_mb()
        now = time.monotonic()
        if number == transactions or now - reported >= PROGRESS_SECONDS:
            reported = now
            outcome.seconds = now - started
            outcome.last_mb = subject.resident_mb()
            yield outcome


@contextmanager
def in_process(settings: dict[str, str]) -> Iterator[Subject]:
    """The handler in this process."""

    def handle(event: dict[str, Any]) -> list[str]:
        findings = src.agent.handle_transaction(create_transaction_event(event))
        return [finding.alert_id for finding in findings]

    with running_bot(settings):
        logging.disable(logging.WARNING)
        yield Subject(handle, lambda: _resident_mb([psutil.Process()]))


@contextmanager
def through_bridge(settings: dict[str, str]) -> Iterator[Subject]:
    """The real `forta-agent run --prod`, over gRPC."""
    with (
        tempfile.TemporaryDirectory() as folder,
        production_bot(Path(folder), settings) as bridge,
    ):
        bridge.initialize()
        root = psutil.Process(bridge.process.pid)

        def handle(event: dict[str, Any]) -> list[str]:
            answer = bridge.evaluate(
                transaction_event(
                    tx_hash=event["transaction"]["hash"],
                    sender=event["transaction"]["from"],
                    logs=event["logs"],
                )
            )
            return [finding.alertId for finding in answer.findings]

        yield Subject(handle, lambda: _resident_mb([root, *root.children(recursive=True)]))


def _resident_mb(processes: list[psutil.Process]) -> float:
    return float(sum(process.memory_info().rss for process in processes)) / 2**20


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="npm run soak --", description=__doc__)
    parser.add_argument("--transactions", type=int, default=1_000_000, help="default: 1000000")
    parser.add_argument("--seed", type=int, default=1, help="same seed, same transactions")
    parser.add_argument(
        "--through-bridge",
        action="store_true",
        help="through the real forta-agent and gRPC, as on a scan node",
    )
    options = parser.parse_args(arguments)
    if options.transactions < 1:
        parser.error("--transactions must be at least 1")
    run = through_bridge if options.through_bridge else in_process
    with sources(Conduct(failing_share=_FAILING_SHARE, hostile=True)) as settings:
        settings |= {
            "LOOKUP_DEADLINE_SECONDS": _DEADLINE_SECONDS,
            "JSON_RPC_REQUESTS_PER_SECOND": _NODE_REQUESTS_PER_SECOND,
        }
        outcome = Outcome()
        with run(settings) as subject:
            for outcome in soak(subject, options.transactions, options.seed):
                print(outcome, file=sys.stderr, flush=True)
    growth = outcome.growth_mb
    memory = (
        f"memory not judged: fewer than {FILL:,} transactions"
        if growth is None
        else f"{growth:+.1f} MB since {FILL:,} transactions, {ALLOWED_GROWTH_MB:.0f} MB allowed"
    )
    print(f"{outcome}\n{memory}: {'holds' if outcome.holds else 'DOES NOT HOLD'}")
    return 0 if outcome.holds else 1


if __name__ == "__main__":
    sys.exit(main())
