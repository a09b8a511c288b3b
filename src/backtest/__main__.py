"""What the bot would have said: `npm run backtest -- --data D --out OUT`."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tqdm import tqdm

from src import cli
from src.backtest.errors import BacktestError
from src.backtest.executors.memory import keep_freed_memory
from src.backtest.output.compare import MINUTES_PER_ALERT, as_html, as_text, compare
from src.backtest.output.output import REPORT, Output
from src.backtest.reading.plan import DEFAULT_SLICE_ROWS
from src.backtest.run import LAST_BLOCK, Options, Plan, backtest
from src.chain.recording import __main__ as record
from src.chain.recording.fetch import DEFAULT_PATIENCE
from src.settings import load_settings

_DESCRIPTION = """\
Say what the bot would have said of a history: decode, build features, score and decide every
transaction with ERC-20 transfers, with the code of the live bot. Run the same command again after
an interruption: what is done stays, and the result is the same.
"""
_EPILOG = """\
DATA is a folder with one of
  a recording         npm run record
  a data set          transactions.parquet, transfers.parquet
  ethereum-etl        transactions and token_transfers, as parquet
  cryo                transactions and erc20_transfers or logs (and blocks where transactions lack
                      the timestamp)
told apart by their columns, in any number of files. Without --data the range is recorded from the
node ($JSON_RPC_URL) first, into OUT.recording, and stays there for further runs.

OUT gets decisions/ and alerts/ (parquet, by day), summary.json and report.html.

examples:
  npm run backtest -- --data recordings/august --out runs/august
  npm run backtest -- --from-block 18000000 --to-block 18000999 --out runs/thousand
  npm run backtest -- --data recordings/august --threshold 0.6 --out runs/lower \\
    --compare-with runs/august
  npm run backtest -- --data /mnt/chain --out /mnt/run --engine spark --master spark://head:7077

exit codes: 0 done, 1 failed (what is done stays, the same command resumes), 2 wrong usage,
130 interrupted.
"""


@cli.command("backtest", resumes=True)
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.data is None and (options.from_block is None or options.to_block is None):
        parser.error("name --data, or --from-block and --to-block to take from the node")
    first, last = options.from_block or 0, options.to_block
    if last is not None and first > last:
        parser.error("--from-block is after --to-block")
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    keep_freed_memory()
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    settings = load_settings()
    if options.compare_with is not None:
        Output(options.compare_with).summary()  # what cannot be compared with is told at once
    data = options.data
    if data is None:
        data = options.out.with_name(f"{options.out.name}.recording")
        code = _record(options, data)
        if code:
            return code
    threshold = options.threshold
    asked = Options(
        data=data,
        out=options.out,
        model=options.model or settings.model_path,
        policy=options.policy or settings.policy_path,
        threshold=settings.anomaly_threshold if threshold is None else threshold,
        chain_id=settings.chain_id if options.chain is None else options.chain,
        exploits=options.exploits,
        first=options.from_block or 0,
        last=LAST_BLOCK if options.to_block is None else options.to_block,
        features=options.features,
        slice_rows=options.slice_rows,
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
        raise BacktestError(f"no node: set {record.URL_VARIABLE}, or give --url or --data")
    return record.main(arguments)


class _Bar(tqdm):  # type: ignore[type-arg]  # a class of strings alone at run time
    """A bar without a thread that watches over it: workers are forked from this process."""

    monitor_interval = 0


class _Progress:
    """A bar over transfers, with the time left."""

    def __init__(self) -> None:
        self._bar: _Bar | None = None

    def started(self, plan: Plan) -> Callable[[dict[str, Any]], None]:
        """Show the bar; returns what is to be called with each journal entry."""
        total = sum(part.n_transfers for part in plan.slices)
        pending = {part.name: part.n_transfers for part in plan.pending}
        bar = self._bar = _Bar(
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
            f"  {summary['transfers_without_transaction']:,} transfers are left out: their "
            "transactions are not in the data\n"
        )
    if summary["without_sender"]:
        unknown += (
            f"  {summary['without_sender']:,} transactions are not scored: the data does not tell "
            "who sent them\n"
        )
    sys.stdout.write(
        f"{summary['transactions']:,} transactions with {summary['transfers']:,} ERC-20 transfers: "
        f"{summary['anomalies']:,} anomalies, {alerts:,} alerts ({summary['block']:,} to block)"
        f"{known}\n{unknown}  {out / REPORT}\n"
    )


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("backtest", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("--data", type=cli.path, metavar="DATA", help="the history; see below")
    add(
        "--out", type=cli.output_folder, required=True, metavar="OUT", help="the folder of this run"
    )
    add("--from-block", type=cli.natural, metavar="A", help="first block, included")
    add("--to-block", type=cli.natural, metavar="B", help="last block, included")
    add("--url", metavar="URL", help=f"the node ({record.URL_VARIABLE})")
    add(
        "--patience",
        type=cli.positive_number,
        default=DEFAULT_PATIENCE,
        metavar="S",
        help=f"seconds to keep asking a node that fails ({DEFAULT_PATIENCE:g})",
    )
    asked = parser.add_argument_group("what if")
    add = asked.add_argument
    add(
        "--model", type=cli.path, metavar="M", help="a model file ($MODEL_PATH, else the project's)"
    )
    add("--policy", type=cli.path, metavar="P", help="a policy ($POLICY_PATH, else policy.yaml)")
    add(
        "--threshold",
        type=cli.share,
        metavar="T",
        help="score from which a transaction is an anomaly ($ANOMALY_THRESHOLD, else the model's)",
    )
    add("--compare-with", type=cli.path, metavar="RUN", help="say what changed against another run")
    add(
        "--minutes-per-alert",
        type=cli.positive_number,
        default=MINUTES_PER_ALERT,
        metavar="N",
        help=f"a person's time for one alert, for the cost ({MINUTES_PER_ALERT:g})",
    )
    add = parser.add_argument_group("details").add_argument
    add("--chain", type=cli.natural, metavar="ID", help="chain id ($FORTA_CHAIN_ID, else 1)")
    add(
        "--exploits",
        type=cli.path,
        metavar="FILE",
        help="known exploits: .csv, .csv.gz or .parquet with tx_hash and maybe their "
        "transfers, see docs/backtest.md (the data set's own)",
    )
    add("--features", action="store_true", help="write the model's inputs beside each decision")
    add("--engine", choices=("local", "spark"), default="local", help="where to run (local)")
    add("--master", metavar="URL", help="Spark's master, such as spark://host:7077 or local[2]")
    add(
        "--workers",
        type=cli.positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes of the local engine (one a core)",
    )
    add(
        "--slice-rows",
        type=cli.positive,
        default=DEFAULT_SLICE_ROWS,
        metavar="N",
        help="rows of transactions and transfers worked on at once by a worker; less takes less "
        f"memory, more is faster ({DEFAULT_SLICE_ROWS:,})",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
