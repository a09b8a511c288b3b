"""Feeds hostile traffic to a bot, and checks and counts its findings."""

import argparse
import json
import logging
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.hostile import FILL, HostileTraffic
from benchmarks.hostile_sources import hostile_sources
from benchmarks.recorded import read_apart
from benchmarks.soak import DEADLINE_SECONDS, LATE_SECONDS
from benchmarks.soak_bots import Subject, Usage, in_process, through_bridge
from benchmarks.soak_oracle import PRIMARY, ShownFinding, Verdict, oracle_process
from benchmarks.sources import Conduct, sources
from benchmarks.start_up import MEMORY_MB
from src.files import write_file
from src.utils.constants import INVALID_ALERT_ID

ALLOWED_GROWTH_MB = 10.0
"""Resident memory of Python may differ by so much between two moments without a leak."""

ALLOWED_LATE_SHARE = 1e-4
"""On a machine with other work a few transactions wait for the processor."""

PROGRESS_SECONDS = 15.0

_CONDUCT = Conduct(
    failing_share=0.02,
    hanging_share=0.001,
    outage_every_seconds=120.0,
    outage_seconds=10.0,
    hostile=True,
)

_NODE_REQUESTS_PER_SECOND = "200"

HOSTILE_FILL = 500
"""With hostile sources: transactions until the allocator has its working set."""

HOSTILE_MEMORY_MB = 350.0
"""With Node's 120 half of a scan node's limit: attacks of megabytes are parsed in this memory."""

HOSTILE_GROWTH_MB = 30.0
"""With hostile sources: Python may grow by so much afterwards; a response has up to 512 KiB."""

_STRANGERS = 8
_HOSTILE_NODE_REQUESTS_PER_SECOND = "50"

_BUCKETS_PER_DOUBLING = 8

_MIN_SECONDS = 1e-6

OnFindings = Callable[[Sequence[ShownFinding] | None], None]


class Latencies:
    """How long answers took, counted in classes 9% wide, so that memory does not grow."""

    def __init__(self) -> None:
        self._classes: Counter[int] = Counter()
        self.longest = 0.0

    def add(self, seconds: float) -> None:
        """Count one answer."""
        self.longest = max(self.longest, seconds)
        doublings = math.log2(max(seconds, _MIN_SECONDS) / _MIN_SECONDS)
        self._classes[math.ceil(doublings * _BUCKETS_PER_DOUBLING)] += 1

    def quantile(self, share: float) -> float:
        """The upper end of the class of the answer that this share of them were not longer than."""
        wanted = share * self._classes.total()
        for number in sorted(self._classes):
            wanted -= self._classes[number]
            if wanted <= 0:
                return float(_MIN_SECONDS * 2 ** (number / _BUCKETS_PER_DOUBLING))
        return 0.0


@dataclass(frozen=True, slots=True)
class Moment:
    """What was used at one moment of the run."""

    seconds: float
    transactions: int
    usage: Usage


