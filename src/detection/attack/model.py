"""The attack model: loading a verified bundle, the attack score, its explanation.

The attack score of a transaction is the share of background transactions that rank lower, see
`ranking.Calibration`. Unlike a probability it does not depend on how many attacks there were in
training, and a threshold on it is an alert budget: 0.996 flags 0.4% of the background.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from src.detection.attack.manifest import AttackManifest, read_attack_manifest
from src.detection.bundle_files import (
    check_golden,
    check_inputs,
    golden_outputs,
    read_vouched_file,
)
from src.detection.errors import ModelIncompatible, ModelMalformed
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import Model
from src.detection.npz import floats, ints, read_arrays
from src.detection.records import Attribution
from src.detection.trees.tree_shap import Explainer
from src.detection.trees.trees import Trees, model_rows

_GOLDEN_TOLERANCE: Final = 1e-9
_MAX_LEAF: Final = 1e9


@dataclass(frozen=True)
class AttackModel:
    """An attack model that has been verified and is ready to score."""

    manifest: AttackManifest  # describes it
    trees: Trees  # their sum and `offset` are the output
    offset: float  # a constant part of the output

    @property
    def version(self) -> str:
        """When the model was made, Unix seconds, as findings carry it."""
        return str(self.manifest.model_version)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in the order of the columns."""
        return self.manifest.inputs

    @cached_property
    def explainer(self) -> Explainer:
        """What explains the trees' output."""
        return Explainer.for_trees(self.trees, offset=self.offset)

    def outputs(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """The trees' outputs for rows of inputs, shape (n,); higher is more like an attack.

        Raises:
            InvalidInput: a value is missing, not finite, or too large for float32.
        """
        return self.trees.sums(model_rows(rows, self.inputs)) + self.offset

    def scores(
        self, rows: NDArray[np.float64], forest_scores: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Attack scores of rows of inputs, in [0, 1), shape (n,).

        Args:
            rows: shape (n, number of inputs), columns in the order of `inputs`.
            forest_scores: the isolation forest's scores of the same transactions, shape (n,).

        Raises:
            InvalidInput: a value is missing, not finite, or too large for float32.
        """
        return self.manifest.calibration.attack_scores(forest_scores, self.outputs(rows))

    def explain(self, row: NDArray[np.float64], most: int | None = None) -> list[Attribution]:
        """What each input adds to the trees' output, most weighty first, ties in their order.

        `output = explainer.base + sum of the weights of all`, exactly up to rounding.

        Args:
            row: shape (number of inputs,).
            most: how many inputs; None for all.

        Raises:
            InvalidInput: a value is missing, not finite, or too large for float32.
        """
        return self.explainer.attributions(row, self.inputs, most)


def load_attack_model(path: Path, forest: Model, *, public_key: str | None = None) -> AttackModel:
    """Load an attack model that its manifest vouches for, and prove that it scores as it should.

    Args:
        path: the .npz file; its manifest lies beside it.
        forest: the isolation forest in use.
        public_key: whose signature the manifest must carry, see `signature`; None if it needs none.

    Raises:
        ModelIncompatible: it needs inputs that this code does not compute, or was calibrated with
            another forest: its rankings say nothing about this one's scores.
        ModelMissing, ModelTampered, ModelMalformed: see `errors`.
    """
    manifest = read_attack_manifest(path, public_key)
    content = read_vouched_file(
        path, manifest.sha256, remedy="Train one with `npm run train:attack`."
    )
    check_inputs(manifest.inputs, FEATURE_NAMES, what=path.name, command="train:attack")
    model = verified(manifest, content)
    if manifest.forest_sha256 != forest.manifest.sha256:
        raise ModelIncompatible(
            f"{path.name} was calibrated with the isolation forest {manifest.forest_sha256[:12]}, "
            f"the one in use is {forest.manifest.sha256[:12]}: there is no attack score with it. "
            "Train an attack model for it with `npm run train:attack`."
        )
    return model


def verified(manifest: AttackManifest, content: bytes) -> AttackModel:
    """The model in the bytes of a model file, which must reproduce its golden rows.

    Raises:
        ModelMalformed: it does not, or is no .npz file of trees.
    """
    arrays = read_arrays(content)
    value = floats(arrays, "value")
    if not (np.abs(value) <= _MAX_LEAF).all():
        raise ModelMalformed("a leaf's value is impossible")
    trees = Trees.from_columns(
        len(manifest.inputs),
        offsets=ints(arrays, "offsets"),
        left=ints(arrays, "left"),
        right=ints(arrays, "right"),
        feature=ints(arrays, "feature"),
        threshold=floats(arrays, "threshold"),
        value=value,
        cover=floats(arrays, "cover"),
    )
    model = AttackModel(manifest, trees, float(floats(arrays, "offset", 0)))
    outputs = golden_outputs(model.outputs, np.array(manifest.golden_rows, np.float64))
    forest_scores = np.array(manifest.golden_forest_scores)
    scores = manifest.calibration.attack_scores(forest_scores, outputs)
    differences = [outputs - manifest.golden_outputs, scores - manifest.golden_attack_scores]
    check_golden(np.abs(differences).max(), _GOLDEN_TOLERANCE, what="the attack model")
    return model
