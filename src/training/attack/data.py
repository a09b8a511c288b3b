"""What the attack model learns from: ordinary transactions and known attacks, with weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from src.datasets.tables import TableError, TransactionSet, read_table
from src.datasets.training_set import load_background
from src.detection.features.batch import TransferBatch
from src.detection.features.definitions import FEATURE_NAMES
from src.training.evaluation.sets import by_seq, clusters, load_exploits, to_router
from src.training.evaluation.statistics import cluster_weights

REPLAYS_FILE = "replay_exploit_transactions.csv.gz"
REPLAY_TRANSFERS_FILE = "replay_exploit_transfers.csv.gz"

_ARBITRAGE_TRANSFERS = 3


@dataclass(frozen=True, slots=True)
class LabelledTransactions:
    """Background and attacks."""

    background: TransactionSet  # ordinary transactions of whole blocks
    attacks: tuple[TransactionSet, ...]  # sets of known attacks
    # Of all of them, in order: one in all for each transfer graph.
    attack_weights: NDArray[np.float64]

    @classmethod
    def of(cls, background: TransactionSet, attacks: Sequence[TransactionSet]) -> Self:
        """Weigh the attacks by their transfer graphs."""
        return cls(background, tuple(attacks), cluster_weights(clusters(*attacks)))


def load_labelled(folder: Path, replays: Sequence[Path] = ()) -> LabelledTransactions:
    """Read the background and the exploits of a data set, and the exploit replays of others.

    Raises:
        TableError: there is no background or no attack, or a file cannot be read.
    """
    background = load_background(folder)
    exploits = (load_exploits(folder, chain) for chain in ("ethereum", "bsc"))
    attacks = [found for found in exploits if found is not None]
    for one in replays:
        replayed = load_replays(one)
        attacks += [replayed, with_beneficiaries(replayed)]
    if not attacks:
        raise TableError(
            f"{folder}: no known attacks (exploit_transactions.csv.gz, exploit_transfers.csv.gz), "
            "and no folder of replays: nothing to learn from"
        )
    return LabelledTransactions.of(background, attacks)


def load_replays(folder: Path) -> TransactionSet:
    """Replayed exploits that are in no other set, with `chain`, `date`, `protocol` and `classes`.

    Raises:
        TableError: the folder has none, or a file cannot be read.
    """
    path = folder / REPLAYS_FILE
    listed = read_table(path, ("tx_hash", "tx_from", "fresh", "chain", "date", "protocol"))
    rows = read_table(folder / REPLAY_TRANSFERS_FILE, ("tx_hash", "seq"))
    facts = listed[listed["fresh"].astype(bool)].rename(columns={"tx_from": "from_address"})
    found = TransactionSet.from_tables(facts, by_seq(rows), what=str(path))
    if len(found) == 0:
        raise TableError(f"{path}: no replay of an exploit that moves an ERC-20 token")
    return found


def with_beneficiaries(data: TransactionSet) -> TransactionSet:
    """The same transactions as if the account that gains most had sent each.

    A replay is sent by the account named in a write-up, or an invented one, and seldom forwards the
    loot to it: a model that is trained on that sender alone learns the replays.
    """
    batch = data.batch
    origin = batch.origin.copy()
    for row in range(len(data)):
        origin[row] = _beneficiary(batch, row)
    return TransactionSet(data.table, replace(batch, origin=origin))


def looks_like_arbitrage(data: TransactionSet, features: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which transactions move tokens as arbitrage does, shape (n,).

    Their sender is absent, they have three or more transfers, and call no known router. The facts
    have `to_address`; the features are columns as FEATURE_NAMES.
    """
    is_absent = features[:, FEATURE_NAMES.index("origin_absent")] > 0
    found: NDArray[np.bool_] = (
        is_absent & (data.n_transfers >= _ARBITRAGE_TRANSFERS) & ~to_router(data)
    )
    return found


def _beneficiary(batch: TransferBatch, row: int) -> int:
    """The account that ends richer of most tokens, less those of which it ends poorer."""
    net: dict[tuple[int, int], float] = {}
    for at in range(batch.offsets[row], batch.offsets[row + 1]):
        token, amount = int(batch.token[at]), float(batch.amount[at])
        for account, change in (
            (int(batch.sender[at]), -amount),
            (int(batch.recipient[at]), amount),
        ):
            net[account, token] = net.get((account, token), 0.0) + change
    gains: dict[int, int] = {}
    for (account, _), change in net.items():
        if account != 0:  # the zero address
            gains[account] = gains.get(account, 0) + (change > 0) - (change < 0)
    return max(gains, key=lambda account: gains[account], default=int(batch.origin[row]))
