"""Small fitted forests for tests."""

import dill
import numpy as np
from sklearn.ensemble import IsolationForest

from src.detection.forest.forest_file import read_forest


def fitted(rows, **parameters):
    parameters = {"n_estimators": 25, "max_samples": 256, "random_state": 7, **parameters}
    return IsolationForest(**parameters).fit(rows)


def flattened(model):
    return read_forest(dill.dumps(model))


def training_rows(seed=0, n=3000, columns=9):
    rng = np.random.default_rng(seed)
    rows = rng.lognormal(size=(n, columns))
    rows[:, 0] = rng.integers(0, 4, n)  # ties, as counts have
    rows[:, 1] = 0.5  # a constant column is never split on
    return rows.astype(np.float32)
