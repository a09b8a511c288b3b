"""The bot is initialised once, or says why it cannot be."""

import gc

import pytest

from src import agent
from src.detection.errors import ModelMissing, ModelTampered
from src.variables import SettingsError
from tests.agent.handling import handle
from tests.conftest import (
    event_of,
    transfer_log,
)


def test_a_restarted_child_initialises_itself(start_bot):
    start_bot()
    agent.BOT.lookups.close()
    agent.BOT = None
    assert handle(event_of([transfer_log()]))["metadata"]["prediction"] in {"NORMAL", "ANOMALY"}
    assert agent.BOT is not None


def test_without_a_model_transactions_are_invalid_and_the_bot_is_unhealthy(
    start_bot, monkeypatch, tmp_path
):
    monkeypatch.setenv("MODEL_PATH", str(tmp_path / "absent.pkl"))
    finding = handle(event_of([transfer_log()]))
    assert finding["alert_id"] == "INVALID-TOKEN-TRANSFERS-TX"
    assert finding["metadata"]["reason"] == "internal error: ModelMissing"
    assert agent.health_check() == ["the model is not loaded"]


def test_initialize_refuses_a_missing_or_changed_model(start_bot, bundle_path, tmp_path):
    with pytest.raises(ModelMissing, match="npm run train"):
        start_bot(MODEL_PATH=str(tmp_path / "absent.pkl"))
    changed = tmp_path / "isolation_forest.pkl"
    changed.write_bytes(bundle_path.read_bytes() + b"\n")
    manifest = bundle_path.with_suffix(".manifest.json")
    changed.with_suffix(".manifest.json").write_bytes(manifest.read_bytes())
    with pytest.raises(ModelTampered, match="SHA-256"):
        start_bot(MODEL_PATH=str(changed))


def test_initialize_refuses_an_impossible_threshold(start_bot):
    with pytest.raises(SettingsError, match="ANOMALY_THRESHOLD"):
        start_bot(ANOMALY_THRESHOLD="1.5")


def test_initialize_keeps_what_it_loaded_out_of_the_collectors_way(start_bot):
    gc.unfreeze()
    start_bot()
    assert gc.get_freeze_count() > 10 * len(gc.get_objects())


def test_initialize_returns_nothing_and_loads_once(start_bot):
    start_bot()
    loaded = agent.BOT
    assert agent.initialize() is None
    assert agent.BOT is loaded
    assert agent.health_check() == []
