"""Retraining of the fraud model: better is promoted, worse refused, held-out rows stay held out."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from src.datasets.columns import Columns
from src.datasets.labelled import LabelledRows, join_labelled, load_labelled
from src.detection.bundle_files import FRAUD_MODEL_FILE
from src.detection.supervised.model import load_fraud_model
from src.registry import __main__ as models
from src.registry.bundle import FRAUD
from src.registry.data_sets import DataSets, checked
from src.registry.registry import Registry
from src.registry.store import Store
from src.training.retraining import __main__ as command
from src.training.retraining.feedback import AllFeedback, Feedback
from src.training.retraining.fraud import judge, retrain_fraud
from src.training.retraining.run import REFUSED
from src.training.supervised.run import Options, train
from src.training.supervised.selection import figures_of, hold_out

LABEL = Columns("Class")
QUICK = {
    "options": Options(folds=2, classifiers=("LogisticRegression",)),
    "repetitions": 50,
    "created_at": 1_800_000_000,
}


def table_of(rows: int, seed: int, *, shift: float = 3.0) -> pd.DataFrame:
    """Frauds have a V1 that is higher by `shift`."""
    random = np.random.default_rng(seed)
    is_fraud = random.random(rows) < 0.2
    table = pd.DataFrame(random.normal(size=(rows, 3)), columns=["V1", "V2", "Amount"])
    table["V1"] += shift * is_fraud
    return table.assign(Class=is_fraud.astype(int))


@pytest.fixture
def data(tmp_path):
    """The old and the new table, checked."""
    found = []
    for name, seed in (("old", 0), ("new", 1)):
        table_of(1200, seed).to_csv(tmp_path / f"{name}.csv", index=False)
        found.append(checked(tmp_path / f"{name}.csv", LABEL))
    return found


@pytest.fixture(scope="module")
def bundle_of(tmp_path_factory):
    """The bundle that a table gives, trained once."""

    @cache
    def bundle_of(rows, seed, shift=3.0):
        folder = tmp_path_factory.mktemp("first")
        table_of(rows, seed, shift=shift).to_csv(folder / "first.csv", index=False)
        loaded = load_labelled(folder / "first.csv", LABEL)
        source = {"file": "first.csv", "label": "Class", "group": None}
        out = folder / "first"
        train(loaded, out, source, created_at=1_700_000_000, options=QUICK["options"])
        return out

    return bundle_of


def registry_with(url, bundle):
    """A registry with this champion."""
    registry = Registry(Store(url), FRAUD)
    registry.promote(registry.add(bundle, code_version="abc").id)
    return registry


def test_a_better_fraud_model_is_promoted_and_rolled_back(url, data, tmp_path, bundle_of):
    registry = registry_with(url, bundle_of(1200, 5, -3.0))
    before = registry.ledger().champion
    old, new = data
    stored = DataSets(registry.store)
    stored.add(old)
    outcome = retrain_fraud(
        registry, stored.fetch("labelled", tmp_path / "data"), new=[new], **QUICK
    )
    assert outcome.promoted, outcome.checks
    assert {one.id for one in stored.list("labelled")} == {old.id, new.id} == set(outcome.data)
    entry = registry.entry("champion")
    assert entry.id == outcome.challenger
    assert {"report.md", "confusion_matrix.png", "evaluation.json"} <= entry.files.keys()
    assert entry.data["rows"] == 2400
    assert registry.rollback().champion == before


def test_the_champion_again_is_not_promoted(tmp_path, data, bundle_of):
    """A weekly run without new data would make it its own predecessor."""
    store = str(tmp_path / "store")
    registry = registry_with(store, bundle_of(1200, 5, -3.0))
    first = retrain_fraud(registry, {}, new=[data[0]], **QUICK)
    assert first.promoted, first.checks
    stored = DataSets(registry.store).fetch("labelled", tmp_path / "data")
    again = retrain_fraud(registry, stored, **QUICK | {"created_at": 1_900_000_000})
    assert [one.name for one in again.checks if not one.passed] == ["another model"]
    assert registry.ledger().champion == first.challenger
    assert registry.ledger().previous == first.champion


def test_a_worse_fraud_model_is_refused_with_the_reason(tmp_path, data, bundle_of):
    """A tree that is not pruned is sure of itself, and wrong where the classes overlap."""
    registry = registry_with(str(tmp_path / "store"), bundle_of(1200, 0, 2.0))
    table_of(1200, 1, shift=2.0).to_csv(tmp_path / "more.csv", index=False)
    worse = QUICK | {"options": Options(folds=2, classifiers=("DecisionTree",))}
    outcome = retrain_fraud(registry, {}, new=[checked(tmp_path / "more.csv", LABEL)], **worse)
    assert not outcome.promoted
    assert "average precision" in {one.name for one in outcome.checks if not one.passed}
    step = registry.ledger()
    assert step.champion == outcome.champion
    assert step.challenger == outcome.challenger


def test_a_model_that_flags_nothing_is_replaced_and_does_not_replace(tmp_path, bundle_of):
    """Nor ends the retraining with an error: its precision is 0, as in the cross-validation."""
    table_of(1200, 0).to_csv(tmp_path / "data.csv", index=False)
    table = load_labelled(tmp_path / "data.csv", LABEL)
    good = load_fraud_model(bundle_of(1200, 0) / FRAUD_MODEL_FILE)
    silent = replace(good, manifest=replace(good.manifest, threshold=1.0))
    checks = judge(silent, good, table, repetitions=50)
    assert all(one.passed for one in checks), checks
    checks = judge(good, silent, table, repetitions=50)
    assert {one.name for one in checks if not one.passed} == {"precision", "recall"}
    figures = figures_of(table.labels, silent.probabilities(table.rows), 1.0, None, 0)
    assert figures["metrics"]["precision"] == {"value": 0.0, "interval": [0.0, 0.0]}


def test_a_stored_table_of_something_else_ends_no_retraining(tmp_path, data, bundle_of):
    """Nothing leaves the store: an error would come back with every later retraining."""
    registry = registry_with(str(tmp_path / "store"), bundle_of(1200, 0))
    table_of(1200, 3).rename(columns={"V2": "other"}).to_csv(tmp_path / "other.csv", index=False)
    stored = DataSets(registry.store)
    for one in (data[0], checked(tmp_path / "other.csv", LABEL)):
        odd = stored.add(one)
    outcome = retrain_fraud(registry, stored.fetch("labelled", tmp_path / "data"), **QUICK)
    assert outcome.data == (data[0].id,)
    (note,) = [one for one in outcome.notes if odd in one]
    assert "is not trained on" in note
    assert "lacks the column V2" in note
    assert str(tmp_path) not in note
    stored.withdraw(data[0].id, reason="test")
    with pytest.raises(ValueError, match=f"no labelled data: .*{odd} is not trained on"):
        retrain_fraud(registry, stored.fetch("labelled", tmp_path / "data"), **QUICK)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--trees", "5"],
        ["--kind", "attack", "--folds", "3"],
        ["--kind", "attack", "--keep-classifier"],
        ["--kind", "fraud", "--collect", "5"],
        ["--kind", "fraud", "--parameter", "n_estimators=5"],
        ["--kind", "attack", "--parameter", "n_estimators=5"],
    ],
)
def test_an_option_of_another_kind_is_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(arguments)
    assert "--kind fraud" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--positive", "--ignore", "--group"])
def test_options_of_a_labelled_table_need_its_label(tmp_path, capsys, option):
    store = ["--store", str(tmp_path / "store")]
    assert command.main([*store, option, "x"]) == 2
    assert models.main([*store, "data", "add", str(tmp_path), option, "x"]) == 2
    assert capsys.readouterr().err.count("need --label") == 2


def test_a_row_is_held_out_in_every_later_table(tmp_path):
    old, new = table_of(900, 0), table_of(900, 1)
    inputs = ("V1", "V2", "Amount")

    def rows_of(table, names=inputs):
        return LabelledRows(names, table[list(names)].to_numpy(), table["Class"].to_numpy())

    first = join_labelled([rows_of(old)])
    split = hold_out(first)
    assert 0.24 < len(split.test) / len(first.rows) < 0.26
    both = join_labelled([rows_of(new), rows_of(old)])
    again = hold_out(both, split.cuts)
    trained = {tuple(row) for row in first.rows[split.train].tolist()}
    assert trained.isdisjoint(tuple(row) for row in both.rows[again.test].tolist())
    backwards = join_labelled([rows_of(old, inputs[::-1])])
    assert sorted(backwards.draws) == sorted(first.draws)


def test_a_row_with_both_labels_is_on_one_side():
    random = np.random.default_rng(0)
    rows, doubted = random.normal(size=(400, 2)), random.normal(size=(200, 2))
    labels = (random.random(400) < 0.1).astype(np.int64)
    both = LabelledRows(
        ("V1", "V2"),
        np.concatenate([rows, doubted, doubted]),
        np.concatenate([labels, np.zeros(200, np.int64), np.ones(200, np.int64)]),
    )
    table = join_labelled([both])
    split = hold_out(table)
    trained = {tuple(row) for row in table.rows[split.train].tolist()}
    assert trained.isdisjoint(tuple(row) for row in table.rows[split.test].tolist())


def test_a_row_is_held_out_when_feedback_joins_its_table(tmp_path):
    """Feedback has groups, one a transaction; the rows of a table without any keep their side."""
    old = table_of(900, 0)
    inputs = ("V1", "V2", "Amount")
    rows = LabelledRows(inputs, old[list(inputs)].to_numpy(), old["Class"].to_numpy())
    given = LabelledRows(inputs, np.ones((1, 3)), np.ones(1, np.int64), ["transaction 0x0"])
    first, both = join_labelled([rows]), join_labelled([rows, rows, given])
    assert len(both.rows) == len(first.rows) + 1  # a row that is in two counts once
    assert set(first.draws) < set(both.draws)
    split = hold_out(first)
    trained = {tuple(row) for row in first.rows[split.train].tolist()}
    held_out = both.rows[hold_out(both, split.cuts).test]
    assert trained.isdisjoint(tuple(row) for row in held_out.tolist())


def test_feedback_becomes_rows_where_the_features_are_known(tmp_path):
    hashes = [f"0x{number:064x}" for number in range(3)]
    feedback = AllFeedback(
        Feedback(frozenset(hashes[:1]), frozenset(hashes[1:])),
        {hashes[0]: {"V1": 1.0, "V2": 2}, hashes[1]: {"V1": None, "V2": 1.0}},
    )
    rows = feedback.labelled(("V2", "V1"))
    assert rows is not None
    assert rows.rows.tolist() == [[2.0, 1.0]]
    assert rows.labels.tolist() == [1]
    assert feedback.labelled(("V9",)) is None


def test_a_dry_run_stores_nothing(tmp_path, capsys, monkeypatch, bundle_of):
    monkeypatch.setenv("STORE_URL", str(tmp_path / "store"))
    table_of(600, 0).to_csv(tmp_path / "data.csv", index=False)
    registry_with(str(tmp_path / "store"), bundle_of(1200, 0))
    before = sorted((tmp_path / "store").rglob("*"))
    arguments = ["--kind", "fraud", "--data", str(tmp_path / "data.csv"), "--label", "Class"]
    quick = ["--keep-classifier", "--folds", "2", "--dry-run"]
    code = command.main([*arguments, *quick, "--report", str(tmp_path / "report")])
    said = capsys.readouterr().out
    assert {0: "Would be promoted", REFUSED: "Refused"}[code] in said
    assert sorted((tmp_path / "store").rglob("*")) == before
    page = (tmp_path / "report/retraining.html").read_text()
    assert page.count("data:image/png") == 3
    assert (tmp_path / "report/confusion_matrix.png").is_file()
    with pytest.raises(SystemExit, match="2"):
        command.main(["--data", "data.csv", "--label", "Class"])
    (tmp_path / "bad.csv").write_text("V1,V2,Amount,Class\n1,2,x,0\n3,4,3,1\n")
    assert command.main([*arguments, "--data", str(tmp_path / "bad.csv")]) == 1
    assert "row 1, column Amount: 'x' is not a number" in capsys.readouterr().err
    assert models.main(["history", "--kind", "fraud"]) == 0
    assert capsys.readouterr().out.count("promote") == 1
