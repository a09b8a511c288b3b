"""MODEL_PUBLIC_KEY holds wherever a model or a policy is loaded, not in the bot alone."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import src.agent
from src.backtest import __main__ as backtest
from src.backtest import score
from src.decision.__main__ import main as policy_main
from src.decision.pipeline import Pipeline
from src.detection.bundle_files import manifest_path
from src.detection.errors import ModelTampered
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import load_model
from src.detection.policy import PolicyError
from src.detection.signature import new_private_key, public_key, signature_path
from src.monitoring.drift import __main__ as drift
from src.monitoring.forta_alerts.run import expected_rate
from src.registry import __main__ as models
from src.registry.registry import BundleRefused, Registry
from src.registry.sign import main as sign_main
from src.registry.store import Store
from src.service.context import Service
from src.service.decider import Decider
from src.settings import load_settings, model_public_key
from src.training.evaluation import threshold
from src.training.retraining.__main__ import main as retrain_main
from src.training.supervised.bundle import write_fraud_bundle
from src.training.supervised.candidates import candidates
from src.variables import SettingsError
from tests.conftest import event_of, transfer_log
from tests.service.chain import common_settings, service_settings, sqlite_url

ROOT = Path(__file__).resolve().parents[2]
# What lets a model or a policy in, and the place of the key among its arguments.
LOADERS = {
    "load_model": 2,
    "read_manifest": 1,
    "load_fraud_model": 1,
    "read_fraud_manifest": 1,
    "load_policy": 1,
    "read_policy": 1,
}
PRIVATE, OTHER = "11" * 32, "22" * 32
KEY = public_key(PRIVATE)


def is_told_the_key(name: str, call: ast.Call) -> bool:
    keyword = next((word for word in call.keywords if word.arg == "public_key"), None)
    given = keyword.value if keyword else (call.args[LOADERS[name] :] or [None])[0]
    return given is not None and not isinstance(given, ast.Constant)


def test_every_loader_is_told_whose_signature_to_ask_for() -> None:
    told = {}
    for path in sorted((ROOT / "src").rglob("*.py")):
        text = path.read_text()
        if not any(f"{name}(" in text for name in LOADERS):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name in LOADERS:
                    place = f"{path.relative_to(ROOT)}:{node.lineno} {name}"
                    told[place] = is_told_the_key(name, node)
    assert {place.rsplit(maxsplit=1)[-1] for place in told} == set(LOADERS)
    assert [place for place, is_told in told.items() if not is_told] == []


def test_a_policy_is_parsed_from_verified_text_alone() -> None:
    users = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "src").rglob("*.py"))
        if "parse_policy(" in path.read_text()
    ]
    # The backtest's job parses what its run read by `read_policy`.
    assert users == [
        "src/backtest/job.py",
        "src/backtest/run.py",
        "src/decision/pipeline.py",
        "src/decision/policy_file.py",
        "src/detection/policy.py",
    ]


@pytest.fixture
def bundle(bundle_path: Path, tmp_path: Path) -> Path:
    """A model and a policy that nobody signed."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for path in (bundle_path, manifest_path(bundle_path)):
        shutil.copy(path, folder)
    shutil.copy(ROOT / "policy.yaml", folder)
    return folder / bundle_path.name


