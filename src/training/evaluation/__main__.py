"""Evaluate the model: `npm run evaluate`. Markdown, HTML, JSON and pictures in a folder."""

import argparse
import sys

from src import cli
from src.datasets.location import NO_DATA, default_folder

_DESCRIPTION = """\
Evaluate on known exploits against ordinary transactions: AUC, average precision and recall with
intervals, by number of transfers, against baselines in the same run; benign hard cases; artefacts.
Writes evaluation.md, evaluation.html, evaluation.json and pictures. About a minute.
"""

_EPILOG = """\
The figures are of the model's parameters, cross-fitted: a transaction is scored by a forest that
has not seen its block. DIR needs the exploits besides the transactions; sections whose data are not
there are left out.

examples:
  npm run evaluate -- --data DIR
  npm run evaluate -- --data DIR --out evaluation/august --repetitions 200

exit codes: 0 evaluated, 1 the data cannot be used, 2 wrong usage.
"""


@cli.command("evaluate")
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parse(arguments)
    from src.training.evaluation.run import run  # noqa: PLC0415  --help needs none of it

    return run(options)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("evaluate", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("--data", type=cli.path, metavar="DIR", default=default_folder(), help="the data set")
    add(
        "--out",
        type=cli.output_folder,
        metavar="DIR",
        default="evaluation",
        help="(evaluation)",
    )
    add(
        "--repetitions",
        type=cli.positive,
        metavar="N",
        default=1000,
        help="of each bootstrap (1000)",
    )
    add(
        "--model-card",
        action="store_true",
        help="also write the card and the figures in docs/model",
    )
    options = parser.parse_args(arguments)
    if options.data is None:
        parser.error(NO_DATA)
    return options


if __name__ == "__main__":
    sys.exit(main())
