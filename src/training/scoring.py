"""Score every transaction of two tables."""

import argparse
import gzip
import json
import sys
import time
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from src.datasets.columns import TRANSACTION_COLUMNS, TRANSFER_COLUMNS
from src.datasets.tables import TableError, TransactionSet, read_table
from src.decision.second_opinion import open_attack_model
from src.detection.assessment import EXPLAINED_INPUTS
from src.detection.attack.model import AttackModel
from src.detection.attack.reputation import score_table
from src.detection.features.definitions import FEATURE_NAMES, TokenProfile, feature_table
from src.detection.forest.model import ANOMALY, NORMAL, Model, load_model
from src.detection.records import Attribution
from src.files import write_file
from src.settings import load_settings

_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    settings = load_settings()
    model = load_model(
        options.model or settings.model_path,
        available_inputs=FEATURE_NAMES,
        public_key=settings.model_public_key,
    )
    path = options.model or settings.model_path
    named = None if options.model else settings.attack_model_path
    attack = open_attack_model(named, path, model, settings.model_public_key)
    unknown = read_token_facts(options.token_facts) if options.token_facts else frozenset()
    threshold = options.threshold
    if threshold is None:
        threshold = settings.anomaly_threshold
    if threshold is None:
        threshold = model.manifest.anomaly_threshold
    transactions = read_table(options.transactions, TRANSACTION_COLUMNS)
    transfers = read_table(options.transfers, TRANSFER_COLUMNS)
    started = time.perf_counter()
    data = TransactionSet.from_tables(transactions, transfers, what=str(options.transfers))
    table = score_set(
        model,
        data,
        threshold=threshold,
        attack=attack.model,
        unknown=unknown,
        explain=options.explain,
    )
    seconds = time.perf_counter() - started
    order = transactions["tx_hash"].drop_duplicates()
    table = table.set_index("tx_hash").reindex(order[order.isin(table["tx_hash"])])
    _write(table.reset_index(), options.out)
    without = f"; no attack scores: {attack.problem}" if attack.problem else ""
    anomalies = int((table["prediction"] == ANOMALY).sum())
    sys.stderr.write(
        f"{options.out}: {len(table):,} transactions scored in {seconds:.1f} s, {anomalies:,} "
        f"anomalies at threshold {threshold:g}; {len(order) - len(table):,} without an ERC-20 "
        f"transfer are left out{without}.\n"
    )
    return 0


def score_set(
    model: Model,
    data: TransactionSet,
    *,
    threshold: float,
    attack: AttackModel | None = None,
    unknown: Collection[str] = frozenset(),
    explain: bool = False,
) -> pd.DataFrame:
    """Score the transactions of a set; the columns are those of the command's output.

    Args:
        model: the isolation forest.
        data: the transactions.
        threshold: score from which a transaction is an anomaly.
        attack: the attack model, or None for no attack scores.
        unknown: tokens without a reputation.
        explain: whether to add what weighs most.
    """
    profile = TokenProfile.from_manifest(model.manifest)
    columns = [FEATURE_NAMES.index(name) for name in model.inputs]
    rows = feature_table(data.batch, profile)[:, columns]
    scores = model.score(rows)
    table = pd.DataFrame(
        {
            "tx_hash": data.table["tx_hash"],
            "anomaly_score": scores,
            "anomaly_percentile": model.percentiles(scores),
            "prediction": np.where(scores >= threshold, ANOMALY, NORMAL),
        }
    )
    if explain:
        table["model_explanations"] = [
            _as_json(model.explain(row, EXPLAINED_INPUTS)) for row in rows
        ]
    if attack is not None:
        attacks = score_table(attack, model, data.batch, unknown=unknown)
        table["attack_score"] = attacks.scores
        table["attack_percentile"] = 100 * attacks.scores
        if explain:
            table["attack_explanations"] = [
                _as_json(attack.explain(row, EXPLAINED_INPUTS)) for row in attacks.rows
            ]
    return table


def read_token_facts(path: Path) -> frozenset[str]:
    """The tokens that a file of facts says are not known, lowercase.

    Raises:
        TableError: it is no CSV file with `address` and `known`, or a fact is no true or false.
    """
    table = read_table(path, ("address", "known"))
    known = table["known"].astype(str).str.strip().str.lower()
    wrong = ~known.isin(_TRUTHS)
    if wrong.any():
        line = int(np.flatnonzero(wrong)[0]) + 2
        raise TableError(f"{path}, line {line}: known must be true or false")
    return frozenset(table["address"][~known.map(_TRUTHS)].astype(str).str.strip().str.lower())


def _as_json(attributions: Iterable[Attribution]) -> str:
    return json.dumps(
        [{"feature": why.feature, "value": why.value, "weight": why.weight} for why in attributions]
    )


def _write(table: pd.DataFrame, path: Path) -> None:
    name = path.name.lower()
    if name.endswith(".parquet"):
        write_file(path, table.to_parquet(index=False))
        return
    text = table.to_csv(index=False, lineterminator="\n").encode()
    if name.endswith(".gz"):
        text = gzip.compress(text, mtime=0)
    write_file(path, text)
