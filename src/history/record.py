"""Record blocks from a node: `npm run record -- --from-block A --to-block B --out DIR`."""

import os
import sys

from src import cli

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


@cli.options("record", _DESCRIPTION, _EPILOG, run="src.history.recorder", resumes=True)
def main(parser: cli.Parser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    parser.common("--from-block", "--to-block", required=True)
    parser.common("--out", required=True, help="the recording's folder")
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
    parser.common("--patience")
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
    parser.require("--from-block is after --to-block", lambda o: o.from_block <= o.to_block)
    parser.require(f"no node: set {URL_VARIABLE} or pass --url", lambda o: o.url)


if __name__ == "__main__":
    sys.exit(main())
