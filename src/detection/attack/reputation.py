"""The attack score without the free text of unknown tokens.

A contract that the attacker has just deployed may emit any Transfer event, naming anybody. So the
attack score is the larger of the score of all transfers and of those of tokens with a reputation,
where any are left: events of unknown tokens can raise it and never lower it.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.detection.attack.model import AttackModel
from src.detection.features.batch import TransferBatch
from src.detection.features.definitions import TokenProfile, columns_of, feature_table
from src.detection.forest.model import Model


def known_parts(
    batch: TransferBatch, unknown: Collection[str]
) -> tuple[TransferBatch, NDArray[np.int64]]:
    """The table form of `evidence.credible`: what is left of transactions with unknown tokens.

    Returns:
        What is left of those that keep some of their transfers, but not all, and their positions.
    """
    is_known = np.array([token not in unknown for token in batch.token_addresses], bool)
    kept = is_known[batch.token]
    left = batch.count(kept)
    wanted = (left > 0) & (left < batch.n_transfers)
    return batch.part(kept, wanted), np.flatnonzero(wanted)


class ScoredTable(NamedTuple):
    """Attack scores of a batch."""

    scores: NDArray[np.float64]  # shape (n,)
    rows: NDArray[np.float64]  # the attack model's inputs behind each, shape (n, number of inputs)


def score_table(
    attack: AttackModel,
    forest: Model,
    batch: TransferBatch,
    *,
    unknown: Collection[str] = frozenset(),
) -> ScoredTable:
    """Attack scores of a batch, as live handling gives them.

    Args:
        attack: the attack model.
        forest: the isolation forest that it was calibrated with.
        batch: the transactions.
        unknown: tokens without a reputation.
    """
    profile = TokenProfile.from_manifest(forest.manifest)

    def scored(some: TransferBatch) -> ScoredTable:
        table = feature_table(some, profile)
        rows = table[:, columns_of(attack.inputs)]
        return ScoredTable(
            attack.scores(rows, forest.score(table[:, columns_of(forest.inputs)])), rows
        )

    whole = scored(batch)
    if unknown:
        part, positions = known_parts(batch, unknown)
        known = scored(part)
        higher = known.scores > whole.scores[positions]
        whole.scores[positions[higher]] = known.scores[higher]
        whole.rows[positions[higher]] = known.rows[higher]
    return whole