@dataclass(slots=True)
class Outcome:
    """The figures of a soak run so far.

    Attributes:
        lost: transactions without exactly the one finding of the model that they should have, or
            with one that they should not have.
        late: answers that took longer than the budget.
        invalid: transactions that the bot could not score.
        budget_seconds: longer is late.
        allowed_growth_mb, allowed_late_share: see `ALLOWED_GROWTH_MB`, `ALLOWED_LATE_SHARE`.
        fill: transactions in which caches fill up.
        limit_mb: resident memory promised for Python, or None.
        start: what was used when the first transaction was fed.
        filled: what was used when the caches had filled.
        moments: now and then, the last at the end.
        verdict: the oracle's, once it is there.
    """

    budget_seconds: float = LATE_SECONDS
    limit_mb: float | None = None
    allowed_growth_mb: float = ALLOWED_GROWTH_MB
    allowed_late_share: float = ALLOWED_LATE_SHARE
    fill: int = FILL
    transactions: int = 0
    with_transfers: int = 0
    lost: int = 0
    late: int = 0
    invalid: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    start: Usage = field(default_factory=Usage)
    filled: Usage | None = None
    moments: list[Moment] = field(default_factory=list)
    verdict: Verdict | None = None

    @property
    def growth_mb(self) -> float | None:
        """Growth of Python since the caches were full; None where they never were."""
        if self.filled is None or not self.moments:
            return None
        return self.moments[-1].usage.python_mb - self.filled.python_mb

    @property
    def cpu_seconds(self) -> float:
        """Processor time a transaction, Node and Python."""
        if not self.moments or not self.transactions:
            return 0.0
        return (self.moments[-1].usage.cpu_seconds - self.start.cpu_seconds) / self.transactions

    def failures(self) -> list[str]:
        """The limits that were missed, in words."""
        found = []
        if self.lost:
            found.append(f"{self.lost:,} lost")
        if self.late > self.allowed_late_share * self.transactions:
            found.append(f"{self.late:,} late")
        if self.verdict is not None and self.verdict.wrong:
            found.append(f"{self.verdict.wrong:,} wrong")
        if self.growth_mb is not None and self.growth_mb > self.allowed_growth_mb:
            found.append(f"Python grew by {self.growth_mb:.1f} MB")
        # A short run has not filled the caches: it may not exceed the limit either.
        if self.limit_mb is not None and self.moments:
            python_mb = max(moment.usage.python_mb for moment in self.moments)
            if python_mb > self.limit_mb:
                found.append(f"Python took {python_mb:.0f} MB")
        return found

    def line(self) -> str:
        """The progress of the run, on one line."""
        now = self.moments[-1]
        rate = self.transactions / now.seconds if now.seconds else 0.0
        node = f" + Node {now.usage.node_mb:.0f} MB" if now.usage.node_mb else ""
        return (
            f"{now.seconds:6.0f} s  {self.transactions:>9,} transactions  {rate:6.0f}/s  "
            f"{self.lost} lost  {self.late} late  {self.invalid:,} invalid  "
            f"Python {now.usage.python_mb:.0f} MB{node}  {self.cpu_seconds * 1000:.2f} ms CPU"
        )

    def report(self) -> str:
        """The whole report, for people."""
        verdict = self.verdict or Verdict()
        quantiles = ", ".join(
            f"p{share * 100:g} {self.latencies.quantile(share) * 1000:.1f}"
            for share in (0.5, 0.99, 0.9999)
        )
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in verdict.kinds.most_common())
        filled = "not reached"
        if self.filled is not None:
            filled = f"{self.filled.python_mb:.0f} MB, {self.growth_mb:+.1f} since"
        lines = [
            f"fed            {self.transactions:,}, {self.with_transfers:,} with transfers",
            f"lost           {self.lost:,}",
            f"late           {self.late:,} over {self.budget_seconds * 1000:.0f} ms; ms: "
            f"{quantiles}, longest {self.latencies.longest * 1000:.0f}",
            f"wrong          {verdict.wrong:,} of {verdict.checked:,}; {verdict.scored:,} scores "
            "verified with scikit-learn",
            f"findings       {kinds}",
            f"CPU            {self.cpu_seconds * 1000:.2f} ms a transaction",
            f"Python         at {self.fill:,}: {filled}",
            "over time      " + _over_time(self.moments),
            *(f"wrong: {example}" for example in verdict.examples),
        ]
        return "\n".join(lines)


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    try:
        recorded = read_apart(options.recording)
    except ValueError as error:  # RecordingError, which would bring pyarrow into this process
        raise ValueError(f"--recording: {error}") from None
    bot = through_bridge if options.through_bridge else in_process
    with sources(_CONDUCT) as settings, oracle_process(options.seed, options.recording) as oracle:
        settings |= {
            "LOOKUP_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
            "JSON_RPC_REQUESTS_PER_SECOND": _NODE_REQUESTS_PER_SECOND,
        }
        outcome = Outcome()
        with bot(settings, MEMORY_MB) as subject:
            print(f"{subject.name}, {len(recorded):,} recorded transactions", file=sys.stderr)
            for outcome in soak(
                subject,
                HostileTraffic(options.seed, recorded),
                transactions=options.transactions,
                seconds=_seconds(options),
                budget_seconds=options.budget_ms / 1000,
                on_findings=oracle.tell,
            ):
                print(outcome.line(), file=sys.stderr, flush=True)
        outcome.verdict = oracle.verdict()
    return _report(outcome, options.json)


def run_hostile(options: argparse.Namespace) -> int:
    """`--hostile-sources`: every answer of every source is an attack, every token unknown.

    Scores are not compared: what the sources say of a sender's age is anything.
    """
    bot = through_bridge if options.through_bridge else in_process
    with hostile_sources() as settings:
        settings |= {
            "LOOKUP_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
            "JSON_RPC_REQUESTS_PER_SECOND": _HOSTILE_NODE_REQUESTS_PER_SECOND,
        }
        outcome = Outcome(
            allowed_growth_mb=HOSTILE_GROWTH_MB,
            allowed_late_share=1.0,  # counted only: parsing attacks takes the processor
            fill=HOSTILE_FILL,
        )
        with bot(settings, HOSTILE_MEMORY_MB) as subject:
            for _ in soak(
                subject,
                HostileTraffic(options.seed, strangers=_STRANGERS),
                transactions=options.transactions,
                seconds=_seconds(options),
                budget_seconds=options.budget_ms / 1000,
                outcome=outcome,
            ):
                print(outcome.line(), file=sys.stderr, flush=True)
    return _report(outcome, options.json)


