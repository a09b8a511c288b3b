"""Run a backtest: `npm run backtest -- --data D --out OUT`."""

import os
import sys

from src import cli
from src.history.__main__ import add_import_options
from src.history.record import URL_VARIABLE

MINUTES_PER_ALERT = 5.0

_DESCRIPTION = """\
Run the bot on historical data: decode, compute features, score and decide every transaction with
ERC-20 transfers, with the code of the live bot. After an interruption, run the same command again
to resume; the result is the same.
"""

_EPILOG = """\
DATA is a history store (npm run import), or anything that can be imported: a recording, the data
set, exports of ethereum-etl, BigQuery, AWS, cryo, Dune or Flipside, or - for any of them from
standard input (npm run import -- --help). It
is then imported into OUT.store first, which is kept for further runs. Without --data the range is
first recorded from the node ($JSON_RPC_URL) into OUT.recording, which is kept as well.

The output in OUT is decisions/ and alerts/ (parquet, by day), summary.json and report.html.

examples:
  npm run backtest -- --data recordings/august --out runs/august
  npm run backtest -- --from-block 18000000 --to-block 18000999 --out runs/thousand
  npm run backtest -- --data recordings/august --threshold 0.6 --out runs/lower \\
    --compare-with runs/august
  npm run backtest -- --data /mnt/chain --out /mnt/run --engine spark --master spark://head:7077

exit codes: 0 done, 1 failed (the same command resumes), 2 wrong usage,
130 interrupted.
"""


@cli.options("backtest", _DESCRIPTION, _EPILOG, run="src.backtest.run", resumes=True)
def main(parser: cli.Parser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add("--data", metavar="DATA", help="the history; see below")
    parser.common("--out", required=True, metavar="OUT", help="the folder of this run")
    parser.common("--from-block", "--to-block", "--model", "--threshold")
    add("--url", metavar="URL", help=f"the node ({URL_VARIABLE})")
    parser.common("--patience")
    asked = parser.add_argument_group("what if")
    add = asked.add_argument
    add("--policy", type=cli.path, metavar="P", help="a policy ($POLICY_PATH, else policy.yaml)")
    add("--compare-with", type=cli.path, metavar="RUN", help="report the changes from another run")
    add(
        "--minutes-per-alert",
        type=cli.positive_number,
        default=MINUTES_PER_ALERT,
        metavar="N",
        help=f"minutes to review one alert, for the cost ({MINUTES_PER_ALERT:g})",
    )
    add = parser.add_argument_group("details").add_argument
    add(
        "--chain",
        type=cli.chain,
        metavar="CHAIN",
        help="id or name (the recording's, else $FORTA_CHAIN_ID, else 1)",
    )
    add(
        "--exploits",
        type=cli.path,
        metavar="FILE",
        help="known exploits: .csv, .csv.gz or .parquet with tx_hash and maybe their "
        "transfers, see docs/backtest.md (the data set's own)",
    )
    add("--features", action="store_true", help="write the model's inputs with each decision")
    add(
        "--workers",
        type=cli.positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes of the local engine (one per core)",
    )
    add_import_options(parser)
    parser.require(
        "pass --data, or --from-block and --to-block to record from the node",
        lambda o: o.data is not None or None not in (o.from_block, o.to_block),
    )
    parser.require(
        "--from-block is after --to-block",
        lambda o: o.to_block is None or (o.from_block or 0) <= o.to_block,
    )


if __name__ == "__main__":
    sys.exit(main())
