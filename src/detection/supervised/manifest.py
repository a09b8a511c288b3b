"""The manifest beside a supervised model: what it is, what it needs, how to know that it is whole.

`fraud_model.npz` is described by `fraud_model.manifest.json`, which is parsed and validated before
a byte of the model file is looked at.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from src.detection.bundle_files import read_manifest_file
from src.detection.supervised.pipeline import CLASSIFIERS

FORMAT: Final = 1
KIND: Final = "supervised"


@dataclass(frozen=True, slots=True)
class FraudManifest:
    """Describes one trained supervised model.

    Attributes:
        model_version: when the model was made, Unix seconds.
        sha256: of the model file, hexadecimal.
        sklearn_version: that trained it; the installed one must be exactly this.
        classifier: one of `pipeline.CLASSIFIERS`.
        label: the column that it learnt to predict.
        inputs: names of the model's inputs, in the order of its columns.
        threshold: probabilities from here on are predicted as fraud.
        golden_rows: inputs of a few rows.
        golden_probabilities: their probabilities, by scikit-learn; the model must reproduce them.
        training: identity of the data, parameters and figures, for people.
    """

    model_version: int
    sha256: str
    sklearn_version: str
    classifier: str
    label: str
    inputs: tuple[str, ...]
    threshold: float
    golden_rows: tuple[tuple[float, ...], ...]
    golden_probabilities: tuple[float, ...]
    training: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Serialise; the same manifest gives the same bytes."""
        content = {"format": FORMAT, "kind": KIND, **asdict(self)}
        return json.dumps(content, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def read_fraud_manifest(model_path: Path, public_key: str | None = None) -> FraudManifest:
    """Read and validate the manifest of a supervised model file.

    Args:
        model_path: the model file; its manifest lies beside it.
        public_key: whose signature the manifest must carry, see `signature`; None for nobody's.

    Raises:
        ModelMissing: there is none.
        ModelTampered: it is not signed by that key.
        ModelMalformed: it is not valid; the message says why.
    """
    return read_manifest_file(model_path, public_key, _parse, command="train:fraud")


def _parse(content: Any) -> FraudManifest:
    if content["format"] != FORMAT or content["kind"] != KIND:
        raise ValueError(f"format {content['format']!r} of kind {content['kind']!r}")
    manifest = FraudManifest(
        model_version=int(content["model_version"]),
        sha256=str(content["sha256"]),
        sklearn_version=str(content["sklearn_version"]),
        classifier=str(content["classifier"]),
        label=str(content["label"]),
        inputs=tuple(str(name) for name in content["inputs"]),
        threshold=_finite("threshold", content["threshold"]),
        golden_rows=tuple(
            tuple(_finite("golden_rows", value) for value in row) for row in content["golden_rows"]
        ),
        golden_probabilities=tuple(
            _finite("golden_probabilities", p) for p in content["golden_probabilities"]
        ),
        training=dict(content["training"]),
    )
    if manifest.classifier not in CLASSIFIERS:
        raise ValueError(f"classifier {manifest.classifier!r} is none of {', '.join(CLASSIFIERS)}")
    if not 0 <= manifest.threshold <= 1:
        raise ValueError(f"threshold {manifest.threshold} is outside [0, 1]")
    if not manifest.inputs or len(set(manifest.inputs)) != len(manifest.inputs):
        raise ValueError("inputs are empty or repeat a name")
    if (
        not manifest.golden_rows
        or len(manifest.golden_rows) != len(manifest.golden_probabilities)
        or any(len(row) != len(manifest.inputs) for row in manifest.golden_rows)
    ):
        raise ValueError("golden rows, their probabilities and the inputs differ in number")
    return manifest


def _finite(name: str, value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} has a value that is not finite")
    return number
