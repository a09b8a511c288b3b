"""Scores of a set of transactions as a table."""

import numpy as np
import pandas as pd

from src.datasets.tables import TransactionSet
from src.detection.features.definitions import FEATURE_NAMES, TokenProfile, feature_table
from src.detection.forest.model import ANOMALY, NORMAL, Model


def score_set(model: Model, data: TransactionSet, *, threshold: float) -> pd.DataFrame:
    """Score the transactions of a set: `tx_hash`, score, percentile and prediction."""
    profile = TokenProfile.from_manifest(model.manifest)
    columns = [FEATURE_NAMES.index(name) for name in model.inputs]
    scores = model.score(feature_table(data.batch, profile)[:, columns])
    return pd.DataFrame(
        {
            "tx_hash": data.table["tx_hash"],
            "anomaly_score": scores,
            "anomaly_percentile": model.percentiles(scores),
            "prediction": np.where(scores >= threshold, ANOMALY, NORMAL),
        }
    )
