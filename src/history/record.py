"""Record blocks from a node: `npm run record -- --from-block A --to-block B --out DIR`."""

import argparse
import os
import sys

from src import cli
from src.chain.recording.fetch import DEFAULT_PATIENCE

URL_VARIABLE = "JSON_RPC_URL"

_DESCRIPTION = """\
Record blocks from an Ethereum node as parquet: transactions, receipts with all logs, and token
metadata. Every block's receipts are checked against the root in its header, so that no log can be
missing. The folder then also holds the blocks' history store, which `npm run backtest` reads. Run
the same command again to resume or to extend a recording.
"""
_EPILOG = """\
The node's URL is read from the environment variable JSON_RPC_URL unless --url is given. Old blocks
need a full node that keeps receipts, but no archive node.

examples:
  JSON_RPC_URL=http://127.0.0.1:8545 \\
    npm run record -- --from-block 18000000 --to-block 18000099 --out recordings/august
  npm run replay -- --data recordings/august
  npm run backtest -- --data recordings/august --out runs/august

exit codes: 0 recorded, 1 failed, 2 wrong usage, 130 or 143 stopped by a signal. The recording is
consistent in every case, and the same command resumes.
"""


@cli.command("record", resumes=True)
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parse(arguments)
    from src.history.recorder import run  # noqa: PLC0415  --help needs none of it

    return run(options)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("record", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("--from-block", type=cli.natural, required=True, metavar="A", help="first block, included")
    add("--to-block", type=cli.natural, required=True, metavar="B", help="last block, included")
    add(
        "--out", type=cli.output_folder, required=True, metavar="DIR", help="the recording's folder"
    )
    add("--url", default=os.environ.get(URL_VARIABLE), help=f"the node (default: ${URL_VARIABLE})")
    add(
        "--workers",
        type=cli.positive,
        default=8,
        metavar="N",
        help="blocks fetched in parallel (8)",
    )
    add(
        "--requests-per-second",
        type=cli.positive,
        default=25,
        metavar="N",
        help="maximum requests to the node per second (25)",
    )
    add(
        "--timeout",
        type=cli.positive_number,
        default=30.0,
        metavar="S",
        help="timeout of a request in seconds (30)",
    )
    add(
        "--patience",
        type=cli.positive_number,
        default=DEFAULT_PATIENCE,
        metavar="S",
        help="seconds to retry a failing node (120)",
    )
    add(
        "--blocks-per-part",
        type=cli.positive,
        default=100,
        metavar="N",
        help="maximum blocks per part, all of which are fetched again after a kill (100)",
    )
    add(
        "--no-verify",
        dest="verify",
        action="store_false",
        help="also record blocks whose receipts do not match the header, as unverified",
    )
    add(
        "--skip-unverifiable",
        action="store_true",
        help="leave out blocks that the node has only incomplete or wrong, instead of stopping",
    )
    add(
        "--no-tokens",
        dest="tokens",
        action="store_false",
        help="do not record tokens' names, symbols and decimals",
    )
    options = parser.parse_args(arguments)
    if options.from_block > options.to_block:
        parser.error("--from-block is after --to-block")
    if not options.url:
        parser.error(f"no node: set {URL_VARIABLE} or pass --url")
    return options


if __name__ == "__main__":
    sys.exit(main())
