"""What the service and watch mode do beside their work: usage, drift, new models."""

import hashlib
import logging
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import select, update
from starlette.testclient import TestClient

from src.chain.transfers import Transfer
from src.detection.attack.manifest import read_attack_manifest
from src.detection.bundle_files import ATTACK_MODEL_FILE, DRIFT_FILE
from src.detection.features.batch import TransferBatch
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.manifest import read_manifest
from src.detection.forest.model import load_model
from src.monitoring import metrics
from src.monitoring.drift.sample import sample_of
from src.monitoring.drift.verdict import Verdict
from src.registry.bundle import FRAUD, MODEL_FILE
from src.registry.drift_reference import ATTACK_SCORE, parse_sample
from src.registry.registry import Registry
from src.registry.store import Store
from src.service.app import create_app
from src.service.context import Service, drift_reference
from src.service.database.chain import store_transactions
from src.service.database.engine import Database
from src.service.database.tables import scheduled_tasks
from src.service.decider import Decider
from src.service.drift_check import DriftCheck
from src.service.embedded import embedded_node
from src.service.model_refresh import forest_refresher
from src.service.records import LoadedTransaction
from src.service.settings import load_service_settings
from src.service.watch.__main__ import main
from src.settings import PROJECT_ROOT
from src.variables import SettingsError
from tests.conftest import ALICE, BOB, TIMESTAMP, USDC
from tests.registry.bundles import make_bundle, small_fraud_bundle
from tests.service.chain import BASE_URL, HEAD, THEFT, common_settings, service_settings, sqlite_url
from tests.support.attack import write_small_attack_model
from tests.support.waiting import wait_until


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def cache_misses() -> float:
    name = "token_transfers_cache_requests_total"
    return sum(
        counted(name, cache=cache, result="miss")
        for cache in ("tokens", "first_transactions", "assessments")
    )


def test_the_service_reports_its_caches_and_sources(tmp_path: Path) -> None:
    answered = {"source": "node", "outcome": "ok"}
    before = cache_misses(), counted("token_transfers_source_requests_total", **answered)
    app = create_app(service_settings(sqlite_url(tmp_path)), common_settings())
    with TestClient(app, base_url=BASE_URL) as client:
        assert client.post(f"/transactions/{THEFT}/decision").status_code == 200
    assert cache_misses() > before[0]
    assert counted("token_transfers_source_requests_total", **answered) > before[1]


def test_watch_mode_reports_its_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cache_misses()
    with embedded_node() as url:
        monkeypatch.setenv("JSON_RPC_URL", url)
        monkeypatch.setenv("DATABASE_URL", sqlite_url(tmp_path))
        assert main(["--once", "--from-block", str(HEAD - 20)]) == 0
    assert cache_misses() > before


NO_NODE = "http://127.0.0.1:1"
VERSIONS = ("1700000000", "1700000001", "1700000002")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return [make_bundle(folder / version, int(version)) for version in VERSIONS]


@pytest.fixture
def registry(tmp_path: Path, bundles: list[Path]) -> Registry:
    opened = Registry(Store(str(tmp_path / "store")))
    for bundle in bundles:
        opened.add(bundle, code_version="abc")
    opened.promote(VERSIONS[0])
    return opened


def loaded(number: int = 0) -> LoadedTransaction:
    return LoadedTransaction(
        tx_hash=f"0x{number:064x}",
        block_number=1000 + number // 10,
        block_hash=f"0x{number // 10:064x}",
        block_timestamp=TIMESTAMP,
        tx_index=number % 10,
        sender=ALICE,
        to=BOB,
        nonce=1,
        gas_used=21_000,
        gas_price=1,
        transfers=(Transfer(USDC, ALICE, BOB, 10 ** (number % 12), 0),),
    )


