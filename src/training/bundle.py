"""Writes a model bundle: the dill file of the forest, and its manifest.

What the bundles of the other models share with it is here as well.
"""

import hashlib
import importlib.metadata
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from src.detection.bundle_files import manifest_path
from src.detection.features.reference_values import NO_VALUES, ReferenceValues
from src.detection.forest.forest_file import forest_content
from src.detection.forest.manifest import Manifest, TokenAmounts
from src.files import write_file

Arrays = dict[str, NDArray[Any]]

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

    The output is deterministic. Golden rows are taken from `training_rows`, float64.
    `training_scores` are behind the percentile, preferably cross-fitted, so that they are for
    unseen transactions; None for the forest's scores of those rows. `model_version` is in Unix
    seconds; `training` has JSON values only.
    """
    scores = np.abs(forest.score_samples(training_rows.astype(np.float32)))
    behind_percentile = scores if training_scores is None else training_scores
    golden = golden_rows(scores)
    content = forest_content(forest)
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
    write_files(path, content, manifest.to_json())
    return manifest


def golden_rows(outputs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Positions of the golden rows: spread evenly over the distinct outputs, lowest to highest."""
    # Among distinct outputs, since most transactions have the same few shapes.
    _, distinct = np.unique(outputs, return_index=True)
    places = np.linspace(0, len(distinct) - 1, min(GOLDEN_ROWS, len(distinct))).astype(int)
    golden: NDArray[np.int64] = distinct[places]
    return golden


def write_files(path: Path, content: bytes, manifest: str) -> None:
    """Write the model file at `path` and its manifest next to it, each atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The manifest last: until then, an earlier one rejects the new file because of its hash.
    write_file(path, content)
    write_file(manifest_path(path), manifest.encode())


def tree_columns(trees: Sequence[Any]) -> Arrays:
    """The structure of fitted trees (`estimator.tree_`), as `detection.trees` reads it."""
    sizes = [tree.node_count for tree in trees]
    return {
        "offsets": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        "left": np.concatenate([tree.children_left for tree in trees]).astype(np.int64),
        "right": np.concatenate([tree.children_right for tree in trees]).astype(np.int64),
        "feature": np.concatenate([tree.feature for tree in trees]).astype(np.int64),
        "threshold": np.concatenate([tree.threshold for tree in trees]).astype(np.float64),
    }


def npz_bytes(arrays: Arrays) -> bytes:
    """The bytes of an .npz file; the same arrays give the same bytes."""
    buffer = io.BytesIO()  # numpy stamps no time into the archive
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
