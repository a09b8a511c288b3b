"""A model trained once, and copies of it that a test may break."""

from pathlib import Path

import pytest

from src.detection.bundle_files import FRAUD_MODEL_FILE as MODEL_FILE
from src.detection.bundle_files import manifest_path
from tests.training.supervised.data import labelled, run


@pytest.fixture(scope="package")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(labelled(), tmp_path_factory.mktemp("fraud"))


@pytest.fixture
def bundle(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    for path in (trained / MODEL_FILE, manifest_path(trained / MODEL_FILE)):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path / MODEL_FILE
