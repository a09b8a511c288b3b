"""The kinds of bundles: their files, and how each is proved to be whole.

`forest` holds the isolation forest and, where there is one, the attack model that was calibrated
with it: the two are added, promoted and fetched together. `fraud` holds a supervised model.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from src.detection.attack.manifest import AttackManifest
from src.detection.bundle_files import (
    ATTACK_MODEL_FILE,
    DRIFT_FILE,
    FRAUD_MODEL_FILE,
    REPORT_FILE,
    manifest_path,
)
from src.detection.forest.manifest import Manifest
from src.detection.signature import signature_path
from src.files import reason
from src.registry.drift_reference import parse_sample
from src.settings import DEFAULT_MODEL_PATH, PROJECT_ROOT

if TYPE_CHECKING:  # imports the kernel
    from src.detection.supervised.manifest import FraudManifest


def _with_manifest(model: str) -> tuple[str, str, str]:
    """A model file, its manifest and the manifest's signature."""
    manifest = manifest_path(Path(model))
    return model, manifest.name, signature_path(manifest).name


FOREST_FILES = _with_manifest(DEFAULT_MODEL_PATH.name)
ATTACK_FILES = _with_manifest(ATTACK_MODEL_FILE)
FRAUD_FILES = _with_manifest(FRAUD_MODEL_FILE)
MODEL_FILE, MANIFEST_FILE, SIGNATURE_FILE = FOREST_FILES
ATTACK_MANIFEST_FILE = ATTACK_FILES[1]
BLOCKS_FILE: Final = "training_manifest.csv"
EVALUATION_FILE: Final = "evaluation.json"
CARD_FILE: Final = "MODEL_CARD.md"
REPORT_FILES: Final = (
    REPORT_FILE,
    "report.json",
    "comparison.png",
    "confusion_matrix.png",
    "precision_recall.png",
)
"""What `npm run train:fraud` writes about a model."""

_DOCUMENTS = (BLOCKS_FILE, EVALUATION_FILE, CARD_FILE)
_DIGEST_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Proved:
    """What a bundle that loads says of itself."""

    id: str  # `<model_version>-<12 digits of a digest of its models>`
    model_version: int  # creation time of the model, Unix seconds
    data: Mapping[str, Any]  # identity of the training data, from the manifest
    attack_version: str = ""  # of the attack model beside the forest, "" for none


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of bundle."""

    name: str  # as commands have it
    folder: str  # prefix of its names in the store
    required: tuple[str, str]  # the model file and its manifest
    optional: tuple[str, ...]  # other files that belong to it
    setting: str  # the variable that names such a model
    first: str  # the command that adds the first one
    # Loads the bundle in a folder as its users would, with a public key or None; raises ModelError.
    prove: Callable[[Path, str | None], Proved]

    @property
    def model_file(self) -> str:
        """The name of the model file."""
        return self.required[0]

    @property
    def manifest_file(self) -> str:
        """The name of the manifest."""
        return self.required[1]

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of a bundle."""
        return (*self.required, *self.optional)


def bundle_file(folder: Path, name: str) -> Path:
    """The path of a file of the bundle in `folder`.

    In the project, the root contains the model, its manifest and its signature, which the bot
    loads; the documents about the model are in `docs/model`. Elsewhere all files are in `folder`.
    """
    is_project = folder.resolve() == PROJECT_ROOT
    return (folder / "docs" / "model" if is_project and name in _DOCUMENTS else folder) / name


def problem_beside(kind: Kind, contents: Mapping[str, bytes], proved: Proved) -> str:
    """What is wrong with the documents that lie beside a model, "" for nothing.

    A drift reference of another model would end every drift check of the service.
    """
    try:
        if EVALUATION_FILE in contents:
            figures = dict(json.loads(contents[EVALUATION_FILE]))
            model = hashlib.sha256(contents[kind.model_file]).hexdigest()
            if figures.get("model_sha256", model) != model:
                return f"{EVALUATION_FILE} is of another model"
        if DRIFT_FILE in contents:
            sample = parse_sample(contents[DRIFT_FILE].decode())
            versions = {sample.attack_version, proved.attack_version} - {""}
            if sample.model_version != str(proved.model_version) or len(versions) > 1:
                return f"{DRIFT_FILE} is of another model"
    except (ValueError, TypeError) as error:
        return f"the evaluation or the drift reference beside it cannot be read: {reason(error)}"
    return ""


def forest_id(forest: Manifest, attack: AttackManifest | None) -> str:
    """The id of a bundle: the forest's version, and a digest of its models."""
    digest = forest.sha256
    if attack is not None:
        digest = hashlib.sha256(repr((forest.sha256, attack.identity)).encode()).hexdigest()
    return f"{forest.model_version}-{digest[:_DIGEST_DIGITS]}"


def fraud_id(manifest: "FraudManifest") -> str:
    """The id of a bundle of a supervised model: its version, and a digest of it."""
    digest = hashlib.sha256(repr((manifest.sha256, manifest.threshold)).encode()).hexdigest()
    return f"{manifest.model_version}-{digest[:_DIGEST_DIGITS]}"


def _prove_forest(folder: Path, public_key: str | None) -> Proved:
    # Here, as a registry is mostly read, which needs no kernel.
    from src.detection.attack.model import load_attack_model  # noqa: PLC0415
    from src.detection.features.definitions import FEATURE_NAMES  # noqa: PLC0415
    from src.detection.forest.model import load_model  # noqa: PLC0415

    model = load_model(folder / MODEL_FILE, FEATURE_NAMES, public_key=public_key)
    attack, version = None, ""
    if any((folder / name).exists() for name in ATTACK_FILES):
        path = folder / ATTACK_MODEL_FILE
        attack = load_attack_model(path, model, public_key=public_key).manifest
        version = str(attack.model_version)
    manifest = model.manifest
    data = dict(manifest.training.get("data", {}))
    return Proved(forest_id(manifest, attack), manifest.model_version, data, version)


def _prove_fraud(folder: Path, public_key: str | None) -> Proved:
    from src.detection.supervised.model import load_fraud_model  # noqa: PLC0415  as above

    manifest = load_fraud_model(folder / FRAUD_MODEL_FILE, public_key=public_key).manifest
    data = dict(manifest.training.get("data", {}))
    return Proved(fraud_id(manifest), manifest.model_version, data)


FOREST = Kind(
    "forest",
    "",
    FOREST_FILES[:2],
    (FOREST_FILES[2], *ATTACK_FILES, EVALUATION_FILE, BLOCKS_FILE, DRIFT_FILE),
    "MODEL_PATH",
    "npm run models -- add . --promote",
    _prove_forest,
)
FRAUD = Kind(
    "fraud",
    "fraud/",
    FRAUD_FILES[:2],
    (FRAUD_FILES[2], EVALUATION_FILE, *REPORT_FILES, DRIFT_FILE),
    "FRAUD_MODEL_PATH",
    "npm run models -- add fraud_model --kind fraud --promote",
    _prove_fraud,
)
KINDS: Mapping[str, Kind] = MappingProxyType({"forest": FOREST, "attack": FOREST, "fraud": FRAUD})
"""By the names that commands take; an attack model is in the bundle of its forest."""
