"""The manifest beside an attack model: what it is, what it was calibrated with, how to verify it.

`attack_model.npz` is described by `attack_model.manifest.json`, which is parsed and validated
before a byte of the model file is looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from src.detection.attack.ranking import Calibration, Ranking
from src.detection.bundle_files import (
    common_fields,
    finite,
    manifest_text,
    read_manifest_file,
)

FORMAT: Final = 1
KIND: Final = "attack"

_RANKINGS: Final = ("forest", "trees", "combined")


@dataclass(frozen=True, slots=True)
class AttackManifest:
    """Describes one trained attack model."""

    model_version: int  # when the model was made, Unix seconds
    sha256: str  # of the model file, hexadecimal
    forest_sha256: str  # of the isolation forest that it was calibrated with
    inputs: tuple[str, ...]  # names of the model's inputs, in the order of its columns
    unit: str  # of the trees' output and its explanation, for people ("log-odds", ...)
    calibration: Calibration  # from the outputs of both models to an attack score
    golden_rows: tuple[tuple[float, ...], ...]  # inputs of a few rows
    # The trees' outputs for them, by scikit-learn; the model must reproduce them.
    golden_outputs: tuple[float, ...]
    golden_forest_scores: tuple[float, ...]  # a forest's score for each of them, and
    golden_attack_scores: tuple[float, ...]  # the attack scores that follow
    # Identity of the data, parameters and figures, for people.
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[int, str, str]:
        """What tells it from every other: version, model and forest."""
        return self.model_version, self.sha256, self.forest_sha256

    def to_json(self) -> str:
        """Serialise; the same manifest gives the same bytes."""
        content: dict[str, Any] = {"format": FORMAT, "kind": KIND}
        for name in AttackManifest.__slots__:
            value = getattr(self, name)
            content |= _flat(value) if isinstance(value, Calibration) else {name: value}
        return manifest_text(content)


def read_attack_manifest(model_path: Path, public_key: str | None = None) -> AttackManifest:
    """Read and validate the manifest beside an attack model file, see `read_manifest_file`."""
    return read_manifest_file(model_path, public_key, _parse, command="train:attack")


def _parse(content: Any) -> AttackManifest:
    if content["format"] != FORMAT or content["kind"] != KIND:
        raise ValueError(f"format {content['format']!r} of kind {content['kind']!r}")
    return AttackManifest(
        **common_fields(content, "golden_outputs", "golden_forest_scores", "golden_attack_scores"),
        forest_sha256=str(content["forest_sha256"]),
        unit=str(content["unit"]),
        calibration=Calibration(
            **{name: _ranking(content[f"{name}_ranking"]) for name in _RANKINGS},
            background=int(content["background"]),
        ),
    )


def _flat(calibration: Calibration) -> dict[str, Any]:
    rankings = {name: getattr(calibration, name) for name in _RANKINGS}
    return {
        **{
            f"{name}_ranking": {"values": one.values.tolist(), "surprises": one.surprises.tolist()}
            for name, one in rankings.items()
        },
        "background": calibration.background,
    }


def _ranking(content: Any) -> Ranking:
    columns = (np.array(finite("a ranking", content[key])) for key in ("values", "surprises"))
    return Ranking(*columns)
