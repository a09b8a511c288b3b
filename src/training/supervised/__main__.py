"""Train a supervised model from a labelled table: `npm run train:fraud`.

The same rows give the same bytes, in any order.
"""

import sys

from src import cli
from src.datasets import location
from src.settings import PROJECT_ROOT

DEFAULT_OUT = PROJECT_ROOT / "fraud_model"

_DESCRIPTION = """\
Train a supervised model on a labelled CSV (also .gz) or parquet file: compare four classifiers by
cross-validation, search the best one's parameters, choose a threshold, evaluate it on held-out
rows, and write model, manifest, report and plots. The same rows give the same bytes.
"""

_EPILOG = """\
examples:
  npm run train:fraud -- --data creditcard.csv --label Class
  npm run train:fraud -- --data accounts.csv.gz --label FLAG --ignore Index Address

To create a table of labelled token transfers: npm run train:fraud:dataset -- --help

exit codes: 0 trained, 1 the data is unusable, 2 wrong usage.
"""


@cli.options("train:fraud", _DESCRIPTION, _EPILOG, run="src.training.supervised.run")
def main(parser: cli.Parser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add("--data", type=cli.data_file, metavar="FILE", required=True, help="the labelled table")
    location.add_columns(parser, required=True)
    parser.common("--out", default=str(DEFAULT_OUT), help="(fraud_model)")
    parser.common("--created-at", "--jobs")
    add(
        "--min-precision",
        type=cli.number(0, 1, above=True),
        metavar="P",
        help="choose the threshold with the best recall at this precision (default: the best F1)",
    )
    add(
        "--folds",
        type=cli.whole(2),
        metavar="N",
        default=5,
        help="folds of the cross-validation (5)",
    )
    add(
        "--trees",
        type=cli.whole(1),
        metavar="N",
        default=200,
        help="trees of the random forest (200)",
    )
    add("--seed", type=cli.whole(0), metavar="N", default=0, help="seed of all random draws (0)")


if __name__ == "__main__":
    sys.exit(main())
