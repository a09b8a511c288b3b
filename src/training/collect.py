"""Collect a training set from a node: `npm run collect -- --blocks FILE --out DIR`.

The output has the layout that `npm run train` reads. Blocks need not be consecutive: a training set
is a list of block numbers, and anyone with a node that has them gets the same set.
"""

import os
import sys

from src import cli
from src.datasets.location import COLLECTED

_DESCRIPTION = """\
Fetch blocks from an Ethereum node and write them as the tables that training reads: transactions
and token transfers. Every block's receipts are checked against the root in its header. Run the same
command again to resume.
"""

_EPILOG = """\
The node is JSON_RPC_URL.

examples:
  npm run collect -- --blocks docs/model/training_manifest.csv
  npm run collect -- --from-block 18000000 --to-block 18000099 --out data/august

exit codes: 0 collected, 1 failed, 2 wrong usage.
"""


@cli.options("collect", _DESCRIPTION, _EPILOG, run="src.training.blocks", resumes=True)
def main(parser: cli.Parser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add("--blocks", type=cli.path, metavar="FILE", help="CSV with block_number (and block_hash)")
    parser.common("--from-block", "--to-block", "--patience")
    parser.common("--out", default=str(COLLECTED), help="(data/training, the default of training)")
    add("--url", default=os.environ.get("JSON_RPC_URL"), help="the node (default: $JSON_RPC_URL)")
    add(
        "--workers",
        type=cli.positive,
        default=4,
        metavar="N",
        help="blocks fetched in parallel (4)",
    )
    parser.require(
        "pass either --blocks FILE, or --from-block A and --to-block B",
        lambda o: (o.from_block is None or o.to_block is None) == bool(o.blocks),
    )
    parser.require(
        "--from-block is after --to-block", lambda o: o.blocks or o.from_block <= o.to_block
    )


if __name__ == "__main__":
    sys.exit(main())
