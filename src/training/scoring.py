"""Score every transaction of two tables."""

import argparse
import gzip
import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from src.datasets.columns import TRANSACTION_COLUMNS, TRANSFER_COLUMNS
from src.datasets.tables import (
    TransactionSet,
    read_table,
)
from src.detection.assessment import EXPLAINED_INPUTS
from src.detection.features.definitions import FEATURE_NAMES, TokenProfile, feature_table
from src.detection.forest.model import ANOMALY, NORMAL, Model, load_model
from src.files import write_file
from src.settings import load_settings


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
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


def _write(table: pd.DataFrame, path: Path) -> None:
    name = path.name.lower()
    if name.endswith(".parquet"):
        write_file(path, table.to_parquet(index=False))
        return
    text = table.to_csv(index=False, lineterminator="\n").encode()
    if name.endswith(".gz"):
        text = gzip.compress(text, mtime=0)
    write_file(path, text)
