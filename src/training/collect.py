"""Collect a training set from a node: `npm run collect -- --blocks FILE --out DIR`.

The output has the layout that `npm run train` reads. Blocks need not be consecutive: a training set
is a list of block numbers, and anyone with a node that has them gets the same set.
"""

import argparse
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
The node is JSON_RPC_URL. If ETHERSCAN_API_KEY or ETHERSCAN_URL is set, the column
sender_age_minutes contains the sender's age (training does not use it).

examples:
  npm run collect -- --blocks docs/model/training_manifest.csv
  npm run collect -- --from-block 18000000 --to-block 18000099 --out data/august

exit codes: 0 collected, 1 failed, 2 wrong usage.
"""


@cli.command("collect", resumes=True)
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parse(arguments)
    from src.training.blocks import run  # noqa: PLC0415  --help needs none of it

    return run(options)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("collect", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("--blocks", type=cli.path, metavar="FILE", help="CSV with block_number (and block_hash)")
    add("--from-block", type=cli.natural, metavar="A", help="first block, included")
    add("--to-block", type=cli.natural, metavar="B", help="last block, included")
    add(
        "--out",
        type=cli.output_folder,
        default=str(COLLECTED),
        metavar="DIR",
        help="output folder (data/training, the default of training)",
    )
    add("--url", default=os.environ.get("JSON_RPC_URL"), help="the node (default: $JSON_RPC_URL)")
    add(
        "--workers",
        type=cli.positive,
        default=4,
        metavar="N",
        help="blocks fetched in parallel (4)",
    )
    add(
        "--patience",
        type=cli.positive_number,
        default=120.0,
        metavar="S",
        help="seconds to retry a failing node (120)",
    )
    options = parser.parse_args(arguments)
    is_range = options.from_block is not None and options.to_block is not None
    if is_range == bool(options.blocks):
        parser.error("pass either --blocks FILE, or --from-block A and --to-block B")
    if is_range and options.from_block > options.to_block:
        parser.error("--from-block is after --to-block")
    return options


if __name__ == "__main__":
    sys.exit(main())
