"""Check traffic for drift: `npm run drift -- --reference R ...`."""

import sys

from src import cli
from src.monitoring.drift.levels import Levels

_DESCRIPTION = """\
Compare two samples of traffic: the score and every model input, transfers per transaction, the
scale of values, the mix of tokens and the anomaly rate.
"""

_EPILOG = """\
A sample is a folder (a data set, a recording or a history store) or a file written by
--save-reference.

examples:
  npm run drift -- --fraud --model model.npz --reference drift_reference.json --current week.csv
  npm run drift -- --reference data/training --save-reference reference.json
  npm run drift -- --reference reference.json --current data/last-week --html drift.html

exit codes: 0 ok, 1 failed, or too few transactions, 2 wrong usage, 3 watch,
4 retrain.
"""


@cli.options("drift", _DESCRIPTION, _EPILOG, run="src.monitoring.drift.run")
def main(parser: cli.Parser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add(
        "--reference",
        type=cli.path,
        required=True,
        metavar="R",
        help="traffic of the model's training",
    )
    add("--current", type=cli.path, metavar="C", help="current traffic")
    parser.common("--model")
    add(
        "--save-reference",
        type=cli.output_file,
        metavar="FILE",
        help="save R as a small file for later use",
    )
    add(
        "--fraud",
        action="store_true",
        help="check a supervised model: C is a table of its inputs, CSV or parquet, and R the "
        "drift_reference.json beside the model",
    )
    add("--html", type=cli.output_file, metavar="FILE", help="write the report")
    add("--json", type=cli.output_file, metavar="FILE", help="write the result as JSON")
    add("--least", type=cli.whole(2), default=Levels().least, metavar="N",
        help="minimum number of transactions per sample (%(default)s)")  # fmt: skip
    parser.require(
        "--fraud needs --model, and training writes its reference",
        lambda o: not o.fraud or (o.model and not o.save_reference),
    )
    parser.require("pass --current or --save-reference", lambda o: o.current or o.save_reference)


if __name__ == "__main__":
    sys.exit(main())
