"""Retrain the model: `npm run retrain`. Collects, trains, compares, and promotes or refuses."""

import argparse
import os
import sys
from dataclasses import fields

from src import cli
from src.datasets import location
from src.registry.bundle import KINDS
from src.training.hyperparameters import Hyperparameters

_DESCRIPTION = """\
Train a challenger on old and new data, compare it with the champion on the same data, which neither
was trained on, and promote it only if it is no worse.
"""

_EPILOG = """\
The store (STORE_URL: a folder or s3://bucket/prefix) holds the models and the data sets. The first
champion is added by hand:  npm run models -- add . --promote

examples:
  npm run retrain -- --collect 100              also collect 100 blocks of the last week
  npm run retrain -- --data data/august --feedback feedback.csv
  npm run retrain -- --dry-run                  compare only
  npm run retrain -- --kind attack              the attack model alone, for the champion's forest
  npm run retrain -- --kind fraud --data creditcard.csv --label Class
  npm run retrain -- --kind fraud --feedback "$DATABASE_URL"
  npm run models -- rollback                    undo a promotion

exit codes: 0 promoted (or would be), 1 failed, nothing promoted, 2 wrong usage, 3 refused: the
report says why.
"""


def _parameter(text: str) -> tuple[str, int | float]:
    name, _, value = text.partition("=")
    known = {field.name: field.default for field in fields(Hyperparameters)}
    if name not in known or not isinstance(known[name], int | float):
        numeric = [key for key, default in known.items() if isinstance(default, int | float)]
        raise argparse.ArgumentTypeError(f"NAME=VALUE, NAME one of {', '.join(numeric)}")
    return name, (cli.natural if isinstance(known[name], int) else cli.number(0))(value)


@cli.options("retrain", _DESCRIPTION, _EPILOG, run="src.training.retraining.run")
def main(parser: cli.Parser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add("--store", metavar="URL", default=os.environ.get("STORE_URL", "").strip(),
        help="a folder or s3://bucket/prefix ($STORE_URL)")  # fmt: skip
    add(
        "--kind",
        choices=list(KINDS),
        default="forest",
        help="forest: the isolation forest and its attack model; attack: the latter alone; "
        "fraud: the fraud model (forest)",
    )
    add("--data", action="append", default=[], metavar="DATA",
        help="add this data set, a path or URL, to the store; may be repeated")  # fmt: skip
    location.add_columns(parser)
    add("--keep-classifier", action="store_true",
        help="fraud: train the champion's classifier only, not all four")  # fmt: skip
    add("--trees", type=cli.whole(1), metavar="N",
        help="fraud: trees of the random forest (200)")  # fmt: skip
    add("--folds", type=cli.whole(2), metavar="N",
        help="fraud: folds of the cross-validation (5)")  # fmt: skip
    add(
        "--collect",
        type=cli.natural,
        default=0,
        metavar="N",
        help="collect N blocks of the last week ($JSON_RPC_URL)",
    )
    add("--feedback", action="append", default=[], metavar="SOURCE",
        help="verdicts: the service's database, or CSV or JSON with tx_hash, is_true_positive; "
        "may be repeated")  # fmt: skip
    add("--parameter", type=_parameter, action="append", default=[], metavar="NAME=VALUE",
        help="override a hyperparameter of the forest; may be repeated")  # fmt: skip
    add(
        "--report",
        type=cli.output_folder,
        metavar="DIR",
        help="write the report as HTML, Markdown and JSON",
    )
    parser.common("--created-at", "--jobs")
    add("--dry-run", action="store_true", help="compare only; store and promote nothing")
    parser.require(
        "a labelled table, --kind fraud and --label COLUMN belong together",
        lambda o: (o.kind == "fraud") is (o.label is not None) or not o.data,
    )
    parser.require(
        "--keep-classifier, --trees and --folds need --kind fraud",
        lambda o: o.kind == "fraud" or not (o.keep_classifier or o.trees or o.folds),
    )
    parser.require(
        "--collect is not for --kind fraud", lambda o: o.kind != "fraud" or not o.collect
    )
    parser.require(
        "--parameter, of the isolation forest, is not for --kind fraud and --kind attack",
        lambda o: o.kind == "forest" or not o.parameter,
    )
    parser.require("no store: set STORE_URL to a folder or s3://bucket/prefix", lambda o: o.store)


if __name__ == "__main__":
    sys.exit(main())
