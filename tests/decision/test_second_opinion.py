"""The attack score in the bot: in findings, in the policy, and where there is none."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from src import agent
from src.detection.bundle_files import manifest_path
from src.detection.errors import ModelIncompatible, ModelMissing, ModelTampered
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import load_model
from tests.conftest import ALICE, BOB, event_of, transfer_log
from tests.support.attack import write_small_attack_model

EVERYTHING = "version: 1\ndetectors:\n  supervised: {mode: on, review_at: 0, block_at: 1}\n"
NOTHING = "version: 1\ndetectors:\n  supervised: {mode: on, review_at: 1}\n"


@pytest.fixture
def model_path(bundle_path: Path, tmp_path: Path) -> Path:
    """A forest in a folder of its own, with an attack model beside it."""
    for file in (bundle_path, manifest_path(bundle_path)):
        shutil.copy(file, tmp_path / file.name)
    path = tmp_path / bundle_path.name
    write_small_attack_model(load_model(path, FEATURE_NAMES), folder=tmp_path)
    return path


def policy(folder: Path, text: str) -> str:
    (folder / "policy.yaml").write_text(text)
    return str(folder / "policy.yaml")


def supervised(metadata: dict[str, str]) -> list[dict[str, str]]:
    return [r for r in json.loads(metadata["reasons"]) if r["detector"] == "supervised"]


def test_a_finding_carries_the_attack_score(
    start_bot: Callable[..., None], model_path: Path, tmp_path: Path
) -> None:
    start_bot(MODEL_PATH=str(model_path), POLICY_PATH=policy(tmp_path, NOTHING))
    (finding,) = agent.handle_transaction(event_of([transfer_log()]))
    score = float(finding.metadata["attack_score"])
    assert 0 <= score < 1
    assert len(finding.metadata["attack_score"]) == len("0.123456")
    assert float(finding.metadata["attack_percentile"]) == pytest.approx(100 * score, abs=1e-4)
    assert finding.metadata["attack_model_version"] == "1660000000"
    assert "attack_explanations" not in finding.metadata
    assert not supervised(finding.metadata)


def test_a_score_that_asks_for_attention_raises_an_alert_and_is_explained(
    start_bot: Callable[..., None], model_path: Path, tmp_path: Path
) -> None:
    start_bot(
        MODEL_PATH=str(model_path), POLICY_PATH=policy(tmp_path, EVERYTHING), ANOMALY_THRESHOLD="1"
    )
    primary, alert = agent.handle_transaction(event_of([transfer_log()]))
    explained = json.loads(primary.metadata["attack_explanations"])
    assert len(explained) == 10
    assert {*explained[0]} == {"feature", "value", "weight"}
    assert primary.metadata["action"] == "REVIEW"
    assert alert.alert_id == "SUPERVISED-MODEL-FRAUD"
    assert "resembles known attacks" in alert.metadata["reason"]
    assert primary.metadata["attack_score"] not in alert.metadata["reason"]


def test_a_transaction_that_cannot_be_scored_has_no_attack_score(
    start_bot: Callable[..., None], model_path: Path
) -> None:
    start_bot(MODEL_PATH=str(model_path))
    event = event_of([transfer_log()])
    event.transaction.from_ = None
    findings = agent.handle_transaction(event)
    assert findings[0].alert_id == "INVALID-TOKEN-TRANSFERS-TX"
    assert "attack_score" not in findings[0].metadata
    (reason,) = supervised(findings[0].metadata)
    assert reason["status"] == "missing inputs"


def test_without_an_attack_model_the_bot_says_so_and_goes_on(
    start_bot: Callable[..., None], bundle_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert not bundle_path.with_name("attack_model.npz").exists()
    start_bot()
    assert "no attack scores" in caplog.text
    (finding,) = agent.handle_transaction(event_of([transfer_log()]))
    assert "attack_score" not in finding.metadata
    (reason,) = supervised(finding.metadata)
    assert reason["reason"] == "no attack score: no attack model is loaded"
    assert agent.BOT is not None
    assert agent.BOT.pipeline.problems() == ["no attack scores: no attack model is loaded"]
    assert agent.health_check() == []


def of_another_forest(path: Path) -> Path:
    forest = load_model(path, FEATURE_NAMES)
    other = replace(forest, manifest=replace(forest.manifest, sha256="0" * 64))
    return write_small_attack_model(other, folder=path.parent)


def test_an_attack_model_of_another_forest_gives_no_score(
    start_bot: Callable[..., None], model_path: Path
) -> None:
    of_another_forest(model_path)
    start_bot(MODEL_PATH=str(model_path))
    (finding,) = agent.handle_transaction(event_of([transfer_log()]))
    assert "attack_score" not in finding.metadata
    (reason,) = supervised(finding.metadata)
    assert "not one for this isolation forest" in reason["reason"]


def test_what_an_operator_names_must_work(
    start_bot: Callable[..., None], model_path: Path, tmp_path: Path
) -> None:
    other = of_another_forest(model_path)
    with pytest.raises(ModelIncompatible, match="train:attack"):
        start_bot(MODEL_PATH=str(model_path), ATTACK_MODEL_PATH=str(other))
    with pytest.raises(ModelMissing):
        start_bot(MODEL_PATH=str(model_path), ATTACK_MODEL_PATH=str(tmp_path / "none.npz"))


def test_a_changed_attack_model_stops_the_bot_wherever_it_lies(
    start_bot: Callable[..., None], model_path: Path
) -> None:
    path = model_path.with_name("attack_model.npz")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelTampered):
        start_bot(MODEL_PATH=str(model_path))


def test_the_shipped_models_belong_together(start_bot: Callable[..., None]) -> None:
    start_bot(MODEL_PATH=str(Path(__file__).resolve().parents[2] / "isolation_forest.pkl"))
    there, back = transfer_log(), transfer_log(sender=BOB, recipient=ALICE)
    (finding,) = agent.handle_transaction(event_of([there, back]))
    assert 0 < float(finding.metadata["attack_score"]) < 1