def _seconds(options: argparse.Namespace) -> float | None:
    return None if options.minutes is None else float(options.minutes) * 60


def _report(outcome: Outcome, file: Path | None) -> int:
    failures = outcome.failures()
    print(outcome.report())
    print(f"FAILED: {', '.join(failures)}" if failures else "passed")
    if file is not None:
        write_file(file, (json.dumps(_document(outcome), indent=2) + "\n").encode())
    return 1 if failures else 0


def soak(
    subject: Subject,
    traffic: HostileTraffic,
    *,
    transactions: int | None,
    seconds: float | None = None,
    budget_seconds: float = LATE_SECONDS,
    on_findings: OnFindings = lambda _: None,
    outcome: Outcome | None = None,
) -> Iterator[Outcome]:
    """Feed the subject; yields the outcome so far now and then, and at the end.

    Args:
        subject: the bot.
        traffic: what it is fed with.
        transactions: how many at most, or None.
        seconds: for how long at most, or None.
        budget_seconds: longer is late.
        on_findings: called with the findings on each transaction, None where it was lost.
        outcome: to count in, with other limits than the usual ones.
    """
    outcome = outcome or Outcome()
    outcome.budget_seconds, outcome.limit_mb = budget_seconds, subject.limit_mb
    outcome.start = subject.usage()
    started = reported = time.monotonic()
    is_last = False
    while not is_last:
        transaction = traffic.transaction()
        began = time.monotonic()
        try:
            findings = subject.handle(transaction.event)
        except Exception as error:  # noqa: BLE001  whatever is raised, the transaction is lost
            logging.getLogger(__name__).warning("lost: %s", type(error).__name__)
            findings = None
        now = time.monotonic()
        on_findings(findings)
        outcome.transactions += 1
        outcome.with_transfers += transaction.has_transfers
        outcome.latencies.add(now - began)
        outcome.late += now - began > budget_seconds
        # Rules may add findings of their own; the model's word on a transaction comes once.
        alerts = [alert_id for alert_id, _ in findings or () if alert_id in PRIMARY]
        if findings is None or len(alerts) != int(transaction.has_transfers):
            outcome.lost += 1
        outcome.invalid += INVALID_ALERT_ID in alerts
        if outcome.transactions == outcome.fill:
            outcome.filled = subject.usage()
        is_last = outcome.transactions == transactions or (
            seconds is not None and now - started >= seconds
        )
        if is_last or now - reported >= PROGRESS_SECONDS:
            reported = now
            outcome.moments.append(Moment(now - started, outcome.transactions, subject.usage()))
            yield outcome


def _over_time(moments: Sequence[Moment]) -> str:
    """A dozen moments, evenly spread."""
    step = max(1, len(moments) // 12)
    chosen = [*moments[step - 1 : -1 : step], moments[-1]]
    return "; ".join(
        f"{moment.transactions:,}: {moment.usage.python_mb:.0f}"
        + (f" + {moment.usage.node_mb:.0f}" if moment.usage.node_mb else "")
        for moment in chosen
    )


def _document(outcome: Outcome) -> dict[str, Any]:
    verdict = outcome.verdict or Verdict()
    return {
        "transactions": outcome.transactions,
        "with_transfers": outcome.with_transfers,
        "lost": outcome.lost,
        "late": outcome.late,
        "budget_seconds": outcome.budget_seconds,
        "longest_seconds": outcome.latencies.longest,
        "quantiles_seconds": {
            str(share): outcome.latencies.quantile(share) for share in (0.5, 0.9, 0.99, 0.999)
        },
        "checked": verdict.checked,
        "scored": verdict.scored,
        "wrong": verdict.wrong,
        "examples": verdict.examples,
        "kinds": dict(verdict.kinds),
        "cpu_seconds_per_transaction": outcome.cpu_seconds,
        "growth_mb": outcome.growth_mb,
        "moments": [asdict(moment) for moment in outcome.moments],
        "failures": outcome.failures(),
    }
