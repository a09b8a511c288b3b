"""Writes an attack model: the trees as plain arrays, and the manifest that vouches for them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.detection.attack.manifest import AttackManifest
from src.detection.attack.ranking import Calibration
from src.training.attack.fit import UNIT, attack_arrays, outputs_of
from src.training.bundle import golden_rows, npz_bytes, write_files


def write_attack_bundle(
    path: Path,
    *,
    classifier: Any,
    calibration: Calibration,
    inputs: tuple[str, ...],
    forest_sha256: str,
    golden: NDArray[np.float64],
    golden_forest_scores: NDArray[np.float64],
    model_version: int,
    training: Mapping[str, Any],
) -> AttackManifest:
    """Write the model file at `path` and its manifest beside it; return the manifest.

    The same arguments give the same bytes. Golden rows are taken from `golden`, shape
    (n, len(inputs)), which the forest scores as `golden_forest_scores`. `model_version` is in Unix
    seconds; `training` has JSON values only.
    """
    outputs = outputs_of(classifier, golden)
    rows = golden_rows(outputs)
    content = npz_bytes(attack_arrays(classifier))
    manifest = AttackManifest(
        model_version=model_version,
        sha256=hashlib.sha256(content).hexdigest(),
        forest_sha256=forest_sha256,
        inputs=inputs,
        unit=UNIT,
        calibration=calibration,
        golden_rows=tuple(tuple(row) for row in golden[rows].tolist()),
        golden_outputs=tuple(outputs[rows].tolist()),
        golden_forest_scores=tuple(golden_forest_scores[rows].tolist()),
        golden_attack_scores=tuple(
            calibration.attack_scores(golden_forest_scores[rows], outputs[rows]).tolist()
        ),
        training=training,
    )
    write_files(path, content, manifest.to_json())
    return manifest
