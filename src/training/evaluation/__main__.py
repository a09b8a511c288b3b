"""Evaluate the model: `npm run evaluate`. Markdown, HTML, JSON and pictures in a folder."""

import sys

from src import cli
from src.datasets import location

_DESCRIPTION = """\
Evaluate both models. On attacks that they were not fitted on: AUC and recall with intervals by
cluster, by number of transfers and class of attack, the alert budget on three backgrounds, what the
attack score adds, and rewritten attacks. Then the isolation forest alone on the exploits that its
features were formed on, against baselines in the same run; benign hard cases; artefacts. Writes
evaluation.md, evaluation.html, evaluation.json and pictures. A few minutes.
"""

_EPILOG = """\
The figures are of the model's parameters, cross-fitted: a transaction is scored by a forest that
has not seen its block. DIR needs the exploits besides the transactions; sections whose data are not
there are left out.

A folder of rewritten attacks has <evasion>.transactions.csv.gz and <evasion>.transfers.csv.gz for
each evasion, with a column `evades` (the hash of the attack that was rewritten), and `identity` for
the attacks as they were sent; costs.csv (evasion, extra_gas_median) states what they cost.

examples:
  npm run evaluate -- --data DIR
  npm run evaluate -- --data DIR --out evaluation/august --repetitions 200
  npm run evaluate -- --robustness evasions/replays --token-facts token_facts.csv

exit codes: 0 evaluated, 1 the data cannot be used, 2 wrong usage.
"""


@cli.options("evaluate", _DESCRIPTION, _EPILOG, run="src.training.evaluation.run")
def main(parser: cli.Parser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    location.add_data(parser)
    parser.common("--out", default="evaluation", help="(evaluation)")
    add(
        "--repetitions",
        type=cli.positive,
        metavar="N",
        default=1000,
        help="of each bootstrap (1000)",
    )
    location.add_unseen(parser)
    add(
        "--token-facts",
        type=cli.path,
        metavar="FILE",
        help="CSV (address,known): known is 0 for a token without a reputation",
    )
    add(
        "--model-card",
        action="store_true",
        help="also write the card and the figures in docs/model",
    )


if __name__ == "__main__":
    sys.exit(main())
