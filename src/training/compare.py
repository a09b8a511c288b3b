"""Champion against challenger on the same data: `npm run compare`."""

import sys

from src import cli
from src.datasets import location

_DESCRIPTION = """\
Score the same transactions with two model bundles: where they disagree and by how much, what would
change in alerts, and the exploits that one finds and the other misses. Writes compare.md and
compare.json.
"""

_EPILOG = """\
DIR is a recording or a data set; exploits are compared where it lists them. Each model is taken at
its own threshold. A model has seen its own training transactions: its scores there flatter it.

example:
  npm run compare -- --champion isolation_forest.pkl --challenger new/isolation_forest.pkl \\
    --data DIR

exit codes: 0 compared, 1 the data or a model cannot be used, 2 wrong usage.
"""


@cli.options("compare", _DESCRIPTION, _EPILOG, run="src.training.evaluation.compare")
def main(parser: cli.Parser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add("--champion", type=cli.model, metavar="FILE", required=True, help="the model in use")
    add("--challenger", type=cli.model, metavar="FILE", required=True, help="the other model")
    location.add_data(parser)
    parser.common("--out", default="evaluation", help="(evaluation)")


if __name__ == "__main__":
    sys.exit(main())
