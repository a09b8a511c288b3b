"""Has traffic moved away from what the model knows? `npm run drift -- --reference R ...`."""

import argparse
import sys

from src import cli
from src.monitoring.drift.levels import Levels

_DESCRIPTION = """\
Compare two samples of traffic: the score and every input of the model, transfers a transaction, the
scale of values, the mix of tokens and the anomaly rate.
"""

_EPILOG = """\
A sample is a folder (a data set or a recording) or what --save-reference wrote.

examples:
  npm run drift -- --reference data/training --save-reference reference.json
  npm run drift -- --reference reference.json --current data/last-week --html drift.html

exit codes: 0 ok, 1 failed, or too few transactions to say anything, 2 wrong usage, 3 watch,
4 retrain.
"""


@cli.command("drift")
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parse(arguments)
    from src.monitoring.drift.report import run  # noqa: PLC0415  --help needs none of it

    return run(options)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("drift", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add(
        "--reference",
        type=cli.path,
        required=True,
        metavar="R",
        help="what the model was trained on",
    )
    add("--current", type=cli.path, metavar="C", help="the traffic of today")
    add(
        "--model", type=cli.path, metavar="FILE", help="the model ($MODEL_PATH, else the project's)"
    )
    add(
        "--save-reference",
        type=cli.output_file,
        metavar="FILE",
        help="write R as a small file for later",
    )
    add("--html", type=cli.output_file, metavar="FILE", help="write the report")
    add("--json", type=cli.output_file, metavar="FILE", help="write the outcome for machines")
    add("--least", type=cli.whole(2), default=Levels().least, metavar="N",
        help="transactions that a sample must have (%(default)s)")  # fmt: skip
    options = parser.parse_args(arguments)
    if options.current is None and options.save_reference is None:
        parser.error("--current or --save-reference is needed")
    return options


if __name__ == "__main__":
    sys.exit(main())
