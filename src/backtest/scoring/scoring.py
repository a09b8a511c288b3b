"""Features and scores of batches of transactions, with the kernel and the models of live handling.

Most traffic has the same few shapes, so each distinct row of inputs is scored once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.backtest.scoring.transactions import TransactionBatch
from src.datasets.fixed_bytes import distinct_rows
from src.detection.attack.model import AttackModel
from src.detection.features.definitions import TokenProfile, columns_of, read
from src.detection.forest.model import Model


@dataclass(frozen=True, slots=True)
class Scores:
    """One row per transaction; scores and percentiles are NaN if there is no score."""

    all_features: NDArray[np.float64]  # shape (n, len(FEATURE_NAMES)), of every transaction
    features: NDArray[np.float64]  # the model's inputs of those, shape (n, number of inputs)
    score: NDArray[np.float64]  # in [0, 1]
    percentile: NDArray[np.float64]  # share of training transactions with a lower score, in percent
    attack: NDArray[np.float64]  # attack score in [0, 1); NaN everywhere without an attack model
    # position, payer, payee: of the transfers between parties, see `Reading`.
    position: NDArray[np.int64]
    payer: NDArray[np.int32]
    payee: NDArray[np.int32]


class Scorer:
    """Scores batches. Thread-safe.

    Args:
        model: the isolation forest.
        attack: the attack model that was calibrated with it, or None.
    """

    def __init__(self, model: Model, attack: AttackModel | None = None) -> None:
        self.model = model
        self._attack = attack
        self._profile = TokenProfile.from_manifest(model.manifest)
        self._columns = columns_of(model.inputs)

    def score(self, batch: TransactionBatch) -> Scores:
        """Score a batch; a transaction without a sender has no score, as in live handling."""
        reading = read(batch.transfers, self._profile)
        all_features = reading.features()
        sides = reading.position, reading.payer, reading.payee
        del reading  # it holds both forms of the features
        features = np.ascontiguousarray(all_features[:, self._columns])
        number, rows = distinct_rows(features)
        distinct = self.model.score(rows)
        score, percentile = distinct[number], self.model.percentiles(distinct)[number]
        attack = self._attack_scores(all_features, score)
        for column in (score, percentile, attack):
            column[~batch.has_sender] = np.nan
        return Scores(all_features, features, score, percentile, attack, *sides)

    def _attack_scores(
        self, all_features: NDArray[np.float64], score: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        if self._attack is None or not len(score):
            return np.full(len(score), np.nan)
        number, rows = distinct_rows(all_features)
        score_of = np.empty(len(rows))
        score_of[number] = score
        scores = self._attack.scores(rows[:, columns_of(self._attack.inputs)], score_of)
        return np.asarray(scores)[number]
