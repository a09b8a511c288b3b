"""A backtest from its job to its report, for every engine."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from src.backtest.job import Job
from src.backtest.output.exploits import KnownExploits
from src.backtest.output.output import REPORT, SUMMARY, Output
from src.backtest.output.report import report
from src.backtest.output.summary import summarise
from src.cli import CommandError
from src.datasets.store import SCHEMA, StoredSlice, open_store
from src.detection.bundle_files import ATTACK_MODEL_FILE, manifest_path
from src.detection.forest.manifest import read_manifest

Done = Callable[[int], object]
Run = Callable[[Job, Sequence[StoredSlice], Done], None]


def backtest(
    job: Job, exploits: KnownExploits, run: Run, started: Callable[[int, int], Done]
) -> dict[str, Any]:
    """Run or resume a backtest; returns its summary.

    Args:
        job: what to do.
        exploits: the known ones.
        run: processes slices.
        started: called with the number of transfers and of those that are already done; returns
            what is called with the number of more that are done.

    Raises:
        CommandError, TableError: the data or the folder is unusable.
        OSError: the disk failed.
        RuntimeError: the model is unusable, a worker was killed, or the cluster failed.
    """
    store = open_store(job.store)
    manifest = read_manifest(job.model_path, job.public_key)
    asked = {
        "data": store.identity,
        "layout": store.layout,
        "first_block": job.first,
        "last_block": job.last,
        "chain_id": job.chain_id,
        "model": manifest.sha256,
        "model_version": manifest.model_version,
        "attack_model": _attack_model_digest(job),
        "policy": hashlib.sha256(job.policy_text.encode()).hexdigest(),
        "policy_name": job.policy_name,
        "threshold": job.threshold,
        "exploits": exploits.digest(),
        "address_book": job.address_book and _digest(job.address_book),
        "features": job.with_features,
    }
    output = Output(job.out)
    with output.opened(asked):
        # First, to report a corrupt list before the long work.
        known = exploits.transactions
        listed = job.judge(SCHEMA.empty_table() if known is None else known)
        slices = {
            job.name(part): part
            for part in store.slices
            if part.first <= job.last and part.last >= job.first
        }
        if store.slices and (job.first > store.slices[-1].last or job.last < store.slices[0].first):
            raise CommandError(
                f"{job.store}: its transfers are of blocks {store.slices[0].first} to "
                f"{store.slices[-1].last}, none of them between --from-block and --to-block"
            )
        done = output.entries().keys()
        for name in done - slices.keys():
            raise CommandError(f"{job.out}: contains a slice {name} that is not in this data")
        pending = [part for name, part in slices.items() if name not in done]
        total = sum(part.transfers for part in slices.values())
        report_progress = started(total, total - sum(part.transfers for part in pending))
        if pending:
            run(job, pending, report_progress)
        entries = output.entries().values()
        summary = summarise(asked, job.out, entries, exploits.hashes, listed)
        output.write_text(SUMMARY, json.dumps(summary, indent=1, sort_keys=True) + "\n")
        output.write_text(REPORT, report(summary))
    return summary


def _attack_model_digest(job: Job) -> str | None:
    """What tells the attack model from others; None where there is none."""
    path: Path = job.attack_model_path or job.model_path.with_name(ATTACK_MODEL_FILE)
    try:
        return _digest(manifest_path(path))
    except FileNotFoundError:
        return None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
