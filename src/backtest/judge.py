"""What the bot says of a batch of transactions: features, scores, predictions, explanations.

The same kernel and the same model as in live handling. Most traffic is the same few shapes (9,076
real transactions have 504 distinct rows of inputs), so each distinct row is scored once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.backtest.assemble import TransactionBatch
from src.backtest.columns import numbered
from src.detection.features import FEATURE_NAMES, TokenProfile, feature_table
from src.detection.model import Model


@dataclass(frozen=True, slots=True)
class Scores:
    """One row a transaction; `score` and `percentile` are NaN where there is no score.

    Attributes:
        all_features: shape (n, len(FEATURE_NAMES)), of every transaction.
        features: the model's inputs of those, shape (n, number of inputs).
        score: in [0, 1].
        percentile: share of training transactions with a lower score, in percent.
        shape: number of the distinct row of features.
    """

    all_features: NDArray[np.float64]
    features: NDArray[np.float64]
    score: NDArray[np.float64]
    percentile: NDArray[np.float64]
    shape: NDArray[np.int32]


class Scorer:
    """Scores batches. Thread-safe."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._profile = TokenProfile.from_amounts(model.manifest.token_amounts)
        self._columns = [FEATURE_NAMES.index(name) for name in model.inputs]

    def score(self, batch: TransactionBatch) -> Scores:
        """Score a batch; a transaction without a sender has no score, as in live handling."""
        all_features = feature_table(batch.transfers, self._profile)
        features = np.ascontiguousarray(all_features[:, self._columns])
        shape, first = numbered(features.view(np.uint64))
        distinct = self.model.score(features[first])
        percentiles = self.model.percentiles(distinct)
        score = np.where(batch.has_sender, distinct[shape], np.nan)
        percentile = np.where(batch.has_sender, percentiles[shape], np.nan)
        return Scores(all_features, features, score, percentile, shape)
