"""Small attack models for tests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from src.detection.attack.ranking import Calibration
from src.detection.bundle_files import ATTACK_MODEL_FILE
from src.detection.forest.model import Model
from src.training.attack.bundle import write_attack_bundle
from src.training.attack.fit import AttackParameters, fit_trees, outputs_of

QUICK = AttackParameters(n_estimators=8)


def write_small_attack_model(
    forest: Model, inputs: Sequence[str] | None = None, folder: Path | None = None, seed: int = 0
) -> Path:
    """Write an attack model for a forest: attacks are what is odd in many inputs at once.

    Args:
        forest: what it is calibrated with.
        inputs: of the model; None for the forest's, of which it must have all.
        folder: where it goes.
        seed: of the invented rows.
    """
    names = tuple(inputs or forest.inputs)
    rng = np.random.default_rng(seed)
    shape = (2000, len(names))
    rows = np.round(rng.exponential(size=shape), 1) * (rng.random(shape) < 0.1)
    attacks = np.round(rng.exponential(size=(100, len(names))) + 1, 1)
    everything = np.concatenate([rows, attacks])
    classifier = fit_trees((rows, np.ones(len(rows))), (attacks, np.ones(len(attacks))), QUICK)
    forest_columns = [names.index(name) for name in forest.inputs]
    forest_scores = forest.score(everything[:, forest_columns])
    path = (folder or Path()) / ATTACK_MODEL_FILE
    write_attack_bundle(
        path,
        classifier=classifier,
        calibration=Calibration.of(forest_scores[: len(rows)], outputs_of(classifier, rows)),
        inputs=names,
        forest_sha256=forest.manifest.sha256,
        golden=everything,
        golden_forest_scores=forest_scores,
        model_version=1_660_000_000,
        training={},
    )
    return path
