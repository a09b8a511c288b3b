"""Fits the model: selects transactions, fits token amounts and the forest, cross-fits scores.

The only randomness is the forest's seed: transactions are chosen by digits of their hashes, folds
by a digest of their block numbers. So the same transactions give the same model in any order.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from src.datasets.tables import TransactionSet
from src.detection.features.definitions import (
    FOREST_INPUTS,
    TokenProfile,
    columns_of,
    feature_table,
)
from src.detection.forest.manifest import TokenAmounts
from src.training.hyperparameters import Hyperparameters
from src.training.reference_values import load_reference_values

logger = logging.getLogger(__name__)

_NORMAL_CONSISTENCY = 1.4826  # MAD to standard deviation, of a normal distribution


@dataclass(frozen=True, slots=True)
class FittedModel:
    """A fitted forest with the token amounts behind its features."""

    forest: IsolationForest  # fitted, float32 rows of the chosen features
    token_amounts: dict[str, TokenAmounts]  # training amounts of known tokens, by address, sorted
    profile_rows: NDArray[np.int64]  # the transactions behind `token_amounts`
    forest_rows: NDArray[np.int64]  # the transactions that the forest was fitted on
    columns: NDArray[np.int64]  # the features that the forest reads, by position

    @property
    def profile(self) -> TokenProfile:
        """What the model knows of tokens."""
        return TokenProfile.from_amounts(self.token_amounts, load_reference_values())

    def table(self, data: TransactionSet) -> NDArray[np.float64]:
        """Every feature of other transactions as this model sees it, columns as FEATURE_NAMES."""
        return feature_table(data.batch, self.profile)

    def features(self, data: TransactionSet) -> NDArray[np.float64]:
        """Those that the forest reads."""
        chosen: NDArray[np.float64] = self.table(data)[:, self.columns]
        return chosen

    def score(self, data: TransactionSet) -> NDArray[np.float64]:
        """Anomaly scores of other transactions."""
        return scores_of(self.forest, self.features(data))


def scores_of(forest: IsolationForest, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Anomaly scores, in [0, 1], near 1 = anomalous."""
    scores: NDArray[np.float64] = np.abs(forest.score_samples(rows.astype(np.float32)))
    return scores


def fit(
    data: TransactionSet,
    parameters: Hyperparameters,
    *,
    allowed: NDArray[np.bool_] | None = None,
    features: Sequence[str] = FOREST_INPUTS,
    jobs: int = 1,
) -> FittedModel:
    """Fit the model on the allowed transactions of a set.

    `allowed` says which may be seen, shape (n,); None for all. `jobs` does not change the result.

    Raises:
        ValueError: fewer than two transactions remain after the selection.
    """
    profile_rows, forest_rows = select_rows(data, parameters, allowed)
    if len(forest_rows) < 2:
        raise ValueError(
            f"only {len(forest_rows)} transactions to fit on: record more blocks, with at least a "
            "few hundred token-transfer transactions"
        )
    token_amounts = profile_tokens(data, profile_rows, parameters)
    profile = TokenProfile.from_amounts(token_amounts, load_reference_values())
    columns = columns_of(features)
    table = feature_table(data.batch, profile)[np.ix_(forest_rows, columns)]
    forest = IsolationForest(
        n_estimators=parameters.n_estimators,
        max_samples=min(parameters.max_samples, len(forest_rows)),
        max_features=parameters.max_features,
        random_state=parameters.random_state,
        n_jobs=jobs,
    )
    forest.fit(table.astype(np.float32))
    forest.set_params(n_jobs=None)  # not part of the fitted model
    return FittedModel(forest, token_amounts, profile_rows, forest_rows, columns)


