"""Small bundles of each kind."""

from pathlib import Path

import numpy as np
from sklearn.ensemble import IsolationForest

from src.detection.bundle_files import FRAUD_MODEL_FILE
from src.detection.features.definitions import FEATURE_NAMES
from src.registry.bundle import (
    MODEL_FILE,
)
from src.training.bundle import write_bundle
from src.training.supervised.bundle import write_fraud_bundle
from src.training.supervised.candidates import candidates


def make_bundle(folder: Path, version: int) -> Path:
    rng = np.random.default_rng(version)
    rows = rng.exponential(size=(200, len(FEATURE_NAMES)))
    forest = IsolationForest(n_estimators=5, max_samples=32, random_state=version)
    forest.fit(rows.astype(np.float32))
    write_bundle(
        folder / MODEL_FILE,
        forest=forest,
        inputs=FEATURE_NAMES,
        training_rows=rows,
        token_amounts={},
        anomaly_threshold=0.6,
        model_version=version,
        training={"data": {"transactions": 200, "sha256": "ab"}},
    )
    return folder


def small_fraud_bundle(folder: Path, version: int) -> Path:
    """A logistic regression on two inputs."""
    rng = np.random.default_rng(version)
    rows = rng.normal(size=(200, 2))
    candidate = candidates(0)[1]
    write_fraud_bundle(
        folder / FRAUD_MODEL_FILE,
        name=candidate.name,
        pipeline=candidate.pipeline().fit(rows, (rows.sum(axis=1) > 1).astype(int)),
        inputs=("V1", "V2"),
        label="Class",
        threshold=0.5,
        training_rows=rows,
        model_version=version,
        training={"data": {"rows": 200}},
    )
    return folder
