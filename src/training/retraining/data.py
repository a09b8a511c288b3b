"""Joins old and new data, and splits them into training data and evaluation data."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.chain.recording.dataset import (
    TRANSACTIONS_FILE,
    TRANSFERS_FILE,
    load_transactions,
    load_transfers,
)
from src.chain.recording.format import RecordingError
from src.datasets.location import EXPLOIT_TRANSFERS_FILE, EXPLOITS_FILE, GOLDEN_CASES_FILE
from src.datasets.tables import TableError, TransactionSet, fungible, read_table, require_columns
from src.datasets.training_set import load_background
from src.training.evaluation.sets import by_seq, clusters, load_exploits, transfer_graphs
from src.training.retraining.feedback import Feedback

RECENT_SHARE = 0.34
"""The newest share of the blocks counts as recent traffic."""

_HELD_OUT_ONE_IN = 5
_KEPT_ATTACKS_ONE_IN = 3
_EXPLOIT = "exploit"


@dataclass(frozen=True, slots=True)
class RetrainingData:
    """The split data."""

    training: Path  # a folder in the data-set layout, without held-out blocks and attacks
    # Background for evaluation: blocks chosen by a digest of their number, so that they are the
    # same in every retraining.
    held_out: TransactionSet
    recent: NDArray[np.bool_]  # which of `held_out` are of the newest blocks, shape (n,)
    exploits: TransactionSet  # known attacks, those of the analysts included
    exploit_clusters: NDArray[np.int64]  # cluster numbers; runs of one attack share a number
    reported_benign: TransactionSet | None  # transactions that analysts reported as false alarms
    golden: dict[str, bool]  # hash -> whether it must be an anomaly; kept by every model
    golden_set: TransactionSet | None  # their transactions
    unknown_feedback: tuple[str, ...]  # hashes that are in no data set

    @property
    def kept_attacks(self) -> NDArray[np.bool_]:
        """Attacks that attack models are judged by and not trained on: whole clusters, shape (n,).

        Chosen by a digest of the transfer graph, so that they are the same each time.
        """
        return np.array([_is_kept(graph) for graph in transfer_graphs(self.exploits.batch)], bool)


def _is_kept(graph: tuple[int, ...]) -> bool:
    digest = hashlib.sha256(repr(graph).encode()).digest()
    return int.from_bytes(digest[:8], "big") % _KEPT_ATTACKS_ONE_IN == 0


def prepare(folders: Sequence[Path], feedback: Feedback, work: Path) -> RetrainingData:
    """Join data sets and split them.

    Args:
        folders: data sets or recordings; a transaction that is in several counts once.
        feedback: analysts' verdicts. Attacks leave the background and join the exploits.
        work: an empty folder for the joined tables.

    Raises:
        TableError: a folder is unusable, or there is no evaluation data.
    """
    transactions, transfers = _joined(folders)
    held_out = held_out_blocks(transactions["block_number"])
    if held_out.all() or not held_out.any():
        blocks = transactions["block_number"].nunique()
        raise TableError(
            f"the data sets have {blocks:,} blocks: too few to train on, and to judge by the one "
            "in five that is held out"
        )
    exploits, exploit_transfers = _exploits(folders, transactions, transfers, feedback)
    known = work / "known"
    training = work / "training"
    for folder in (known, training):
        folder.mkdir(parents=True)
        transfers.to_parquet(folder / TRANSFERS_FILE, index=False)
        exploits.to_csv(folder / EXPLOITS_FILE, index=False)
        exploit_transfers.to_csv(folder / EXPLOIT_TRANSFERS_FILE, index=False)
    transactions[~held_out].to_parquet(training / TRANSACTIONS_FILE, index=False)
    transactions[held_out].to_parquet(known / TRANSACTIONS_FILE, index=False)
    background = load_background(known)
    attacks = load_exploits(known)
    if attacks is None:
        raise TableError("no known exploits with transfers: recall cannot be measured")
    golden = _golden(folders)
    hashes = set(transactions["tx_hash"]) | set(exploit_transfers["tx_hash"])
    return RetrainingData(
        training=training,
        held_out=background,
        recent=recent_blocks(background.table["block_timestamp"]),
        exploits=attacks,
        exploit_clusters=clusters(attacks),
        reported_benign=_subset(transactions, transfers, feedback.benign),
        golden=golden,
        golden_set=_golden_set(transactions, transfers, attacks, exploit_transfers, golden),
        unknown_feedback=tuple(sorted((feedback.attacks | feedback.benign) - hashes)),
    )


def held_out_blocks(numbers: "pd.Series[int]") -> NDArray[np.bool_]:
    """Whether each block is held out: one in five, by a digest of its number, never changed."""
    chosen = {
        number: hashlib.sha256(f"held out {number}".encode()).digest()[0] % _HELD_OUT_ONE_IN == 0
        for number in numbers.unique().tolist()
    }
    return np.array([chosen[number] for number in numbers.tolist()], dtype=bool)


def recent_blocks(timestamps: "pd.Series[int]") -> NDArray[np.bool_]:
    """Which transactions are in the newest blocks."""
    times = timestamps.to_numpy(dtype=np.int64)
    return np.asarray(times >= np.quantile(np.unique(times), 1 - RECENT_SHARE))


def _joined(folders: Sequence[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    if not folders:
        raise TableError("no data: pass a data set with --data DIR, or add one to the store")
    try:
        transactions = [load_transactions(folder).to_pandas() for folder in folders]
        transfers = [load_transfers(folder).to_pandas() for folder in folders]
    except RecordingError as error:
        raise TableError(str(error)) from error
    table = pd.concat(transactions, ignore_index=True)
    require_columns(table, ("tx_hash", "block_number", "block_timestamp"), "transactions")
    rows = pd.concat(transfers, ignore_index=True)
    return (
        table.drop_duplicates("tx_hash", ignore_index=True),
        rows.drop_duplicates(["tx_hash", "log_index"], ignore_index=True),
    )


def _exploits(
    folders: Sequence[Path],
    transactions: pd.DataFrame,
    transfers: pd.DataFrame,
    feedback: Feedback,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of known exploits and of those that analysts found in the data."""
    listed = [
        read_table(folder / EXPLOITS_FILE)
        for folder in folders
        if (folder / EXPLOITS_FILE).is_file()
    ]
    moved = [
        read_table(folder / EXPLOIT_TRANSFERS_FILE)
        for folder in folders
        if (folder / EXPLOIT_TRANSFERS_FILE).is_file()
    ]
    known = {tx_hash for table in moved for tx_hash in table["tx_hash"].tolist()}
    found = fungible(transfers[transfers["tx_hash"].isin(feedback.attacks - known)])
    found = found.drop(columns="token_std", errors="ignore")
    senders = transactions.set_index("tx_hash")["from_address"]
    found = found.rename(columns={"log_index": "seq"}).assign(
        preferred=1, derivation="log", tx_from=found["tx_hash"].map(senders)
    )
    reported = pd.DataFrame(
        {"tx_hash": sorted(feedback.attacks), "label": _EXPLOIT, "protocol": "", "date": ""}
    )
    return (
        pd.concat([*listed, reported], ignore_index=True).drop_duplicates("tx_hash"),
        pd.concat([*moved, found], ignore_index=True).drop_duplicates(
            ["tx_hash", "seq", "derivation"]
        ),
    )


