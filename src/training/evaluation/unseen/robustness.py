"""Attacks rewritten as an attacker could have sent them: how many are still found.

A folder has, for each evasion, `<evasion>.transactions.csv.gz` and `<evasion>.transfers.csv.gz` in
the layout of the exploits or of the replays, with a column `evades`: the hash of the attack that
was rewritten. Where one became several transactions it counts as found when any of them is.
`costs.csv` states what each evasion costs, by the columns `evasion` and `extra_gas_median`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.datasets.tables import TableError, TransactionSet, read_table, require_columns
from src.training.evaluation.sets import by_seq, clusters
from src.training.evaluation.statistics import cluster_weights
from src.training.evaluation.unseen.attacks import AttackSet
from src.training.evaluation.unseen.cross_fit import ATTACK_SCORE, FOREST, JointCrossFit

AS_SENT = "identity"
TRANSACTIONS = ".transactions.csv.gz"
TRANSFERS = ".transfers.csv.gz"
_COSTS = "costs.csv"
_DETECTORS = (FOREST, ATTACK_SCORE)

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Evasion:
    """One way of rewriting attacks."""

    name: str
    data: TransactionSet  # the rewritten transactions, with `evades`
    gas: int | None  # median of the additional gas, None where it is not stated

    @property
    def evades(self) -> list[str]:
        """By transaction, the attack that was rewritten."""
        return list(map(str, self.data.table["evades"]))


def load_evasions(folder: Path) -> list[Evasion]:
    """Read a folder of rewritten attacks, the one as sent first.

    Raises:
        TableError: there are none, or a file cannot be read.
    """
    paths = sorted(folder.glob(f"*{TRANSACTIONS}"))
    if not paths:
        raise TableError(f"{folder}: no rewritten attacks (*{TRANSACTIONS})")
    costs: dict[str, int] = {}
    if (folder / _COSTS).is_file():
        table = read_table(folder / _COSTS, ("evasion", "extra_gas_median"))
        costs = dict(zip(table["evasion"], table["extra_gas_median"].astype(int), strict=True))
    evasions = []
    for path in paths:
        name = path.name.removesuffix(TRANSACTIONS)
        evasions.append(Evasion(name, _read(path, folder / f"{name}{TRANSFERS}"), costs.get(name)))
    return sorted(evasions, key=lambda one: (one.name != AS_SENT, "+" in one.name, one.name))


def robustness(
    folder: Path,
    crossed: JointCrossFit,
    attacks: Sequence[AttackSet],
    *,
    unknown_tokens: Collection[str] = (),
    rate: float = 0.004,
) -> list[Figures]:
    """Recall for each evasion, every cluster of attacks as one.

    `attacks` are those that were rewritten; `rate` is the share of the background flagged.

    Raises:
        TableError: a file cannot be read.
    """
    evasions = load_evasions(folder)
    as_sent = next((one for one in evasions if one.name == AS_SENT), None)
    if as_sent is None:
        raise TableError(f"{folder}: lacks the attacks as they were sent ({AS_SENT})")
    graphs = dict(zip(as_sent.evades, clusters(as_sent.data).tolist(), strict=True))
    folds = {
        tx_hash: fold
        for one in attacks
        for tx_hash, fold in zip(one.data.table["tx_hash"], one.folds.tolist(), strict=True)
    }
    thresholds = {
        detector: np.quantile(crossed.background[detector], 1 - rate) for detector in _DETECTORS
    }
    rows = []
    for evasion in evasions:
        unseen = [name not in folds for name in evasion.evades]
        held_out = None if any(unseen) else np.array([folds[name] for name in evasion.evades])
        scores = crossed.score(evasion.data, held_out, unknown_tokens=unknown_tokens)
        row: Figures = {"evasion": evasion.name, "gas": evasion.gas}
        for detector in _DETECTORS:
            flagged = pd.Series(scores[detector] >= thresholds[detector])
            found = flagged.groupby(evasion.evades).any()
            weights = cluster_weights(np.array([graphs[name] for name in found.index]))
            row["attacks"] = len(found)
            row[detector] = float(np.average(found, weights=weights))
        rows.append(row)
    return rows


def _read(transactions: Path, transfers: Path) -> TransactionSet:
    facts = read_table(transactions, ("tx_hash", "evades"))
    rows = read_table(transfers, ("tx_hash", "token_address"))
    if "from_address" not in facts.columns:
        require_columns(rows, ("tx_from",), str(transfers))
        senders = rows.drop_duplicates("tx_hash").set_index("tx_hash")["tx_from"]
        facts = facts.assign(from_address=facts["tx_hash"].map(senders))
    return TransactionSet.from_tables(facts, by_seq(rows), what=str(transactions))
