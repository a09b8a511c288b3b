"""Writes a model bundle: the dill file of the forest, and its manifest."""

import hashlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dill
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from src.detection.bundle_files import manifest_path
from src.detection.features.reference_values import NO_VALUES, ReferenceValues
from src.detection.forest.manifest import Manifest, TokenAmounts
from src.files import write_file

GOLDEN_ROWS = 16
SCORE_QUANTILES = 1001


def write_bundle(
    path: Path,
    *,
    forest: IsolationForest,
    inputs: tuple[str, ...],
    training_rows: NDArray[np.float64],
    token_amounts: Mapping[str, TokenAmounts],
    anomaly_threshold: float,
    model_version: int,
    training: Mapping[str, Any],
    training_scores: NDArray[np.float64] | None = None,
    reference_values: ReferenceValues = NO_VALUES,
    chain_id: int = 1,
) -> Manifest:
    """Write the model file at `path` and its manifest next to it; return the manifest.

    The output is deterministic, and each file is written atomically. Golden rows are spread evenly
    over the distinct scores, so that they cover the whole range. They are taken from
    `training_rows`, float64. `training_scores` are behind the percentile, preferably cross-fitted,
    so that they are for unseen transactions; None for the forest's scores of those rows.
    `model_version` is in Unix seconds; `training` has JSON values only.
    """
    scores = np.abs(forest.score_samples(training_rows.astype(np.float32)))
    behind_percentile = scores if training_scores is None else training_scores
    # Among distinct scores, since most transactions have the same few shapes.
    _, distinct = np.unique(scores, return_index=True)
    golden = distinct[np.linspace(0, len(distinct) - 1, GOLDEN_ROWS).astype(int)]
    content = dill.dumps(forest, protocol=4)
    manifest = Manifest(
        model_version=model_version,
        sha256=hashlib.sha256(content).hexdigest(),
        sklearn_version=importlib.metadata.version("scikit-learn"),
        inputs=inputs,
        anomaly_threshold=anomaly_threshold,
        score_quantiles=tuple(
            np.quantile(behind_percentile, np.linspace(0, 1, SCORE_QUANTILES)).tolist()
        ),
        golden_rows=tuple(tuple(row) for row in training_rows[golden].tolist()),
        golden_scores=tuple(scores[golden].tolist()),
        token_amounts=token_amounts,
        training=training,
        reference_values=reference_values,
        chain_id=chain_id,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # The manifest last: until then, an earlier one rejects the new file because of its hash.
    write_file(path, content)
    write_file(manifest_path(path), manifest.to_json().encode())
    return manifest
