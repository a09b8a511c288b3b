"""Labelled token transfers as a table: exploits against ordinary blocks."""

import argparse
import io
import sys

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.datasets.tables import TransactionSet
from src.datasets.training_set import load_background
from src.detection.features.definitions import FEATURE_NAMES, TokenProfile, feature_table
from src.detection.forest.manifest import read_manifest
from src.files import write_file
from src.settings import model_public_key
from src.training.evaluation.sets import attack_groups, call_view, clusters, load_exploits
from src.training.fit import fold_of_blocks, profile_tokens, select_rows
from src.training.hyperparameters import Hyperparameters
from src.training.reference_values import load_reference_values

LABEL = "exploit"

GROUP = "group"


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    exploits = load_exploits(options.data)
    if exploits is None:
        raise ValueError(f"{options.data}: contains no exploit transfers")
    background = load_background(options.data)
    profile = TokenProfile.from_manifest(read_manifest(options.model, model_public_key()))
    if options.view == "calls":
        background, exploits = call_view(background), call_view(exploits)
    table = labelled_features(background, exploits, profile)
    write_file(options.out, _as_bytes(table, options.out.name))
    n_groups = table.groupby(LABEL)[GROUP].nunique()
    sys.stdout.write(
        f"{options.out}: {len(table):,} transactions, {int(table[LABEL].sum())} exploits of "
        f"{int(n_groups.get(1, 0))} groups, {int(n_groups.get(0, 0)):,} blocks.\n"
    )
    return 0


def labelled_features(
    background: TransactionSet,
    exploits: TransactionSet,
    profile: TokenProfile,
) -> pd.DataFrame:
    """The table: the features, `exploit` (0 or 1), `group`, `tx_hash`, `derivation`.

    Args:
        background: with `block_number`, `source` and `tx_hash` in its table.
        exploits: with `protocol` and `derivation` in its table.
        profile: the live model's token amounts, for the exploits.
    """
    protocols = exploits.table["protocol"].astype("string").fillna("").str.strip().str.lower()
    groups = attack_groups(clusters(exploits), protocols.tolist())
    parts = [
        _part(
            _cross_fitted(background, Hyperparameters()),
            background,
            [f"block {number}" for number in background.table["block_number"].tolist()],
            is_exploit=False,
        ),
        _part(
            feature_table(exploits.batch, profile),
            exploits,
            [f"attack {group}" for group in groups.tolist()],
            is_exploit=True,
        ),
    ]
    table = pd.concat(parts, ignore_index=True)
    return table.sort_values("tx_hash", kind="stable", ignore_index=True)


def _cross_fitted(data: TransactionSet, parameters: Hyperparameters) -> NDArray[np.float64]:
    """Features with token amounts fitted on the blocks of other folds."""
    fold = fold_of_blocks(data, parameters.folds)
    table = np.zeros((len(data), len(FEATURE_NAMES)))
    for held_out in np.unique(fold).tolist():
        profile_rows, _ = select_rows(data, parameters, fold != held_out)
        profile = TokenProfile.from_amounts(
            profile_tokens(data, profile_rows, parameters), load_reference_values()
        )
        table[fold == held_out] = feature_table(data.batch, profile)[fold == held_out]
    return table


def _part(
    features: NDArray[np.float64], data: TransactionSet, groups: list[str], *, is_exploit: bool
) -> pd.DataFrame:
    table = pd.DataFrame(features, columns=list(FEATURE_NAMES))
    table[LABEL] = int(is_exploit)
    table[GROUP] = groups
    table["tx_hash"] = data.table["tx_hash"].to_numpy()
    table["derivation"] = data.table["derivation"].to_numpy() if is_exploit else "log"
    return table


def _as_bytes(table: pd.DataFrame, name: str) -> bytes:
    buffer = io.BytesIO()
    if name.endswith(".parquet"):
        table.to_parquet(buffer, index=False)
    else:
        compression = {"method": "gzip", "mtime": 0} if name.endswith(".gz") else None
        table.to_csv(buffer, index=False, compression=compression, lineterminator="\n")
    return buffer.getvalue()