@pytest.fixture
def keyed(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> Path:
    monkeypatch.setenv("MODEL_PUBLIC_KEY", KEY)
    monkeypatch.setenv("MODEL_PATH", str(bundle))
    monkeypatch.setenv("POLICY_PATH", str(bundle.parent / "policy.yaml"))
    return bundle


def signed(*files: Path, private: str = PRIVATE) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL_SIGNING_KEY", private)
        assert sign_main([str(file) for file in files]) == 0


def command_lines(bundle: Path, folder: Path) -> dict[str, tuple[Callable[[list[str]], int], Any]]:
    out, data = str(folder / "out"), str(folder)
    return {
        "score": (score.main, ["--transactions", data, "--transfers", data, "--out", "o.csv"]),
        "threshold": (threshold.main, ["--rate", "0.01"]),
        "drift": (drift.main, ["--reference", data, "--save-reference", out]),
        "policy": (policy_main, ["--check", str(bundle.parent / "policy.yaml")]),
        "backtest": (backtest.main, ["--data", data, "--out", out]),
        "models add": (models.main, ["--store", out, "add", str(bundle.parent)]),
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["score", "threshold", "drift", "policy", "backtest", "models add"]
)
@pytest.mark.parametrize("forged", [False, True], ids=["unsigned", "signed by another"])
def test_a_command_does_not_load_what_the_key_has_not_signed(
    keyed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, forged: bool
) -> None:
    if forged:
        signed(keyed, keyed.parent / "policy.yaml", private=OTHER)
    main, arguments = command_lines(keyed, tmp_path)[name]
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert ("is not signed by the key" if forged else ".sig is missing") in said
    assert "MODEL_PUBLIC_KEY" in said


def test_a_command_loads_what_the_key_has_signed(
    keyed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signed(keyed, keyed.parent / "policy.yaml")
    assert policy_main(["--check", str(keyed.parent / "policy.yaml")]) == 0
    store = str(tmp_path / "store")
    assert models.main(["--store", store, "add", str(keyed.parent), "--promote"]) == 0
    assert "is the champion" in capsys.readouterr().out


def test_the_day_s_statistics_compare_with_a_signed_model(keyed: Path) -> None:
    with pytest.raises(ModelTampered):
        expected_rate(keyed)
    signed(keyed)
    assert 0 <= expected_rate(keyed) <= 1


def test_the_registry_lets_no_unsigned_bundle_in_or_out(bundle: Path, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    with pytest.raises(BundleRefused, match="sig is missing"):
        Registry(store, public_key=KEY).add(bundle.parent, code_version="abc")
    trusting = Registry(store)
    entry = trusting.add(bundle.parent, code_version="abc")
    trusting.promote(entry.id)
    with pytest.raises(BundleRefused, match="sig is missing"):
        Registry(store, public_key=KEY).fetch("champion", tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_retraining_compares_with_no_unsigned_champion(
    keyed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = Registry(Store(str(tmp_path / "store")))
    store.promote(store.add(keyed.parent, code_version="abc").id)
    monkeypatch.setenv("MODEL_SIGNING_KEY", PRIVATE)
    assert retrain_main(["--store", str(tmp_path / "store")]) == 1
    assert "sig is missing" in capsys.readouterr().err


def test_the_service_starts_with_signed_models_alone(keyed: Path, tmp_path: Path) -> None:
    policy = keyed.parent / "policy.yaml"
    common = common_settings(
        "http://127.0.0.1:1",
        model_path=keyed,
        policy_path=policy,
        model_public_key=KEY,
        is_chain_set=True,
    )
    fraud = supervised_model(tmp_path)
    settings = service_settings(sqlite_url(tmp_path), fraud_model_path=fraud)
    for missing in (fraud, keyed, policy):
        with pytest.raises((ModelTampered, PolicyError), match=r"\.sig is missing"):
            Service.open(settings, common)
        signed(missing)
    service = Service.open(settings, common)
    try:
        assert service.decider.model.version == "1650000000"
        assert service.fraud.in_use is not None
        another = tmp_path / "another"
        shutil.copytree(keyed.parent, another)
        signature_path(manifest_path(another / keyed.name)).unlink()
        before = service.decider.fingerprint
        with pytest.raises(ModelTampered):
            service.decider.take_model(another / keyed.name)
        assert service.decider.fingerprint == before
    finally:
        service.close()


def supervised_model(folder: Path) -> Path:
    path = folder / "supervised" / "fraud_model.npz"
    path.parent.mkdir()
    rows = np.random.default_rng(0).normal(size=(200, 2))
    candidate = next(one for one in candidates(0) if one.name == "LogisticRegression")
    pipeline = candidate.pipeline().fit(rows, rows[:, 0] > 0)
    write_fraud_bundle(
        path, name=candidate.name, pipeline=pipeline, inputs=FEATURE_NAMES[:2],
        label="Class", threshold=0.5, training_rows=rows, model_version=1, training={},
    )  # fmt: skip
    return path


@pytest.mark.parametrize("setting", ["CHALLENGER_MODEL_PATH", "SUPERVISED_MODEL_PATH"])
def test_the_further_models_of_the_bot_must_be_signed_too(
    keyed: Path, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    signed(keyed, keyed.parent / "policy.yaml")
    further = bundle_path if setting.startswith("CHALLENGER") else supervised_model(tmp_path)
    monkeypatch.setenv(setting, str(further))
    settings = load_settings(project_root=tmp_path, home=tmp_path, arguments=())
    model = load_model(keyed, FEATURE_NAMES, public_key=settings.model_public_key)
    with pytest.raises(ModelTampered, match=r"\.sig is missing"):
        Pipeline.from_settings(settings, model)


def test_watch_mode_and_the_service_decide_with_one_loader(keyed: Path) -> None:
    with pytest.raises(ModelTampered):
        Decider(common_settings("http://127.0.0.1:1", model_path=keyed, model_public_key=KEY))


def test_the_key_may_stand_in_the_file_of_secrets(tmp_path: Path) -> None:
    assert model_public_key({}, project_root=tmp_path) is None
    (tmp_path / "secrets.json").write_text(f'{{"MODEL_PUBLIC_KEY": "{KEY}"}}')
    assert model_public_key({}, project_root=tmp_path) == KEY
    other = public_key(OTHER)
    assert model_public_key({"MODEL_PUBLIC_KEY": other}, project_root=tmp_path) == other
    with pytest.raises(SettingsError, match="MODEL_PUBLIC_KEY"):
        model_public_key({"MODEL_PUBLIC_KEY": "short"}, project_root=tmp_path)


def test_from_a_new_key_to_a_bot_that_refuses_a_tampered_model(
    bundle: Path, start_bot: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As somebody does it who reads SECURITY.md: the commands in processes of their own."""

    def sign(*arguments: str, **environment: str) -> str:
        child = subprocess.run(
            [sys.executable, "-m", "src.registry.sign", *arguments],
            cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return child.stdout

    keys = dict(line.split("=") for line in sign("--new-key").splitlines())
    policy = bundle.parent / "policy.yaml"
    said = sign(str(bundle), str(policy), MODEL_SIGNING_KEY=keys["MODEL_SIGNING_KEY"])
    assert said.split() == [str(signature_path(p)) for p in (manifest_path(bundle), policy)]
    settings = {
        "MODEL_PATH": str(bundle),
        "POLICY_PATH": str(policy),
        "MODEL_PUBLIC_KEY": keys["MODEL_PUBLIC_KEY"],
    }
    start_bot(**settings)
    finding = src.agent.handle_transaction(event_of([transfer_log()]))[0]
    assert finding.metadata["model_version"] == "1650000000"
    assert src.agent.BOT is not None
    src.agent.BOT.close()
    monkeypatch.setattr(src.agent, "BOT", None)

    honest = bundle.read_bytes()
    bundle.write_bytes(honest + b".")  # the file alone
    with pytest.raises(ModelTampered, match="SHA-256"):
        start_bot(**settings)
    bundle.write_bytes(honest)
    text = manifest_path(bundle).read_text()  # the manifest with it
    manifest_path(bundle).write_text(text.replace("1650000000", "1650000001"))
    with pytest.raises(ModelTampered, match="not signed by the key"):
        start_bot(**settings)
    sign(str(bundle), MODEL_SIGNING_KEY=new_private_key())  # and the signature
    with pytest.raises(ModelTampered, match="not signed by the key"):
        start_bot(**settings)
