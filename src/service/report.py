"""`npm run report -- 0xHASH`: one transaction as a self-contained HTML file.

Exit codes: 0 written, 1 the transaction is unavailable, 2 wrong options or settings.
"""

import sys

from src import cli

_DESCRIPTION = "Write a report on a transaction as a self-contained HTML file."

_EPILOG = """\
The report uses the service's database; missing data is read from the node and stored. Without a
node (JSON_RPC_URL) it uses the demo's blocks. To use a recording, serve it with `npm run replay`
and pass its URL with --node.

With --store it reads the transaction from a history store (`npm run import`) and needs neither
database nor node. What a store does not hold (value, gas, status) is shown as unknown. If a node is
configured, it is asked for facts such as the sender's first transaction.

examples:
  npm run report -- 0xHASH
  npm run report -- 0xHASH --node http://127.0.0.1:8545 --out report.html
  npm run report -- 0xHASH --store stores/august

exit codes: 0 written, 1 the transaction is unavailable, 2 wrong options or settings.
"""


@cli.options(
    "report", _DESCRIPTION, _EPILOG, run="src.service.transaction_report", failure=cli.WRONG_USAGE
)
def main(parser: cli.Parser) -> None:
    """Declare the command's options."""
    parser.add_argument("hash", help="the transaction's hash")
    parser.add_argument("--node", type=cli.http_url, metavar="URL", help="JSON-RPC to read it from")
    parser.add_argument(
        "--store", type=cli.path, metavar="STORE", help="a history store to read it from"
    )
    parser.add_argument(
        "--out", type=cli.output_file, metavar="FILE", help="output file (named after the hash)"
    )


if __name__ == "__main__":
    sys.exit(main())