def test_a_promoted_model_decides_without_a_restart(
    tmp_path: Path, registry: Registry, bundles: list[Path]
) -> None:
    settings = service_settings(
        sqlite_url(tmp_path), store_url=str(tmp_path / "store"), model_refresh_seconds=0.1
    )
    app = create_app(settings, common_settings(model_path=bundles[0] / MODEL_FILE))

    def version_of_decision() -> str:
        answer = client.post(f"/transactions/{THEFT}/decision", params={"details": True})
        return str(answer.json()["model_version"])

    with TestClient(app, base_url=BASE_URL) as client:
        assert version_of_decision() == VERSIONS[0]
        registry.promote(VERSIONS[1])
        wait_until(lambda: client.get("/models").json()["detection"]["version"] != VERSIONS[0])
        assert version_of_decision() == VERSIONS[1]


def test_a_promoted_fraud_model_predicts_without_a_restart(
    tmp_path: Path, registry: Registry
) -> None:
    models = Registry(registry.store, FRAUD)
    ids = []
    for version in (11, 12):
        bundle = small_fraud_bundle(tmp_path / str(version), version)
        ids.append(models.add(bundle, code_version="abc").id)
    models.promote(ids[0])
    settings = service_settings(
        sqlite_url(tmp_path), store_url=str(tmp_path / "store"), model_refresh_seconds=0.1
    )
    with TestClient(create_app(settings, common_settings()), base_url=BASE_URL) as client:

        def version() -> str:
            return str(client.get("/models/fraud").json()["version"])

        assert version() == "11"  # the registry's, although no path names one
        models.promote(ids[1])
        wait_until(lambda: version() == "12")
        assert client.post("/predict", json={"V1": 0, "V2": 0}).status_code == 200
        assert 'fraud_model_info{classifier="LogisticRegression",model_version="12"' in (
            client.get("/metrics").text
        )
        models.rollback()
        wait_until(lambda: version() == "11")


def test_a_promoted_attack_model_scores_without_a_restart(
    tmp_path: Path, bundles: list[Path]
) -> None:
    """It comes with its forest, which stays the same: the service says which one it uses."""
    registry = Registry(Store(str(tmp_path / "store")))
    ids, digests = [], []
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        shutil.copytree(bundles[0], folder)
        forest = load_model(folder / MODEL_FILE, FEATURE_NAMES)
        path = write_small_attack_model(forest, folder=folder, seed=seed)
        ids.append(registry.add(folder, code_version="abc").id)
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    registry.promote(registry.add(bundles[0], code_version="abc").id)
    settings = service_settings(
        sqlite_url(tmp_path), store_url=str(tmp_path / "store"), model_refresh_seconds=0.1
    )
    with TestClient(create_app(settings, common_settings()), base_url=BASE_URL) as client:
        assert client.get("/models").json()["attack"] is None
        assert "None: no attack model is loaded." in client.get("/ui/models").text
        for model_id, digest in zip(ids, digests, strict=True):
            registry.promote(model_id)
            wait_until(
                lambda digest=digest: (
                    (client.get("/models").json()["attack"] or {}).get("sha256") == digest
                )
            )
            assert f"{digest[:12]}…" in client.get("/ui/models").text
            info = [
                line.rsplit(" ", 1)[1]
                for line in client.get("/metrics").text.splitlines()
                if line.startswith("token_transfers_attack_model_info{") and digest in line
            ]
            assert info == ["1.0"]


def test_a_store_that_is_none_refuses_the_start(tmp_path: Path) -> None:
    settings = service_settings(sqlite_url(tmp_path), store_url=str(tmp_path / "typo"))
    with pytest.raises(SettingsError, match="there is no store at"):
        Service.open(settings, common_settings())