def _golden(folders: Sequence[Path]) -> dict[str, bool]:
    golden: dict[str, bool] = {}
    for folder in folders:
        path = folder / GOLDEN_CASES_FILE
        if path.is_file():
            table = read_table(path, ("tx_hash", "expected"))
            for tx_hash, expected in zip(table["tx_hash"], table["expected"], strict=True):
                golden[str(tx_hash).lower()] = str(expected).upper() == "ANOMALY"
    return golden


def _golden_set(
    transactions: pd.DataFrame,
    transfers: pd.DataFrame,
    exploits: TransactionSet,
    exploit_transfers: pd.DataFrame,
    golden: dict[str, bool],
) -> TransactionSet | None:
    rows = by_seq(exploit_transfers)
    rows = rows[~rows["tx_hash"].isin(transfers["tx_hash"])]
    if "preferred" in rows.columns:
        rows = rows[rows["preferred"] == 1]
    table = pd.concat(
        [transactions[["tx_hash", "from_address"]], exploits.table[["tx_hash", "from_address"]]]
    )
    return _subset(table.drop_duplicates("tx_hash"), pd.concat([transfers, rows]), set(golden))


def _subset(
    transactions: pd.DataFrame, transfers: pd.DataFrame, hashes: frozenset[str] | set[str]
) -> TransactionSet | None:
    table = transactions[transactions["tx_hash"].isin(hashes)]
    rows = fungible(transfers[transfers["tx_hash"].isin(hashes)])
    if table.empty or rows.empty:
        return None
    found = TransactionSet.from_tables(table, rows)
    return found if len(found) else None
