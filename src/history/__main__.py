"""Import blocks into a history store: `npm run import -- --data SOURCE --out STORE`."""

import argparse
import os
import re
import sys
from pathlib import Path

from src import cli
from src.history.layouts import CUSTOM_NAMES

_DESCRIPTION = """\
Bring exported or recorded blocks into a history store: one form, in order, checked, which
`npm run backtest` reads. After an interruption, run the same command again.
"""

_EPILOG = """\
SOURCE is a folder, a file, a bucket (s3://...), a glob in a bucket or - for standard input, with
  a recording         npm run record
  the data set        transactions, transfers
  ethereum-etl        transactions and token_transfers or logs (and blocks where transactions lack
                      the time); the same columns have BigQuery's crypto_ethereum and AWS
  cryo                transactions and erc20_transfers or logs (and blocks for the time), also --hex
  Dune, Flipside      transactions and transfers with the columns of their tables, or transfers
                      alone where they say their transactions' senders
as parquet, CSV or JSON, also in gzip or zstd, in any number of files and folders, in any order.
Tables are told by the names of files and folders, and by their columns. --columns names those of
others: --columns transactions.tx_hash=hash,transfers.tx_hash=evt_tx_hash,amount=raw_amount
Through a pipe comes one table that holds all columns, a tar archive of files, or the JSON lines of
`ethereumetl stream`.

examples:
  npm run import -- --data exports/august --out stores/august
  npm run import -- --data s3://bucket/eth --out stores/eth --from-block 18000000 \\
    --to-block 18099999
  npm run import -- --data - --out stores/august < august.tar.gz

exit codes: 0 done, 1 failed (the same command resumes), 2 wrong usage, 130 interrupted.
"""


@cli.options("import", _DESCRIPTION, _EPILOG, run="src.history.run", resumes=True)
def main(parser: cli.Parser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add("--data", required=True, metavar="SOURCE", help="what to import; see below")
    parser.common("--out", required=True, metavar="STORE", help="the store's folder")
    parser.common("--from-block", "--to-block")
    add_import_options(parser)
    add(
        "--workers",
        type=cli.positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="threads (one per core)",
    )
    parser.require(
        "--from-block is after --to-block",
        lambda o: o.to_block is None or (o.from_block or 0) <= o.to_block,
    )
    parser.require(
        "a recording's own store holds all its blocks: change --out, or leave out the range",
        lambda o: o.from_block is o.to_block is None or Path(o.data).resolve() != o.out.resolve(),
    )


def add_import_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `npm run backtest` has as well."""
    add = parser.add_argument_group("import").add_argument
    add(
        "--columns",
        type=columns,
        metavar="OURS=THEIRS,...",
        help="names of columns of an export of another kind",
    )
    add(
        "--slice-transfers",
        type=cli.positive,
        default=500_000,
        metavar="N",
        help="transfers per slice, which is worked on at once (500,000)",
    )
    add("--memory", type=memory, default="1GB", metavar="M", help="memory of the import (1GB)")
    add = parser.add_argument_group("engine").add_argument
    add("--engine", choices=("local", "spark"), default="local", help="where to run (local)")
    add("--master", metavar="URL", help="Spark's master, such as spark://host:7077 or local[2]")
    add(
        "--archives",
        type=cli.path,
        metavar="DIR",
        help="what npm run package:spark wrote, for machines without this project",
    )


def memory(text: str) -> str:
    """The argument of `--memory`."""
    if not re.fullmatch(r"[0-9.]*[1-9][0-9.]*\s*[kmgt]i?b", text, re.IGNORECASE):
        raise argparse.ArgumentTypeError("must be a number and a unit, such as 1GB or 500MB")
    return text


def columns(text: str) -> dict[str, str]:
    """The argument of `--columns`."""
    pairs = [item.partition("=") for item in text.split(",")]
    if not all(ours.strip() and theirs.strip() for ours, _, theirs in pairs):
        raise argparse.ArgumentTypeError("must be ours=theirs,...")
    for ours, _, _ in pairs:
        if ours.strip() not in CUSTOM_NAMES:
            names = ", ".join(name for name in CUSTOM_NAMES if "." not in name)
            raise argparse.ArgumentTypeError(f"{ours!r} is none of {names}, maybe after a table.")
    named = {ours.strip(): theirs.strip() for ours, _, theirs in pairs}
    if len(named) < len(pairs):
        raise argparse.ArgumentTypeError("names a column twice")
    return named


if __name__ == "__main__":
    sys.exit(main())
