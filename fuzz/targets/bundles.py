"""Forged model bundles with matching manifests, signatures, and the registry."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz.data import Data
from fuzz.oracles import expect
from fuzz.target import Bench, Target

_INPUTS = ("transfer_counts", "tokens_type_counts", "account_active_period_in_minutes")


def _manifest_of(data: Data, shipped: dict[str, Any], model: bytes) -> bytes:
    """A manifest that vouches for the model, as a forger makes it, and now and then any."""
    manifest = shipped | {"sha256": hashlib.sha256(model).hexdigest()}
    if data.one_in(2):
        altered = data.altered(manifest)
        manifest = altered if isinstance(altered, dict) else {}
    return json.dumps(manifest).encode("utf-8", "surrogatepass")


def _forest_bundle(folder: Path) -> tuple[Path, dict[str, Any], bytes]:
    import importlib.metadata  # noqa: PLC0415

    import dill  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415
    from sklearn.ensemble import IsolationForest  # noqa: PLC0415

    rows = np.random.default_rng(0).normal(size=(64, len(_INPUTS))).astype(np.float32)
    fitted = IsolationForest(n_estimators=3, max_samples=16, random_state=0).fit(rows)
    scores = -fitted.score_samples(rows)
    manifest = {
        "format": 2, "model_version": 1_650_000_000, "sha256": "", "inputs": list(_INPUTS),
        "sklearn_version": importlib.metadata.version("scikit-learn"), "anomaly_threshold": 0.5,
        "score_quantiles": sorted(scores.tolist()), "golden_rows": rows[:2].tolist(),
        "golden_scores": scores[:2].tolist(), "training": {},
        "token_amounts": {"0x" + "a1" * 20: [6.0, 1.0]},
    }  # fmt: skip
    return folder / "isolation_forest.pkl", manifest, dill.dumps(fitted, protocol=4)


def _fraud_bundle(folder: Path) -> tuple[Path, dict[str, Any], bytes]:
    import numpy as np  # noqa: PLC0415
    from sklearn.base import clone  # noqa: PLC0415

    from src.detection.bundle_files import manifest_path  # noqa: PLC0415
    from src.training.supervised.bundle import write_fraud_bundle  # noqa: PLC0415
    from src.training.supervised.candidates import candidates  # noqa: PLC0415

    rows = np.random.default_rng(0).normal(size=(200, len(_INPUTS)))
    (candidate,) = [one for one in candidates(0) if one.name == "LogisticRegression"]
    path = folder / "fraud_model.npz"
    write_fraud_bundle(
        path, name=candidate.name, pipeline=clone(candidate.pipeline()).fit(rows, rows[:, 0] > 1),
        inputs=_INPUTS, label="Class", threshold=0.5, training_rows=rows,
        model_version=1_650_000_000, training={},
    )  # fmt: skip
    return path, json.loads(manifest_path(path).read_text()), path.read_bytes()


def _attack_bundle(folder: Path) -> tuple[tuple[Path, dict[str, Any], bytes], Any]:
    """An attack model, and the forest that it was calibrated with."""
    import numpy as np  # noqa: PLC0415

    from src.detection.attack.ranking import Calibration  # noqa: PLC0415
    from src.detection.bundle_files import ATTACK_MODEL_FILE, manifest_path  # noqa: PLC0415
    from src.detection.features.definitions import FEATURE_NAMES  # noqa: PLC0415
    from src.detection.forest.model import load_model  # noqa: PLC0415
    from src.settings import DEFAULT_MODEL_PATH  # noqa: PLC0415
    from src.training.attack.bundle import write_attack_bundle  # noqa: PLC0415
    from src.training.attack.fit import (  # noqa: PLC0415
        AttackParameters,
        fit_trees,
        outputs_of,
    )

    names = FEATURE_NAMES[:3]
    rows = np.random.default_rng(0).normal(size=(200, len(names)))
    is_attack, forest_scores = rows[:, 0] > 1, np.linspace(0.3, 0.8, 200)
    quick = AttackParameters(n_estimators=3, min_samples_leaf=20)
    background, attacks = rows[~is_attack], rows[is_attack]
    classifier = fit_trees(
        (background, np.ones(len(background))), (attacks, np.ones(len(attacks))), quick
    )
    forest = load_model(DEFAULT_MODEL_PATH, FEATURE_NAMES)
    path = folder / ATTACK_MODEL_FILE
    write_attack_bundle(
        path, classifier=classifier, inputs=names, forest_sha256=forest.manifest.sha256,
        calibration=Calibration.of(forest_scores, outputs_of(classifier, rows)), golden=rows,
        golden_forest_scores=forest_scores, model_version=1_650_000_000, training={},
    )  # fmt: skip
    return (path, json.loads(manifest_path(path).read_text()), path.read_bytes()), forest


def _bundle(bench: Bench) -> Callable[[bytes], None]:
    import numpy as np  # noqa: PLC0415

    from src.detection.attack.model import load_attack_model  # noqa: PLC0415
    from src.detection.bundle_files import manifest_path  # noqa: PLC0415
    from src.detection.errors import InvalidInput, ModelError  # noqa: PLC0415
    from src.detection.forest.model import load_model  # noqa: PLC0415
    from src.detection.supervised.model import load_fraud_model  # noqa: PLC0415

    attack, shipped = _attack_bundle(bench.folder)
    rows = np.random.default_rng(1).normal(size=(8, len(_INPUTS)))

    def probabilities(path: Path) -> Any:
        return load_fraud_model(path).probabilities(rows)

    def scores(path: Path) -> Any:
        return load_model(path, _INPUTS).score(rows)

    def attack_scores(path: Path) -> Any:
        return load_attack_model(path, shipped).scores(rows, np.linspace(0, 1, len(rows)))

    kinds: tuple[tuple[Path, dict[str, Any], bytes, Callable[[Path], Any]], ...] = (
        (*_forest_bundle(bench.folder), scores),
        (*_fraud_bundle(bench.folder), probabilities),
        (*attack, attack_scores),
    )

    def one(content: bytes) -> None:
        data = Data(content)
        path, manifest, honest, judge = data.pick(kinds)
        written = data.damaged(honest) if data.one_in(2) else honest
        path.write_bytes(written)
        manifest_path(path).write_bytes(_manifest_of(data, manifest, written))
        try:
            numbers = judge(path)
        except (ModelError, InvalidInput) as error:
            expect(len(str(error)) < 10_000, "leak", f"a message of {len(str(error))} characters")
            bench.reached["refused"] += 1
            return
        good = np.isfinite(numbers).all() and (numbers >= 0).all() and (numbers <= 1).all()
        expect(bool(good), "non-finite", numbers[:4])
        bench.reached["scored"] += 1

    return one


def _signature(bench: Bench) -> Callable[[bytes], None]:
    from src.detection.signature import (  # noqa: PLC0415
        is_signed,
        problem_with,
        public_key,
        sign,
        signature_path,
    )

    private, other = "11" * 32, "22" * 32
    keys = (public_key(private), public_key(other), "00" * 32, "ff" * 32)
    signed = b"what is signed"
    genuine = sign(signed, private)
    path = bench.folder / "policy.yaml"

    def one(content: bytes) -> None:
        data = Data(content)
        content_read = data.damaged(signed) if data.one_in(2) else signed
        written = data.damaged(genuine.encode()) if data.one_in(2) else genuine.encode() + b"\n"
        if data.one_in(8):
            written = data.rest()
        key = data.pick(keys)
        signature_path(path).write_bytes(written)
        problem = problem_with(path, content_read, key)
        vouched = content_read == signed and key == keys[0]
        if problem is None:
            same = bytes.fromhex(written.decode().strip()) == bytes.fromhex(genuine)
            expect(vouched and same, "mismatch", f"{content_read!r} was believed by {written!r}")
            bench.reached["believed"] += 1
        else:
            expect(problem.isprintable(), "leak", repr(problem))
            expect(not (vouched and written.strip() == genuine.encode()), "mismatch", problem)
            bench.reached["refused"] += 1
        if data.one_in(16):
            expect(
                is_signed(content_read, sign(content_read, other), keys[1]),
                "mismatch",
                "our own signature",
            )

    return one


def _registry(bench: Bench) -> Callable[[bytes], None]:
    from src.registry.registry import Registry, RegistryError  # noqa: PLC0415
    from src.registry.store import Store, StoreError  # noqa: PLC0415

    path, manifest, model = _forest_bundle(bench.folder)
    from src.detection.features import definitions as features  # noqa: PLC0415

    names = list(features.FEATURE_NAMES)[: len(_INPUTS)]
    described = manifest | {"inputs": names, "sha256": hashlib.sha256(model).hexdigest()}
    path.write_bytes(model)
    path.with_suffix(".manifest.json").write_text(json.dumps(described))
    root = bench.folder / "store"
    registry = Registry(Store(str(root)))
    entry = registry.add(bench.folder, code_version="unknown")
    registry.promote(entry.id)
    ledger = root / "ledger" / "000000000001.json"
    entry_file = root / "models" / entry.id / "entry.json"
    model_file = root / "models" / entry.id / path.name
    files = {file: file.read_bytes() for file in (ledger, entry_file, model_file)}
    outside = bench.folder / "fetched"
    allowed = {"current", entry.id}

    def one(content: bytes) -> None:
        data = Data(content)
        for file, honest in files.items():
            if file.suffix != ".json":
                file.write_bytes(data.damaged(honest) if data.one_in(8) else honest)
                continue
            altered = data.altered(json.loads(honest)) if data.one_in(2) else json.loads(honest)
            written = json.dumps(altered).encode("utf-8", "surrogatepass")
            file.write_bytes(data.damaged(honest) if data.one_in(4) else written)
        try:
            registry.history()
            registry.ids()
            registry.fetch("champion", outside)
        except (RegistryError, StoreError) as error:
            expect(len(str(error)) < 10_000, "leak", "a long message")
            bench.reached["refused"] += 1
            return
        found = {file.name for file in outside.iterdir()}
        expect(found == allowed, "leak", f"written beside the model: {found - allowed}")
        bench.reached["fetched"] += 1

    return one


TARGETS = (
    Target(
        "bundle",
        "models with a manifest forged to match: numbers in [0, 1] or an error",
        _bundle,
        1,
    ),
    Target(
        "signature",
        "signatures, files and keys: accepted only if that key signed the file",
        _signature,
        0.5,
    ),
    Target(
        "registry",
        "ledgers, entries and files of the registry: the champion in its folder, or an error",
        _registry,
        0.3,
    ),
)
