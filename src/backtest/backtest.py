"""A backtest from its options to its report, for every engine."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.backtest.errors import BacktestError
from src.backtest.executors.job import Job, Slice
from src.backtest.executors.local import run_locally
from src.backtest.executors.spark import run_on_spark
from src.backtest.output.exploits import KnownExploits, known_exploits
from src.backtest.output.output import REPORT, SUMMARY, Output
from src.backtest.output.report import report
from src.backtest.output.summary import summarise
from src.decision.policy_file import read_policy
from src.detection.bundle_files import ATTACK_MODEL_FILE, manifest_path
from src.detection.forest.manifest import read_manifest
from src.detection.policy import parse_policy
from src.history.store import Store, open_store
from src.settings import model_public_key

LAST_BLOCK = 2**62
TIMING = "timing.json"


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a backtest.

    Attributes:
        data: the history store.
        out: the folder of the run.
        model, policy: files.
        attack_model: a file; None for the one beside the model, where there is one.
        threshold: None for the model's own.
        chain_id: the chain.
        exploits: a list of known exploits, or None for that in the data folder.
        first, last: blocks outside are ignored.
        features: whether to write the inputs with each decision.
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


def check(model: Path, policy: Path, exploits: Path | None) -> None:
    """Raise what `backtest` would for an unusable model, policy or list of exploits."""
    public_key = model_public_key()
    read_manifest(model, public_key)
    parse_policy(read_policy(policy, public_key), str(policy))
    if exploits is not None:
        known_exploits(exploits, exploits.parent)


def backtest(options: Options, started: Started) -> dict[str, Any]:
    """Run or resume a backtest; returns its summary.

    Args:
        options: of the run.
        started: called with the plan; returns a callback for journal entries.

    Raises:
        BacktestError, HistoryError: the data, the options or the folder is unusable.
        OSError: the disk failed.
        RuntimeError: the model is unusable, a worker was killed, or the cluster failed.
    """
    begun = time.perf_counter()
    public_key = model_public_key()
    manifest = read_manifest(options.model, public_key)
    text = read_policy(options.policy, public_key)
    parse_policy(text, str(options.policy))
    exploits = known_exploits(options.exploits, options.data)
    store = open_store(options.data.resolve())
    job = Job(
        store=store.folder,
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
        "data": store.identity,
        "layout": store.layout,
        "first_block": options.first,
        "last_block": options.last,
        "chain_id": options.chain_id,
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
        slices = _slices(store, options)
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
    return [] if exploits.transactions is None else job.judge(exploits.transactions)


def _slices(store: Store, options: Options) -> list[Slice]:
    """The slices of the store with these blocks."""
    slices: list[Slice] = []
    for part in store.slices:
        first, last = max(part.first, options.first), min(part.last, options.last)
        if first <= last:
            is_cut = (first, last) != (part.first, part.last)
            slices.append(
                Slice(
                    len(slices), first, last, is_cut, part.transfers, part.orphans,
                    store.path(part),
                )
            )  # fmt: skip
    return slices