def select_rows(
    data: TransactionSet, parameters: Hyperparameters, allowed: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows for the token amounts and rows for the forest, each in order of the hash."""
    hashes = data.table["tx_hash"].tolist()
    permitted = np.ones(len(data), dtype=bool) if allowed is None else allowed
    is_capped = (data.table["source"] == parameters.capped_source).to_numpy(dtype=bool)
    others = np.flatnonzero(permitted & ~is_capped)
    capped = np.flatnonzero(permitted & is_capped)
    share = parameters.capped_source_share
    limit = int(share / (1 - share) * len(others)) if len(others) else len(capped)
    draw = np.array([int(hashes[row][-8:], 16) for row in capped], dtype=np.int64)
    capped = capped[np.argsort(draw, kind="stable")][:limit]
    profile_rows = np.sort(np.concatenate([others, capped]))
    # The cap uses the last digits of the hash; the digits before them decide the thinning.
    keep = parameters.single_transfer_share * 2**32
    thinned = np.array([int(hashes[row][-16:-8], 16) < keep for row in profile_rows], dtype=bool)
    is_single = data.n_transfers[profile_rows] == 1
    return profile_rows, profile_rows[~is_single | thinned]


def profile_tokens(
    data: TransactionSet, rows: NDArray[np.int64], parameters: Hyperparameters
) -> dict[str, TokenAmounts]:
    """Median and robust scale of log10(raw amount) of the tokens' positive transfers."""
    batch = data.batch
    chosen = np.zeros(len(data), dtype=bool)
    chosen[rows] = True
    moved = chosen[batch.owner] & (batch.amount > 0)
    table = pd.DataFrame({"token": batch.token[moved], "amount": np.log10(batch.amount[moved])})
    known = {}
    for token, amounts in table.groupby("token")["amount"]:
        if len(amounts) >= parameters.min_token_transfers:
            center = float(amounts.median())
            scale = _NORMAL_CONSISTENCY * float((amounts - center).abs().median())
            address = batch.token_addresses[int(str(token))]
            known[address] = TokenAmounts(center, max(parameters.min_token_scale, scale))
    return dict(sorted(known.items()))


def fold_of_blocks(data: TransactionSet, folds: int) -> NDArray[np.int64]:
    """Each transaction's fold; blocks are not split."""
    digests = {
        block: int.from_bytes(hashlib.sha256(str(block).encode()).digest(), "big") % folds
        for block in data.table["block_number"].unique().tolist()
    }
    return np.array([digests[block] for block in data.table["block_number"].tolist()])


@dataclass(frozen=True, slots=True)
class CrossFit:
    """Models fitted without one fold each, and their scores of that fold's transactions."""

    fold: NDArray[np.int64]  # each transaction's fold
    models: dict[int, FittedModel]  # by fold
    scores: NDArray[np.float64]  # each transaction's score by the model fitted without its block

    def table(self, data: TransactionSet) -> NDArray[np.float64]:
        """The first model's: models differ in the features that judge amounts alone."""
        return next(iter(self.models.values())).table(data)

    def score(self, data: TransactionSet) -> NDArray[np.float64]:
        """Scores of transactions outside the set: the mean over the models."""
        by_model = [model.score(data) for model in self.models.values()]
        mean: NDArray[np.float64] = np.mean(by_model, axis=0)
        return mean


def cross_fit(
    data: TransactionSet,
    parameters: Hyperparameters,
    *,
    features: Sequence[str] = FOREST_INPUTS,
    jobs: int = 1,
) -> CrossFit:
    """Score every transaction by a model that was fitted on the other folds' blocks.

    Raises:
        ValueError: all transactions are in one fold.
    """
    fold = fold_of_blocks(data, parameters.folds)
    present = np.unique(fold)
    if len(present) < 2:
        raise ValueError("the transactions are from too few blocks to cross-fit scores")
    models = {}
    scores = np.zeros(len(data))
    for held_out in present.tolist():
        logger.info("cross-fitting, fold %d", held_out)
        allowed = fold != held_out
        model = fit(data, parameters, allowed=allowed, features=features, jobs=jobs)
        scores[fold == held_out] = model.score(data)[fold == held_out]
        models[held_out] = model
    return CrossFit(fold, models, scores)
