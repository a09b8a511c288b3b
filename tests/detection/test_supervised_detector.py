"""A classifier trained by `npm run train:fraud` on token transfers, as a detector of the bot."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src import agent
from src.detection.errors import ModelIncompatible
from src.detection.features.definitions import FEATURE_NAMES
from src.training.supervised import __main__ as fraud
from tests.conftest import ALICE, BOB, event_of, transfer_log

POLICY = "version: 1\ndetectors:\n  supervised: {mode: on, review_at: 0.5, block_at: 0.95}\n"


def train(folder: Path, inputs: tuple[str, ...]) -> str:
    """Fraud is whatever moves in pairs of hops: the first input decides."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.integers(0, 4, (300, len(inputs))), columns=list(inputs))
    table["label"] = (table[inputs[0]] > 1).astype(int)
    table.to_csv(folder / "labelled.csv", index=False)
    arguments = ["--data", str(folder / "labelled.csv"), "--label", "label"]
    quick = ["--out", str(folder), "--trees", "10", "--folds", "3", "--created-at", "1700000000"]
    assert fraud.main([*arguments, *quick]) == 0
    return str(folder / "fraud_model.npz")


def test_the_trained_classifier_reviews_what_it_was_taught(start_bot, tmp_path):
    (tmp_path / "policy.yaml").write_text(POLICY)
    start_bot(
        ANOMALY_THRESHOLD="1",
        POLICY_PATH=str(tmp_path / "policy.yaml"),
        SUPERVISED_MODEL_PATH=train(tmp_path, FEATURE_NAMES),
    )
    plain = agent.handle_transaction(event_of([transfer_log()]))
    assert [finding.alert_id for finding in plain] == ["NORMAL-TOKEN-TRANSFERS-TX"]
    there, back = transfer_log(), transfer_log(sender=BOB, recipient=ALICE)
    round_trips = [dict(log) for _ in range(8) for log in (there, back)]
    primary, rule = agent.handle_transaction(event_of(round_trips))
    assert primary.metadata["action"] in {"REVIEW", "BLOCK"}
    assert json.loads(primary.metadata["reasons"])[0]["detector"] == "supervised"
    assert rule.alert_id == "SUPERVISED-MODEL-FRAUD"


def test_a_classifier_of_something_else_stops_the_bot(start_bot, tmp_path):
    card = train(tmp_path, ("Time", "V1", "V2"))
    with pytest.raises(ModelIncompatible, match="train:fraud:dataset"):
        start_bot(SUPERVISED_MODEL_PATH=card)
