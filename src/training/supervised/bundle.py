"""Writes a supervised model: the fitted pipeline as plain arrays, and its manifest."""

import hashlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from src.detection.supervised.manifest import FraudManifest
from src.training.bundle import Arrays, golden_rows, npz_bytes, tree_columns, write_files


def write_fraud_bundle(
    path: Path,
    *,
    name: str,
    pipeline: Pipeline,
    inputs: tuple[str, ...],
    label: str,
    threshold: float,
    training_rows: NDArray[np.float64],
    model_version: int,
    training: Mapping[str, Any],
) -> FraudManifest:
    """Write the model file at `path` and its manifest next to it; return the manifest.

    The output is deterministic. Golden rows are taken from `training_rows`, with missing values
    filled in.
    `model_version` is in Unix seconds; `training` has JSON values only.
    """
    filled = pipeline.named_steps["imputer"].transform(training_rows)
    probabilities = pipeline.predict_proba(filled)[:, 1]
    golden = golden_rows(probabilities)
    content = npz_bytes(pipeline_arrays(name, pipeline))
    manifest = FraudManifest(
        model_version=model_version,
        sha256=hashlib.sha256(content).hexdigest(),
        sklearn_version=importlib.metadata.version("scikit-learn"),
        classifier=name,
        label=label,
        inputs=inputs,
        threshold=threshold,
        golden_rows=tuple(tuple(row) for row in filled[golden].tolist()),
        golden_probabilities=tuple(probabilities[golden].tolist()),
        training=training,
    )
    write_files(path, content, manifest.to_json())
    return manifest


def pipeline_arrays(name: str, pipeline: Pipeline) -> Arrays:
    """The arrays of a fitted pipeline, as listed in `detection.supervised.pipeline`."""
    scaler = pipeline.named_steps["scaler"]
    classifier = pipeline.named_steps["classifier"]
    arrays: Arrays = {
        "classifier": np.array(name),
        "impute": _floats(pipeline.named_steps["imputer"].statistics_),
        "mean": _floats(scaler.mean_),
        "scale": _floats(scaler.scale_),
    }
    match name:
        case "LogisticRegression":
            arrays["coefficients"] = _floats(classifier.coef_[0])
            arrays["intercept"] = _floats(classifier.intercept_[0])
        case "SVM":
            arrays |= _support_vectors(classifier)
        case "DecisionTree":
            arrays |= _trees([classifier.tree_])
        case "RandomForest":
            arrays |= _trees([tree.tree_ for tree in classifier.estimators_])
        case _:
            raise ValueError(f"no arrays are known for a {name}")
    return arrays


def _support_vectors(classifier: Any) -> Arrays:
    (calibrated,) = classifier.calibrated_.calibrated_classifiers_
    (sigmoid,) = calibrated.calibrators
    machine = calibrated.estimator
    return {
        "support": _floats(machine.support_vectors_),
        "dual": _floats(machine.dual_coef_[0]),
        "intercept": _floats(machine.intercept_[0]),
        "gamma": _floats(machine._gamma),
        "sigmoid": _floats([sigmoid.a_, sigmoid.b_]),
    }


def _trees(trees: list[Any]) -> Arrays:
    shares = np.concatenate([tree.value[:, 0, 1] for tree in trees])
    return {**tree_columns(trees), "fraud": _floats(shares)}


def _floats(values: Any) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)
