"""Score tables of transactions: `npm run score -- --transactions T --transfers R --out F`.

A backtest without decisions: the same import, features and models, so equal transfers get
bit-identical scores.
"""

import argparse
import sys
from pathlib import Path

from src import cli
from src.datasets.columns import TRANSACTION_COLUMNS, TRANSFER_COLUMNS

_DESCRIPTION = f"""\
Score transactions in tables, as the bot does: one output row for each transaction with an ERC-20
transfer, in the order of the table of transactions.

Tables are parquet, CSV or JSON, also in gzip or zstd, with the columns
  transactions: {", ".join(TRANSACTION_COLUMNS)}
  transfers:    {", ".join(TRANSFER_COLUMNS)}
                (value_raw: decimal uint256; rows whose token_std is another standard are ignored)
"""

_EPILOG = """\
Output columns: tx_hash, anomaly_score (0 to 1), anomaly_percentile (share of training transactions
with a lower score, in percent), prediction (ANOMALY, NORMAL, or INVALID without
scores where the sender is not known); with --explain model_explanations,
a JSON list of the ten features with the largest weights, each with value and signed weight. With
an attack model also attack_score (share of ordinary transactions that rank lower, 0 to 1) and
attack_percentile (the same in percent); with --explain attack_explanations.

--token-facts lists tokens without a reputation, for example newly deployed ones: a CSV file with
the columns address and known (true or false). Tokens that are not listed count as known. The attack
score is then the larger of that of all transfers and that of the known tokens' transfers.

example:
  npm run score -- --transactions transactions.csv --transfers transfers.csv --out scores.csv

exit codes: 0 scored, 1 a table or the model is unusable, 2 wrong usage.
"""


def _output(text: str) -> Path:
    if not text.lower().endswith((".parquet", ".csv", ".csv.gz")):
        raise argparse.ArgumentTypeError("a name that ends in .parquet, .csv or .csv.gz")
    return cli.output_file(text)


@cli.options("score", _DESCRIPTION, _EPILOG, run="src.backtest.score_tables")
def main(parser: cli.Parser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add("--transactions", type=cli.path, required=True, metavar="T", help="one row per transaction")
    add("--transfers", type=cli.path, required=True, metavar="R", help="one row per transfer")
    add("--out", type=_output, required=True, metavar="F", help="output file")
    add("--token-facts", type=cli.path, metavar="FILE", help="which tokens are known, see below")
    add("--explain", action="store_true", help="add the ten features with the largest weights")
    parser.common("--model", "--threshold")
    parser.require(
        "--out is one of the tables that are read",
        lambda o: o.out.resolve() not in (o.transactions.resolve(), o.transfers.resolve()),
    )


if __name__ == "__main__":
    sys.exit(main())
