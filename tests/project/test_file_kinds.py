"""Files of the wrong kind or size are refused before they are read: a pipe would never end."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from src.chain.names.labels import AddressListError
from src.chain.recording.format import Recording, RecordingError
from src.datasets.store import open_store
from src.datasets.tables import TableError
from src.decision.address_list import AddressList
from src.decision.policy_file import load_policy
from src.detection.bundle_files import DRIFT_FILE
from src.detection.errors import ModelMalformed
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import load_model
from src.detection.policy import PolicyError
from src.detection.signature import problem_with
from src.files import read_file
from src.registry.drift_reference import read_reference
from src.settings import PROJECT_ROOT

MODEL = PROJECT_ROOT / "isolation_forest.pkl"
MANIFEST = PROJECT_ROOT / "isolation_forest.manifest.json"


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(20 * 2**30)


@pytest.fixture(params=[folder, pipe, device, sparse], ids=lambda make: make.__name__)
def make(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    maker: Callable[[Path], None] = request.param
    return maker


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read_file(file, 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_file(file, 4)


def test_a_model_must_be_a_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    shutil.copy(MANIFEST, tmp_path)
    make(tmp_path / MODEL.name)
    with pytest.raises(ModelMalformed, match=r"(?i)directory|regular file|larger than"):
        load_model(tmp_path / MODEL.name, available_inputs=FEATURE_NAMES)


def test_a_manifest_must_be_a_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    shutil.copy(MODEL, tmp_path)
    make(tmp_path / MANIFEST.name)
    with pytest.raises(ModelMalformed, match=r"(?i)directory|regular file|larger than"):
        load_model(tmp_path / MODEL.name, available_inputs=FEATURE_NAMES)


def test_a_policy_must_be_a_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "policy.yaml")
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(tmp_path / "policy.yaml")


def test_a_list_of_addresses_must_be_a_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "list")
    with pytest.raises(AddressListError):
        AddressList(str(tmp_path / "list"), refresh_seconds=3600.0)


def test_a_signature_must_be_a_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "file.sig")
    problem = problem_with(tmp_path / "file", b"", "00" * 32)
    assert problem is not None
    assert "cannot be read" in problem
    assert not stat.S_ISREG((tmp_path / "file.sig").lstat().st_mode) or "larger" in problem


def test_a_manifest_of_data_must_be_a_file(tmp_path: Path) -> None:
    sparse(tmp_path / "recording.json")
    with pytest.raises(RecordingError, match="larger than"):
        Recording(tmp_path)
    sparse(tmp_path / "store.json")
    with pytest.raises(TableError, match="larger than"):
        open_store(tmp_path)


def test_a_drift_reference_that_is_no_file_is_none(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / DRIFT_FILE)
    assert read_reference(tmp_path / MODEL.name) is None
