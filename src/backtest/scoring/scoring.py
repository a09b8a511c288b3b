"""Features, scores, predictions and explanations of batches of transactions.

Uses the kernel and the model of live handling. Most traffic has the same few shapes (9,076 real
transactions have 504 distinct rows of inputs), and different rows often fall between the same
thresholds of all trees. Such rows form a *cell*, and each cell is scored once.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.backtest.kernels.columns import numbered
from src.backtest.kernels.words import cell_codes
from src.backtest.scoring.transactions import TransactionBatch
from src.detection.attack.model import AttackModel
from src.detection.attack.reputation import columns_of
from src.detection.features.definitions import FEATURE_NAMES, TokenProfile, feature_table
from src.detection.forest.model import Model
from src.detection.trees.trees import Trees

CELLS_REMEMBERED = 100_000
"""About 250 bytes each. A slice has some two thousand."""


@dataclass(frozen=True, slots=True)
class Scores:
    """One row per transaction; scores and percentiles are NaN if there is no score.

    Attributes:
        all_features: shape (n, len(FEATURE_NAMES)), of every transaction.
        features: the model's inputs of those, shape (n, number of inputs).
        score: in [0, 1].
        percentile: share of training transactions with a lower score, in percent.
        attack: attack score in [0, 1); NaN everywhere without an attack model.
        cell: number of the distinct cell of each row, and
        cell_names: what tells each cell from all others, in other batches too.
    """

    all_features: NDArray[np.float64]
    features: NDArray[np.float64]
    score: NDArray[np.float64]
    percentile: NDArray[np.float64]
    attack: NDArray[np.float64]
    cell: NDArray[np.intp]
    cell_names: list[bytes]


class Cells:
    """Groups rows that all trees treat alike.

    A tree only compares inputs, as float32, with thresholds. Rows between the same thresholds in
    every input take the same path through all trees, so their scores and Shapley values are
    bit-identical.
    """

    def __init__(self, trees: Trees) -> None:
        split_at = [np.unique(trees.threshold[trees.feature == i]) for i in range(trees.n_features)]
        self._thresholds = np.concatenate([np.zeros(0, np.float32), *split_at])
        self._starts = np.cumsum([0, *map(len, split_at)])

    def of(self, rows: NDArray[np.float64]) -> tuple[NDArray[np.intp], list[bytes]]:
        """The number of each row's cell, and the names of the cells.

        Rows that are not valid inputs (not finite as float32) have separate cells.
        """
        number, first = numbered(rows.view(np.uint64))
        codes = cell_codes(rows[first], self._thresholds, self._starts)
        names: NDArray[Any] = codes.view(f"V{codes.dtype.itemsize * codes.shape[1]}").ravel()
        place: dict[bytes, int] = {}
        cell = [place.setdefault(name, len(place)) for name in names.tolist()]
        return np.array(cell, np.intp)[number], list(place)


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
        self._columns = [FEATURE_NAMES.index(name) for name in model.inputs]
        self._cells = Cells(model.forest.trees)
        self._known: dict[bytes, float] = {}

    def score(self, batch: TransactionBatch) -> Scores:
        """Score a batch; a transaction without a sender has no score, as in live handling."""
        all_features = feature_table(batch.transfers, self._profile)
        features = all_features
        if self._columns != list(range(all_features.shape[1])):
            features = np.ascontiguousarray(all_features[:, self._columns])
        cell, names = self._cells.of(features)
        distinct = self._scores(features, cell, names)
        percentiles = self.model.percentiles(distinct)
        score, percentile = distinct[cell], percentiles[cell]
        attack = self._attack_scores(all_features, score)
        if not batch.has_sender.all():
            for column in (score, percentile, attack):
                column[~batch.has_sender] = np.nan
        return Scores(all_features, features, score, percentile, attack, cell, names)

    def _attack_scores(
        self, all_features: NDArray[np.float64], score: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Attack scores of all transactions; each distinct row is scored once."""
        if self._attack is None or not len(score):
            return np.full(len(score), np.nan)
        number, first = numbered(all_features.view(np.uint64))
        rows = all_features[first][:, columns_of(self._attack.inputs)]
        scores: NDArray[np.float64] = self._attack.scores(rows, score[first])[number]
        return scores

    def _scores(
        self, features: NDArray[np.float64], cell: NDArray[np.intp], names: list[bytes]
    ) -> NDArray[np.float64]:
        """The score of each cell."""
        known = self._known
        found = [known.get(name) for name in names]
        missing = [number for number, score in enumerate(found) if score is None]
        if missing:
            one_of = np.empty(len(names), np.intp)
            one_of[cell] = np.arange(len(cell))
            scores = self.model.score(features[one_of[missing]]).tolist()
            for number, score in zip(missing, scores, strict=True):
                found[number] = score
            fresh = {names[number]: score for number, score in zip(missing, scores, strict=True)}
            if len(known) + len(fresh) > CELLS_REMEMBERED:
                self._known = fresh
            else:
                known.update(fresh)
        return np.array(found, np.float64)
