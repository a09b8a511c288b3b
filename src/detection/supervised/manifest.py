"""The manifest beside a supervised model: what it is, what it needs, how to know that it is whole.

`fraud_model.npz` is described by `fraud_model.manifest.json`, which is parsed and validated before
a byte of the model file is looked at.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from src.detection.bundle_files import (
    common_fields,
    manifest_text,
    read_manifest_file,
    share,
)
from src.detection.supervised.pipeline import CLASSIFIERS

FORMAT: Final = 1
KIND: Final = "supervised"


@dataclass(frozen=True, slots=True)
class FraudManifest:
    """Describes one trained supervised model."""

    model_version: int  # when the model was made, Unix seconds
    sha256: str  # of the model file, hexadecimal
    sklearn_version: str  # that trained it; the installed one must be exactly this
    classifier: str  # one of `pipeline.CLASSIFIERS`
    label: str  # the column that it learnt to predict
    inputs: tuple[str, ...]  # names of the model's inputs, in the order of its columns
    threshold: float  # probabilities from here on are predicted as fraud
    golden_rows: tuple[tuple[float, ...], ...]  # inputs of a few rows
    # Their probabilities, by scikit-learn; the model must reproduce them.
    golden_probabilities: tuple[float, ...]
    # Identity of the data, parameters and figures, for people.
    training: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Serialise; the same manifest gives the same bytes."""
        content = {"format": FORMAT, "kind": KIND, **asdict(self)}
        return manifest_text(content)


def read_fraud_manifest(model_path: Path, public_key: str | None = None) -> FraudManifest:
    """Read and validate the manifest beside a supervised model file, see `read_manifest_file`."""
    return read_manifest_file(model_path, public_key, _parse, command="train:fraud")


def _parse(content: Any) -> FraudManifest:
    if content["format"] != FORMAT or content["kind"] != KIND:
        raise ValueError(f"format {content['format']!r} of kind {content['kind']!r}")
    manifest = FraudManifest(
        **common_fields(content, "golden_probabilities"),
        sklearn_version=str(content["sklearn_version"]),
        classifier=str(content["classifier"]),
        label=str(content["label"]),
        threshold=share("threshold", content["threshold"]),
    )
    if manifest.classifier not in CLASSIFIERS:
        raise ValueError(f"classifier {manifest.classifier!r} is none of {', '.join(CLASSIFIERS)}")
    return manifest
