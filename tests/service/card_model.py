"""A model with the inputs of the card-fraud model: fraud is a large V1."""

from pathlib import Path

import numpy as np
from sklearn.base import clone

from src.training.supervised.bundle import write_fraud_bundle
from src.training.supervised.candidates import candidates

INPUTS = ("Time", *(f"V{number}" for number in range(1, 29)), "Amount")


def write_card_model(folder: Path) -> Path:
    """Train one and write it with its report; returns the model's path."""
    rows = np.random.default_rng(0).normal(size=(400, len(INPUTS)))
    labels = (rows[:, 1] > 1.0).astype(int)
    candidate = next(one for one in candidates(0) if one.name == "LogisticRegression")
    path = folder / "fraud_model.npz"
    write_fraud_bundle(
        path,
        name="LogisticRegression",
        pipeline=clone(candidate.pipeline()).fit(rows, labels),
        inputs=INPUTS,
        label="Class",
        threshold=0.5,
        training_rows=rows,
        model_version=1_650_000_000,
        training={"data": {"rows": 400}},
    )
    (folder / "report.md").write_text("# The report")
    return path
