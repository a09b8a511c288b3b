"""Writes an attack model: the trees as plain arrays, and the manifest that vouches for them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.detection.attack.manifest import AttackManifest
from src.detection.attack.model import combine
from src.detection.attack.ranking import Ranking
from src.training.attack.fit import UNIT, attack_arrays, outputs_of
from src.training.bundle import golden_rows, write_files
from src.training.trees import npz_bytes


@dataclass(frozen=True, slots=True)
class Calibration:
    """What makes an attack score of two outputs."""

    # forest, trees, combined: rankings of the forest's score, of the trees' output and of their
    # combination among the same background transactions.
    forest: Ranking
    trees: Ranking
    combined: Ranking
    background: int  # how many they are

    @classmethod
    def of(cls, forest_scores: NDArray[np.float64], outputs: NDArray[np.float64]) -> "Calibration":
        """Calibrate on background, shape (n,), that neither model was fitted on."""
        forest, trees = Ranking.of(forest_scores), Ranking.of(outputs)
        combined = combine(forest.surprise(forest_scores), trees.surprise(outputs))
        return cls(forest, trees, Ranking.of(combined), len(outputs))

    def attack_scores(
        self, forest_scores: NDArray[np.float64], outputs: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Attack scores, shape (n,), as the model that is written will give them."""
        combined = combine(self.forest.surprise(forest_scores), self.trees.surprise(outputs))
        scores: NDArray[np.float64] = -np.expm1(-self.combined.surprise(combined))
        return scores


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
        forest_ranking=calibration.forest,
        trees_ranking=calibration.trees,
        combined_ranking=calibration.combined,
        background=calibration.background,
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
