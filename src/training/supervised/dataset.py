"""Labelled token transfers as a table for `npm run train:fraud`: exploits against ordinary blocks.

One row per transaction, with the same features as in live handling, so that a model trained on it
can be the policy's supervised detector. Precautions against leakage:

- Most exploits are rebuilt from call frames, which show no mints and burns. So mints and burns are
  removed from every transaction (`--view calls`); otherwise the classifier would learn how rows
  were recorded.
- For background transactions, the token amounts behind two of the features come from *other*
  blocks: their own would make them look more ordinary than any exploit can.
- `group` is the block of a background transaction. Exploits of one protocol, and exploits with the
  same transfer graph, are one group: a split by group never tests on runs of a known attack.

The isolation forest is not trained on this table.
"""

import sys

from src import cli
from src.datasets import location
from src.settings import PROJECT_ROOT

_MODEL = PROJECT_ROOT / "isolation_forest.pkl"

_DESCRIPTION = """\
Write the features of known exploits and of ordinary transactions as a labelled table.
"""

_EPILOG = """\
example:
  npm run train:fraud:dataset -- --data DIR --out labelled.csv.gz
then:
  npm run train:fraud -- --data TABLE --label exploit --group group --ignore tx_hash derivation

exit codes: 0 written, 1 the data is unusable, 2 wrong usage.
"""


@cli.options("train:fraud:dataset", _DESCRIPTION, _EPILOG, run="src.training.supervised.labelled")
def main(parser: cli.Parser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    location.add_data(parser)
    add(
        "--out",
        type=cli.output_file,
        metavar="TABLE",
        required=True,
        help="a .parquet or .csv.gz file",
    )
    add(
        "--model",
        type=cli.model,
        metavar="FILE",
        default=_MODEL,
        help="model with the token amounts",
    )
    add(
        "--view",
        choices=("calls", "logs"),
        default="calls",
        help="calls: remove mints and burns, which most exploit records do not contain (default)",
    )
    parser.require(
        "--out must be a .parquet, .csv or .csv.gz file",
        lambda o: o.out.name.endswith((".parquet", ".csv.gz", ".csv")),
    )


if __name__ == "__main__":
    sys.exit(main())
