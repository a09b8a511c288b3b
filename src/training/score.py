"""Score tables of transactions: `npm run score -- --transactions T --transfers R --out F`.

The same decoding of amounts, features and model as the live bot: the same transfers get the same
score to the last bit.
"""

import argparse
import gzip
import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from src import cli
from src.datasets.tables import (
    TRANSACTION_COLUMNS,
    TRANSFER_COLUMNS,
    TransactionSet,
    read_table,
)
from src.detection.assessment import EXPLAINED_INPUTS
from src.detection.features.definitions import FEATURE_NAMES, TokenProfile, feature_table
from src.detection.forest.model import ANOMALY, NORMAL, Model, load_model
from src.files import write_file
from src.settings import load_settings

_DESCRIPTION = f"""\
Score transactions in tables, as the bot would: one row out for each transaction with an ERC-20
transfer, in the order of the table of transactions.

Tables are .parquet, .csv or .csv.gz with the columns
  transactions: {", ".join(TRANSACTION_COLUMNS)}
  transfers:    {", ".join(TRANSFER_COLUMNS)}
                (value_raw: decimal uint256; a column token_std other than erc20 is left out)
"""
_EPILOG = """\
Output columns: tx_hash, anomaly_score (0 to 1), anomaly_percentile (share of training transactions
with a lower score, in percent), prediction (ANOMALY or NORMAL); with --explain model_explanations,
a JSON list of the ten features that weigh most, each with its value and signed weight.

example:
  npm run score -- --transactions transactions.csv --transfers transfers.csv --out scores.csv

exit codes: 0 scored, 1 a table or the model cannot be used, 2 wrong usage.
"""


def score_set(
    model: Model, data: TransactionSet, *, threshold: float, explain: bool = False
) -> pd.DataFrame:
    """Score the transactions of a set; the columns are those of the command's output."""
    profile = TokenProfile.from_manifest(model.manifest)
    columns = [FEATURE_NAMES.index(name) for name in model.inputs]
    rows = feature_table(data.batch, profile)[:, columns]
    scores = model.score(rows)
    table = pd.DataFrame(
        {
            "tx_hash": data.facts["tx_hash"],
            "anomaly_score": scores,
            "anomaly_percentile": model.percentiles(scores),
            "prediction": np.where(scores >= threshold, ANOMALY, NORMAL),
        }
    )
    if explain:
        table["model_explanations"] = [
            json.dumps(
                [
                    {"feature": why.feature, "value": why.value, "weight": why.weight}
                    for why in model.explain(row, EXPLAINED_INPUTS)
                ]
            )
            for row in rows
        ]
    return table


@cli.command("score")
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parse(arguments)
    settings = load_settings()
    model = load_model(
        options.model or settings.model_path,
        available_inputs=FEATURE_NAMES,
        public_key=settings.model_public_key,
    )
    threshold = options.threshold
    if threshold is None:
        threshold = settings.anomaly_threshold
    if threshold is None:
        threshold = model.manifest.anomaly_threshold
    transactions = read_table(options.transactions, TRANSACTION_COLUMNS)
    transfers = read_table(options.transfers, TRANSFER_COLUMNS)
    started = time.perf_counter()
    data = TransactionSet.from_tables(transactions, transfers, what=str(options.transfers))
    table = score_set(model, data, threshold=threshold, explain=options.explain)
    seconds = time.perf_counter() - started
    order = transactions["tx_hash"].drop_duplicates()
    table = table.set_index("tx_hash").reindex(order[order.isin(table["tx_hash"])])
    _write(table.reset_index(), options.out)
    anomalies = int((table["prediction"] == ANOMALY).sum())
    sys.stderr.write(
        f"{options.out}: {len(table):,} transactions scored in {seconds:.1f} s, {anomalies:,} "
        f"anomalies at threshold {threshold:g}; {len(order) - len(table):,} without an ERC-20 "
        "transfer are left out.\n"
    )
    return 0


def _write(table: pd.DataFrame, path: Path) -> None:
    name = path.name.lower()
    if name.endswith(".parquet"):
        write_file(path, table.to_parquet(index=False))
        return
    text = table.to_csv(index=False, lineterminator="\n").encode()
    if name.endswith(".gz"):
        text = gzip.compress(text, mtime=0)
    write_file(path, text)


def _output(text: str) -> Path:
    if not text.lower().endswith((".parquet", ".csv", ".csv.gz")):
        raise argparse.ArgumentTypeError("a name that ends in .parquet, .csv or .csv.gz")
    return cli.output_file(text)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("score", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("--transactions", type=cli.path, required=True, metavar="T", help="one row a transaction")
    add("--transfers", type=cli.path, required=True, metavar="R", help="one row a transfer")
    add("--out", type=_output, required=True, metavar="F", help="where the scores go")
    add("--explain", action="store_true", help="add the ten features that weigh most")
    add(
        "--model",
        type=cli.path,
        metavar="FILE",
        help="another model ($MODEL_PATH, else the project's)",
    )
    add(
        "--threshold",
        type=cli.share,
        metavar="S",
        help="score from which a transaction is an anomaly ($ANOMALY_THRESHOLD, else the model's)",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
