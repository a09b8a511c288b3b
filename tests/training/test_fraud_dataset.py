"""Labelled token transfers as a table, and a supervised model trained on it."""

import json
from pathlib import Path

import numpy as np
import pytest

from notebooks.sample import write_sample
from src.datasets.training_set import load_background
from src.detection.bundle_files import FRAUD_MODEL_FILE as MODEL_FILE
from src.detection.features.definitions import FEATURE_NAMES, TokenProfile
from src.detection.supervised.model import load_fraud_model
from src.training.evaluation.sets import attack_groups, clusters, load_exploits
from src.training.supervised import __main__ as fraud
from src.training.supervised import dataset as fraud_dataset
from src.training.supervised.labelled import labelled_features


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, blocks=12, per_block=20, attacks=24)
    return folder


@pytest.mark.parametrize("suffix", [".parquet", ".csv.gz"])
def test_a_model_is_trained_on_the_table_and_takes_the_live_features(sample, tmp_path, suffix):
    table, out = tmp_path / f"table{suffix}", tmp_path / "out"
    assert fraud_dataset.main(["--data", str(sample), "--out", str(table)]) == 0
    command = ["--data", str(table), "--label", "exploit", "--group", "group"]
    quick = ["--trees", "5", "--folds", "2", "--ignore", "tx_hash", "derivation"]
    assert fraud.main([*command, *quick, "--out", str(out), "--created-at", "1"]) == 0
    model = load_fraud_model(out / MODEL_FILE)
    assert set(model.inputs) <= set(FEATURE_NAMES)
    assert 0 <= model.probability(dict.fromkeys(FEATURE_NAMES, 0.0)) <= 1
    figures = json.loads((out / "report.json").read_text())
    assert figures["data"]["group"] == "group"
    assert figures["data"]["hold_out_fraud_groups"] >= 1


def test_every_transaction_stands_once_with_its_block_or_attack_as_group(sample):
    background, exploits = load_background(sample), load_exploits(sample)
    table = labelled_features(background, exploits, TokenProfile.from_amounts({}))
    assert table["tx_hash"].is_unique
    assert len(table) == len(background) + len(exploits)
    assert table["exploit"].sum() == len(exploits)
    blocks = table[table["exploit"] == 0].groupby("group").size()
    assert len(blocks) == background.table["block_number"].nunique()
    assert set(table[table["exploit"] == 1]["group"]).isdisjoint(blocks.index)
    assert np.isfinite(table[list(FEATURE_NAMES)].to_numpy()).all()


def test_attacks_on_one_protocol_or_of_one_graph_are_one_group(sample):
    graphs = clusters(load_exploits(sample))
    separate = attack_groups(graphs, [f"p{row}" for row in range(len(graphs))])
    assert len(set(separate)) == len(set(graphs)) > 1
    assert attack_groups(graphs, [""] * len(graphs)).tolist() == separate.tolist()
    assert len(set(attack_groups(graphs, ["one"] * len(graphs)))) == 1


def test_a_folder_without_exploits_ends_with_the_reason(sample, tmp_path, capsys):
    for name in ("transactions.parquet", "transfers.parquet"):
        (tmp_path / name).write_bytes((sample / name).read_bytes())
    out = tmp_path / "table.parquet"
    assert fraud_dataset.main(["--data", str(tmp_path), "--out", str(out)]) == 1
    assert "contains no exploit transfers" in capsys.readouterr().err
    assert not out.exists()
