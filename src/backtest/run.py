"""A backtest as a command: its data, its progress and its summary."""

import argparse
import json
import logging
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from src.backtest.backtest import backtest
from src.backtest.job import Job
from src.backtest.output.compare import as_html, as_text, compare
from src.backtest.output.exploits import known_exploits
from src.backtest.output.output import REPORT, Output
from src.backtest.spark import run_on_spark
from src.backtest.workers import keep_freed_memory, run_locally
from src.chain.names.book import open_address_book
from src.chain.recording.format import is_recording
from src.cli import WRONG_USAGE, CommandError
from src.datasets.store import is_store, open_store
from src.datasets.training_set import chain_id_of
from src.decision.policy_file import read_policy
from src.detection.forest.manifest import read_manifest
from src.detection.policy import parse_policy
from src.history import record
from src.history.importing import ImportOptions, is_current
from src.history.run import LAST_BLOCK, engine, imported, progress, said, unseen
from src.settings import load_settings, model_public_key, on_chain


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    keep_freed_memory()
    settings = load_settings()
    if options.chain is not None:
        settings = replace(settings, chain_id=options.chain, is_chain_set=True)
    if options.compare_with is not None:
        Output(options.compare_with).summary()  # fail early if the runs cannot be compared
    data = options.data
    if data is None:
        data = options.out.with_name(f"{options.out.name}.recording")
        code = _record(options, data)
        if code:
            return code
    # Before the long work: what can be wrong with the model and other files.
    public_key = model_public_key()
    model, policy = options.model or settings.model_path, options.policy or settings.policy_path
    manifest = read_manifest(model, public_key)
    text = read_policy(policy, public_key)
    parse_policy(text, str(policy))
    if options.exploits is not None:
        known_exploits(options.exploits, options.exploits.parent)
    open_address_book(settings.chain_id, settings.address_book).close()
    attack_model = None if options.model else settings.attack_model_path
    thresholds = (options.threshold, settings.anomaly_threshold, manifest.anomaly_threshold)
    with engine(options, "backtest") as session:
        store = _stored(data, options, session).resolve()
        if (recorded := chain_id_of(store)) is not None:
            name = "FORTA_CHAIN_ID" if options.chain is None else "--chain"
            told = open_store(store).facts.get("chain") or store
            settings = on_chain(settings, recorded, str(told), name=name)
        exploits = known_exploits(options.exploits, store)
        job = Job(
            store=store,
            out=options.out.resolve(),
            model_path=model.resolve(),
            attack_model_path=attack_model and attack_model.resolve(),
            policy_text=text,
            policy_name=policy.name,
            chain_id=settings.chain_id,
            threshold=next(threshold for threshold in thresholds if threshold is not None),
            address_book=settings.address_book and settings.address_book.resolve(),
            first=options.from_block or 0,
            last=LAST_BLOCK if options.to_block is None else options.to_block,
            with_features=options.features,
            public_key=public_key,
        )
        if session is None:
            with progress("backtest") as start:
                locally = partial(run_locally, workers=options.workers)
                summary = backtest(job, exploits, locally, start)
        else:
            summary = backtest(job, exploits, partial(run_on_spark, session=session), unseen)
    _summarise(options.out, summary)
    if options.compare_with is not None:
        changed = compare(
            options.compare_with, options.out, minutes_per_alert=options.minutes_per_alert
        )
        output = Output(options.out)
        output.write_text("comparison.json", json.dumps(changed, indent=1) + "\n")
        output.write_text("comparison.html", as_html(changed))
        sys.stdout.write(f"{as_text(changed)}  {options.out / 'comparison.html'}\n")
    return 0


def _record(options: argparse.Namespace, folder: Path) -> int:
    """Record the range with `npm run record`'s own command; returns its exit code."""
    arguments = ["--from-block", str(options.from_block), "--to-block", str(options.to_block)]
    arguments += ["--out", str(folder), "--patience", str(options.patience)]
    if options.url:
        arguments += ["--url", options.url]
    elif not os.environ.get(record.URL_VARIABLE):
        problem = f"no node: set {record.URL_VARIABLE}, or pass --url or --data"
        raise CommandError(problem, exit_code=WRONG_USAGE)
    return record.main(arguments)


def _stored(data: str | Path, options: argparse.Namespace, session: Any) -> Path:
    """The store of the data; where it is none, it is imported next to the output.

    A recording's own store is used if it is of all its blocks. Nothing is written into the folder
    of the data, which may be read-only.
    """
    given = Path(data)
    asked = ImportOptions(columns=options.columns, slice_transfers=options.slice_transfers)
    if is_current(given, asked) if is_recording(given) else is_store(given):
        return given
    folder: Path = options.out.with_name(f"{options.out.name}.store")
    is_new = not is_store(folder)
    store = imported(str(data), folder, options, session)
    if is_new:
        kept = f"  it is kept: further runs are faster with --data {folder}\n"
        sys.stdout.write(said(store) + kept)
    return folder


def _summarise(out: Path, summary: dict[str, Any]) -> None:
    alerts = summary["review"] + summary["block"]
    exploits = summary["exploits"]
    known = (
        f", {exploits['caught']:,} of {exploits['judged']:,} known exploits caught"
        if exploits["judged"]
        else ""
    )
    unknown = ""
    if summary["transfers_without_transaction"]:
        unknown += (
            f"  {summary['transfers_without_transaction']:,} transfers are ignored: their "
            "transactions are not in the data\n"
        )
    if summary["without_sender"]:
        unknown += (
            f"  {summary['without_sender']:,} transactions are not scored: their senders are not "
            "in the data\n"
        )
    sys.stdout.write(
        f"{summary['transactions']:,} transactions with {summary['transfers']:,} ERC-20 transfers: "
        f"{summary['anomalies']:,} anomalies, {alerts:,} alerts ({summary['block']:,} to block)"
        f"{known}\n{unknown}  {out / REPORT}\n"
    )
