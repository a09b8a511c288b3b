"""A backtest as a command: its data, its progress and its summary."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from src.backtest.backtest import LAST_BLOCK, Options, Plan, backtest, check
from src.backtest.errors import BacktestError
from src.backtest.executors.memory import keep_freed_memory
from src.backtest.output.compare import as_html, as_text, compare
from src.backtest.output.output import REPORT, Output
from src.chain.recording import __main__ as record
from src.history.run import Bar, imported, said
from src.history.store import is_store
from src.settings import load_settings


class _Progress:
    """A bar over transfers, with the time left."""

    def __init__(self) -> None:
        self._bar: Bar | None = None

    def started(self, plan: Plan) -> Callable[[dict[str, Any]], None]:
        """Show the bar; returns a callback for journal entries."""
        total = sum(part.n_transfers for part in plan.slices)
        pending = {part.name: part.n_transfers for part in plan.pending}
        bar = self._bar = Bar(
            total=total,
            initial=total - sum(pending.values()),
            unit=" transfers",
            unit_scale=True,
            mininterval=0.1 if sys.stderr.isatty() else 10.0,
        )

        def done(entry: dict[str, Any]) -> None:
            bar.update(pending[f"{entry['first_block']:012d}-{entry['last_block']:012d}"])

        return done

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    keep_freed_memory()
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    settings = load_settings()
    if options.compare_with is not None:
        Output(options.compare_with).summary()  # fail early if the runs cannot be compared
    data = options.data
    if data is None:
        data = options.out.with_name(f"{options.out.name}.recording")
        code = _record(options, data)
        if code:
            return code
    model = options.model or settings.model_path
    policy = options.policy or settings.policy_path
    check(model, policy, options.exploits)  # before the long work
    data = _stored(data, options)
    threshold = options.threshold
    asked = Options(
        data=data,
        out=options.out,
        model=model,
        attack_model=None if options.model else settings.attack_model_path,
        policy=policy,
        threshold=settings.anomaly_threshold if threshold is None else threshold,
        chain_id=settings.chain_id if options.chain is None else options.chain,
        exploits=options.exploits,
        first=options.from_block or 0,
        last=LAST_BLOCK if options.to_block is None else options.to_block,
        features=options.features,
        engine=options.engine,
        workers=options.workers,
        spark_master=options.master,
    )
    with closing(_Progress()) as progress:
        summary = backtest(asked, progress.started)
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
        raise BacktestError(f"no node: set {record.URL_VARIABLE}, or pass --url or --data")
    return record.main(arguments)


def _stored(data: str | Path, options: argparse.Namespace) -> Path:
    """The store of the data, which is imported next to the output where it is none."""
    if is_store(Path(data)):
        return Path(data)
    folder: Path = options.out.with_name(f"{options.out.name}.store")
    is_new = not is_store(folder)
    store = imported(str(data), folder, options)
    if is_new:
        sys.stdout.write(
            f"{said(store)}  it is kept: further runs are faster with --data {folder}\n"
        )
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