def test_a_broken_bundle_keeps_the_model_and_is_told_once(
    tmp_path: Path, registry: Registry, bundles: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    decider = Decider(common_settings(NO_NODE, model_path=bundles[0] / MODEL_FILE))
    try:
        refresher = forest_refresher(registry, decider)
        champion = registry.promote(VERSIONS[2]).champion
        broken = tmp_path / "store" / "models" / str(champion) / MODEL_FILE
        content = broken.read_bytes()
        broken.write_bytes(content[:-1])
        with caplog.at_level(logging.WARNING):
            refresher.refresh()
            refresher.refresh()
        assert decider.model.version == VERSIONS[0]
        assert decider.decide(loaded()).decision.model_version == VERSIONS[0]
        warnings = [
            one.message for one in caplog.records if one.name == "src.service.model_refresh"
        ]
        assert len(warnings) == 1
        assert warnings[0].startswith(f"model {VERSIONS[0]}-")
        assert "stays in use" in warnings[0]
        broken.write_bytes(content)
        refresher.refresh()
        assert decider.model.version == VERSIONS[2]
    finally:
        decider.close()


def test_a_decision_is_made_with_one_model_while_models_change(bundles: list[Path]) -> None:
    decider = Decider(common_settings(NO_NODE, model_path=bundles[0] / MODEL_FILE))
    done = threading.Event()
    seen: set[tuple[str, str, float | None]] = set()

    def decide() -> None:
        while not done.is_set():
            made = decider.decide(loaded()).decision
            seen.add((made.model_version, made.decider, made.score))

    threads = [threading.Thread(target=decide) for _ in range(3)]
    try:
        for thread in threads:
            thread.start()
        for turn in range(12):
            decider.take_model(bundles[1 - turn % 2] / MODEL_FILE)
            new = VERSIONS[1 - turn % 2]
            wait_until(lambda new=new: new in {version for version, _, _ in tuple(seen)})
    finally:
        done.set()
        for thread in threads:
            thread.join()
        decider.close()
    assert {version for version, _, _ in seen} == set(VERSIONS[:2])
    assert len(seen) == 2


@pytest.fixture(scope="module")
def decider(bundles: list[Path]) -> Iterator[Decider]:
    opened = Decider(common_settings(NO_NODE, model_path=bundles[0] / MODEL_FILE))
    yield opened
    opened.close()


def reference_of(decider: Decider, folder: Path) -> Path:
    """A reference of payments of one shape, each in a block of ten."""
    sent = [loaded(number) for number in range(1200)]
    batch = TransferBatch.from_transactions((one.transfers, ALICE) for one in sent)
    blocks = np.array([one.block_number for one in sent])
    path = folder / "reference.json"
    path.write_text(sample_of(decider.model, batch, blocks).to_json())
    return path


def test_a_model_of_the_registry_brings_its_own_reference(
    database: Database, bundles: list[Path], tmp_path: Path
) -> None:
    """The file at DRIFT_REFERENCE is of the model at the start."""
    decider = Decider(common_settings(NO_NODE, model_path=bundles[0] / MODEL_FILE))
    try:
        first = reference_of(decider, tmp_path)
        keep(database, [loaded(number) for number in range(1200)])
        bundle = tmp_path / "next"
        shutil.copytree(bundles[1], bundle)
        decider.take_model(bundle / MODEL_FILE)
        assert DriftCheck(database, decider, 1, first, 1e-6).check_if_due() is None
        reference_of(decider, tmp_path).rename(bundle / DRIFT_FILE)
        decider.take_model(bundle / MODEL_FILE)
        found = DriftCheck(database, decider, 1, tmp_path / "missing", 1e-6).check_if_due()
        assert found is not None
        assert found.reference.model_version == VERSIONS[1]
    finally:
        decider.close()


def keep(database: Database, sent: list[LoadedTransaction]) -> None:
    with database.writing() as connection:
        store_transactions(connection, 1, sent, time.time())


def test_drift_is_checked_when_due_by_one_worker_and_stored(
    database: Database, decider: Decider, tmp_path: Path
) -> None:
    reference = reference_of(decider, tmp_path)
    keep(database, [loaded(number) for number in range(1200)])
    checks = [DriftCheck(database, decider, 1, reference, 3600) for _ in range(2)]
    found = [check.check_if_due() for check in checks]
    assert found[0] is not None
    assert found[0].verdict is Verdict.OK
    assert found[0].current.size == 1200
    assert found[0].current.dates == ("2023-11-14", "2023-11-14")
    assert found[1] is None
    with database.reading() as connection:
        stored = connection.scalar(
            select(scheduled_tasks.c.outcome).where(scheduled_tasks.c.name == "drift-1")
        )
    assert stored is not None
    assert stored["verdict"] == "ok"
    assert counted("token_transfers_drift_verdict") == 0
    moved = [
        replace(one, transfers=tuple(one.transfers[0]._replace(log_index=i) for i in range(4)))
        for one in map(loaded, range(2000, 4000))
    ]
    keep(database, moved)
    with database.writing() as connection:
        connection.execute(update(scheduled_tasks).values(due_at=0.0))
    again = DriftCheck(database, decider, 1, reference, 3600).check_if_due()
    assert again is not None
    assert again.verdict is Verdict.RETRAIN
    assert counted("token_transfers_drift_verdict") == 2
    checked = counted("token_transfers_drift_checked_timestamp_seconds")
    metrics.drift_checked(0, {}, {})
    # A process that starts afterwards shows what is stored, and since when.
    assert DriftCheck(database, decider, 1, reference, 3600).check_if_due() is None
    assert counted("token_transfers_drift_verdict") == 2
    shown = counted("token_transfers_drift_checked_timestamp_seconds")
    assert shown == pytest.approx(checked, abs=60)


def test_the_shipped_reference_is_of_the_shipped_model() -> None:
    """If not: `npm run drift -- --reference DATA --save-reference drift_reference.json`."""
    reference = parse_sample((PROJECT_ROOT / DRIFT_FILE).read_text())
    shipped = read_manifest(PROJECT_ROOT / "isolation_forest.pkl")
    assert reference.model_version == str(shipped.model_version)
    assert reference.size > 1000
    attack = read_attack_manifest(PROJECT_ROOT / ATTACK_MODEL_FILE)
    assert reference.attack_version == str(attack.model_version)
    assert set(attack.inputs) | {ATTACK_SCORE} <= reference.columns.keys()
    assert reference.dates


def test_a_reference_is_the_one_beside_the_model_unless_another_is_named(tmp_path: Path) -> None:
    model = tmp_path / MODEL_FILE
    assert drift_reference(load_service_settings({}), model) == tmp_path / DRIFT_FILE
    (tmp_path / "other.json").touch()
    named = {"DRIFT_REFERENCE": str(tmp_path / "other.json")}
    assert drift_reference(load_service_settings(named), model) == tmp_path / "other.json"
    with pytest.raises(SettingsError, match="DRIFT_REFERENCE"):
        drift_reference(load_service_settings({"DRIFT_REFERENCE": str(tmp_path / "no")}), model)


def test_without_a_reference_the_log_says_how_to_make_one(
    database: Database, decider: Decider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = counted("token_transfers_drift_checked_timestamp_seconds")
    with caplog.at_level(logging.INFO):
        missing = tmp_path / "missing.json"
        assert DriftCheck(database, decider, 1, missing, 60).check_if_due() is None
    assert f"--save-reference {missing}" in caplog.text
    assert counted("token_transfers_drift_checked_timestamp_seconds") == before


def test_too_little_traffic_gives_no_verdict(
    database: Database, decider: Decider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reference = reference_of(decider, tmp_path)
    assert DriftCheck(database, decider, 1, reference, 60).check_if_due() is None
    keep(database, [loaded(number) for number in range(10)])
    assert DriftCheck(database, decider, 1, reference, 1e-6).check_if_due() is None
    assert "no transactions are stored yet" in caplog.text
    assert "the current sample has 10 transactions" in caplog.text


def test_settings_of_upkeep_are_checked() -> None:
    with pytest.raises(SettingsError, match="DRIFT_INTERVAL_MINUTES"):
        load_service_settings({"DRIFT_INTERVAL_MINUTES": "-1"})
    with pytest.raises(SettingsError, match="MODEL_REFRESH_SECONDS"):
        load_service_settings({"MODEL_REFRESH_SECONDS": "0"})
