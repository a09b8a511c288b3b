"""A backtest from its options to its report, for every engine."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.backtest.errors import BacktestError
from src.backtest.executors.job import Job
from src.backtest.executors.local import run_locally
from src.backtest.executors.spark import run_on_spark
from src.backtest.output.exploits import KnownExploits, known_exploits
from src.backtest.output.output import REPORT, SUMMARY, Output
from src.backtest.output.report import report
from src.backtest.output.summary import summarise
from src.backtest.reading.layouts import Export, detect
from src.backtest.reading.plan import (
    Slice,
    common_breaks,
    cut_blocks,
    identity,
    index_blocks,
    whole_table,
)
from src.backtest.reading.shuffle import remove_copy, shuffled
from src.decision.policy_file import read_policy
from src.detection.bundle_files import ATTACK_MODEL_FILE, manifest_path
from src.detection.forest.manifest import read_manifest
from src.detection.policy import parse_policy
from src.settings import model_public_key

LAST_BLOCK = 2**62
TIMING = "timing.json"


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a backtest.

    Attributes:
        data: the folder with the historical data.
        out: the folder of the run.
        model, policy: files.
        attack_model: a file; None for the one beside the model, where there is one.
        threshold: None for the model's own.
        chain_id: the chain.
        exploits: a list of known exploits, or None for that in the data folder.
        first, last: blocks outside are ignored.
        features: whether to write the inputs with each decision.
        slice_rows: rows of transactions and transfers in a slice.
        engine: "local" or "spark".
        workers: processes of the local engine.
        spark_master: address of the cluster; None for Spark's own configuration.
    """

    data: Path
    out: Path
    model: Path
    policy: Path
    attack_model: Path | None
    threshold: float | None
    chain_id: int
    exploits: Path | None
    first: int
    last: int
    features: bool
    slice_rows: int
    engine: str
    workers: int
    spark_master: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """The work of a run.

    Attributes:
        job: processes each slice.
        slices: all slices, in order.
        pending: unfinished slices.
    """

    job: Job
    slices: list[Slice]
    pending: list[Slice]


Started = Callable[[Plan], Callable[[dict[str, Any]], None]]


def backtest(options: Options, started: Started) -> dict[str, Any]:
    """Run or resume a backtest; returns its summary.

    Args:
        options: of the run.
        started: called with the plan; returns a callback for journal entries.

    Raises:
        BacktestError: the data, the options or the folder is unusable.
        OSError: the disk failed.
        RuntimeError: the model is unusable, a worker was killed, or the cluster failed.
    """
    begun = time.perf_counter()
    public_key = model_public_key()
    manifest = read_manifest(options.model, public_key)
    text = read_policy(options.policy, public_key)
    parse_policy(text, str(options.policy))
    exploits = known_exploits(options.exploits, options.data)
    export = detect(options.data.resolve())
    job = Job(
        export=export,
        tokens_folder=options.data.resolve(),
        out=options.out.resolve(),
        model_path=options.model.resolve(),
        policy_text=text,
        policy_name=options.policy.name,
        chain_id=options.chain_id,
        threshold=manifest.anomaly_threshold if options.threshold is None else options.threshold,
        exploits=exploits.hashes,
        attack_model_path=options.attack_model and options.attack_model.resolve(),
        with_features=options.features,
        public_key=public_key,
    )
    asked = {
        "data": identity(export),
        "layout": export.layout,
        "first_block": options.first,
        "last_block": options.last,
        "chain_id": options.chain_id,
        "slice_rows": options.slice_rows,
        "model": manifest.sha256,
        "model_version": manifest.model_version,
        "attack_model": _attack_model_digest(options),
        "policy": hashlib.sha256(text.encode()).hexdigest(),
        "policy_name": options.policy.name,
        "threshold": job.threshold,
        "exploits": exploits.digest(),
        "features": options.features,
    }
    output = Output(options.out)
    with output.opened(asked):
        listed = _listed(job, exploits)  # first, to report a corrupt list before the long work
        job, slices = _sliced(job, options)
        done = output.entries()
        names = {part.name for part in slices}
        for name in done.keys() - names:
            raise BacktestError(f"{options.out}: contains a slice {name} that is not in this data")
        plan = Plan(job, slices, [part for part in slices if part.name not in done])
        report_progress = started(plan)
        if plan.pending and options.engine == "spark":
            run_on_spark(job, plan.pending, options.spark_master, report_progress)
        elif plan.pending:
            run_locally(job, plan.pending, options.workers, report_progress)
        summary = summarise(asked, output.entries().values(), exploits.hashes, listed)
        output.write_text(SUMMARY, json.dumps(summary, indent=1, sort_keys=True) + "\n")
        output.write_text(REPORT, report(summary))
        seconds = round(time.perf_counter() - begun, 3)
        timing = {"seconds": seconds, "slices": len(plan.pending), "engine": options.engine}
        output.write_text(TIMING, json.dumps(timing) + "\n")
        remove_copy(options.out)
    return summary


def _attack_model_digest(options: Options) -> str | None:
    """What tells the attack model from others; None where there is none."""
    path = options.attack_model or options.model.with_name(ATTACK_MODEL_FILE)
    try:
        return hashlib.sha256(manifest_path(path).read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def _listed(job: Job, exploits: KnownExploits) -> list[dict[str, Any]]:
    """The decisions on exploits that are listed with transfers."""
    if exploits.tables is None:
        return []
    try:
        return job.judge(exploits.tables)
    except BacktestError as error:
        raise BacktestError(f"{exploits.source}: {error}") from error


def _sliced(job: Job, options: Options) -> tuple[Job, list[Slice]]:
    """The slices, and the job for the data that they refer to."""
    export, first, last = job.export, options.first, options.last
    transactions = index_blocks(export.transactions)
    whole = first == 0 and last == LAST_BLOCK
    transfers = blocks = None
    if "block_number" in export.transfers.columns:
        transfers = index_blocks(export.transfers)
        blocks = None if export.blocks is None else index_blocks(export.blocks)
    tables = [transactions, transfers, *([blocks] if blocks else [])]
    if all(table is not None and table.ordered for table in tables):
        assert transfers is not None  # noqa: S101  just tested
        counts = [transactions.counts(), transfers.counts()]
        breaks = common_breaks([transactions, transfers])
        ranges = cut_blocks(counts, options.slice_rows, first, last, breaks)
        slices = []
        for index, (start, end) in enumerate(ranges):
            moved = transfers.spans(start, end)
            slices.append(
                Slice(
                    index,
                    start,
                    end,
                    sum(span.stop - span.start for span in moved),
                    transactions.spans(start, end),
                    moved,
                    blocks.spans(start, end) if blocks else (),
                )
            )
        return job, slices
    moved = whole_table(export.transfers)
    rows = sum(span.stop for span in moved)
    if whole and rows + transactions.rows <= options.slice_rows:
        numbers, _ = transactions.counts()
        if not len(numbers):
            return job, []
        one = Slice(
            0, int(numbers[0]), int(numbers[-1]), rows,
            whole_table(export.transactions), moved, _all(export),
        )  # fmt: skip
        return job, [one]
    export, slices = shuffled(export, options.out.resolve(), options.slice_rows, first, last)
    return job.on(export), slices


def _all(export: Export) -> Any:
    return () if export.blocks is None else whole_table(export.blocks)
