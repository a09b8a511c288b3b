"""The files of a model's bundle, and their folders."""

from pathlib import Path

from src.detection.bundle_files import ATTACK_MODEL_FILE, manifest_path
from src.detection.signature import signature_path
from src.settings import DEFAULT_MODEL_PATH, PROJECT_ROOT

MODEL_FILE = DEFAULT_MODEL_PATH.name
MANIFEST_FILE = manifest_path(DEFAULT_MODEL_PATH).name
SIGNATURE_FILE = signature_path(Path(MANIFEST_FILE)).name
ATTACK_MANIFEST_FILE = manifest_path(Path(ATTACK_MODEL_FILE)).name
ATTACK_FILES = (
    ATTACK_MODEL_FILE,
    ATTACK_MANIFEST_FILE,
    signature_path(Path(ATTACK_MANIFEST_FILE)).name,
)
"""The attack model for the bundle's forest, where there is one."""
BLOCKS_FILE = "training_manifest.csv"
EVALUATION_FILE = "evaluation.json"
CARD_FILE = "MODEL_CARD.md"

_DOCUMENTS = (BLOCKS_FILE, EVALUATION_FILE, CARD_FILE)


def bundle_file(folder: Path, name: str) -> Path:
    """The path of a file of the bundle in `folder`.

    In the project, the root contains the model, its manifest and its signature, which the bot
    loads; the documents about the model are in `docs/model`. Elsewhere all files are in `folder`.
    """
    is_project = folder.resolve() == PROJECT_ROOT
    return (folder / "docs" / "model" if is_project and name in _DOCUMENTS else folder) / name
