"""Signed models and policies: what is accepted, and that nothing else is."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from src.decision.policy_file import load_policy
from src.detection.bundle_files import manifest_path
from src.detection.errors import ModelTampered
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import load_model
from src.detection.policy import PolicyError
from src.detection.signature import is_signed, new_private_key, public_key, sign
from src.registry import sign as command
from src.settings import load_settings
from src.variables import SettingsError

ROOT = Path(__file__).resolve().parents[2]
# RFC 8032, section 7.1, TEST 1.
RFC_PRIVATE = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
RFC_PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


@pytest.fixture
def bundle(bundle_path: Path, tmp_path: Path) -> Path:
    path = tmp_path / bundle_path.name
    shutil.copy(bundle_path, path)
    shutil.copy(manifest_path(bundle_path), manifest_path(path))
    return path


def signed(path: Path, private: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_SIGNING_KEY", private)
    assert command.main([str(path)]) == 0


def test_the_public_key_is_the_rfcs():
    assert public_key(RFC_PRIVATE) == RFC_PUBLIC


def test_a_signature_holds_for_its_content_and_key_alone():
    private, other = new_private_key(), new_private_key()
    signature = sign(b"content", private)
    assert is_signed(b"content", signature, public_key(private))
    assert not is_signed(b"Content", signature, public_key(private))
    assert not is_signed(b"content", signature, public_key(other))
    assert not is_signed(b"content", "", public_key(private))
    assert not is_signed(b"content", "zz" * 64, public_key(private))
    assert not is_signed(b"content", "00" * 64, "00" * 32)


def test_a_signed_bundle_loads(bundle, monkeypatch):
    signed(bundle, RFC_PRIVATE, monkeypatch)
    assert load_model(bundle, FEATURE_NAMES, public_key=RFC_PUBLIC).version == "1650000000"


def test_a_bundle_without_a_signature_is_refused_where_a_key_is_set(bundle):
    with pytest.raises(ModelTampered, match=r"manifest\.json\.sig is missing"):
        load_model(bundle, FEATURE_NAMES, public_key=RFC_PUBLIC)


def test_a_bundle_that_was_swapped_whole_is_refused(bundle, monkeypatch):
    signed(bundle, RFC_PRIVATE, monkeypatch)
    manifest = manifest_path(bundle)
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"anomaly_threshold": 1.0}))
    with pytest.raises(ModelTampered, match="not signed by the key"):
        load_model(bundle, FEATURE_NAMES, public_key=RFC_PUBLIC)


def test_a_signature_by_somebody_else_is_refused(bundle, monkeypatch):
    signed(bundle, new_private_key(), monkeypatch)
    with pytest.raises(ModelTampered, match="not signed by the key"):
        load_model(bundle, FEATURE_NAMES, public_key=RFC_PUBLIC)


def test_a_policy_must_be_signed_too(tmp_path, monkeypatch):
    policy = tmp_path / "policy.yaml"
    shutil.copy(ROOT / "policy.yaml", policy)
    with pytest.raises(PolicyError, match=r"policy\.yaml\.sig is missing"):
        load_policy(policy, RFC_PUBLIC)
    signed(policy, RFC_PRIVATE, monkeypatch)
    assert load_policy(policy, RFC_PUBLIC).detectors
    policy.write_text(policy.read_text() + "\n# changed\n")
    with pytest.raises(PolicyError, match="not signed"):
        load_policy(policy, RFC_PUBLIC)


def test_the_bot_does_not_start_with_an_unsigned_model(start_bot):
    with pytest.raises(ModelTampered):
        start_bot(MODEL_PUBLIC_KEY=RFC_PUBLIC)


def test_a_private_key_given_to_the_bot_still_asks_for_signatures(tmp_path, caplog):
    settings = load_settings(
        {"MODEL_SIGNING_KEY": RFC_PRIVATE}, project_root=tmp_path, home=tmp_path, arguments=()
    )
    assert settings.model_public_key == RFC_PUBLIC
    assert RFC_PRIVATE not in caplog.text + repr(settings)
    with pytest.raises(SettingsError, match="MODEL_SIGNING_KEY"):
        load_settings(
            {"MODEL_SIGNING_KEY": "short"}, project_root=tmp_path, home=tmp_path, arguments=()
        )


def test_new_keys_belong_together(capsys):
    with pytest.raises(SystemExit, match="2"):  # it would not be signed
        command.main(["--new-key", "policy.yaml"])
    assert command.main(["--new-key"]) == 0
    keys = dict(line.split("=") for line in capsys.readouterr().out.splitlines())
    assert public_key(keys["MODEL_SIGNING_KEY"]) == keys["MODEL_PUBLIC_KEY"]


def test_no_key_no_library():
    """Whoever signs nothing pays nothing for it at start."""
    code = "import sys, src.detection.forest.model; sys.exit('Crypto' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
