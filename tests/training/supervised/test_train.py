"""Training: what it writes, leaves out, counts and refuses."""

import json

import numpy as np
import pandas as pd
import pytest

from src.datasets.columns import Columns
from src.datasets.labelled import load_labelled
from src.detection.bundle_files import FRAUD_MODEL_FILE as MODEL_FILE
from src.detection.supervised.model import load_fraud_model
from src.monitoring.drift.inputs import sample_of_predictions
from src.monitoring.drift.verdict import Verdict, compare
from src.registry.drift_reference import parse_sample
from src.training.supervised import __main__ as fraud
from src.training.supervised.candidates import ThinnedSVC
from src.training.supervised.run import Options, train
from src.training.supervised.selection import choose_threshold, figures_of, hold_out
from tests.training.supervised.data import INPUTS, QUICK, labelled, run


def test_training_writes_the_bundle_the_report_and_three_pictures(trained):
    names = {path.name for path in trained.iterdir()}
    assert names == {
        "fraud_model.npz",
        "fraud_model.manifest.json",
        "drift_reference.json",
        "report.md",
        "report.json",
        "comparison.png",
        "confusion_matrix.png",
        "precision_recall.png",
    }
    figures = json.loads((trained / "report.json").read_text())
    assert [one["name"] for one in figures["comparison"]] == [
        "RandomForest",
        "LogisticRegression",
        "SVM",
        "DecisionTree",
    ]
    best = max(figures["comparison"], key=lambda one: one["average_precision"]["mean"])
    assert figures["classifier"] == best["name"]
    confusion = figures["hold_out"]["confusion"]
    assert sum(confusion.values()) == figures["data"]["hold_out_rows"]
    low, high = figures["hold_out"]["metrics"]["recall"]["interval"]
    assert low <= figures["hold_out"]["metrics"]["recall"]["value"] <= high


def test_same_rows_in_another_order_and_format_give_the_same_bytes(trained, tmp_path):
    shuffled = labelled().sample(frac=1, random_state=3)
    shuffled.to_parquet(tmp_path / "data.parquet", index=False)
    again = tmp_path / "again"
    options = ["--data", str(tmp_path / "data.parquet"), "--label", "Class", "--out", str(again)]
    assert fraud.main([*options, *QUICK]) == 0
    for path in trained.iterdir():
        text = (again / path.name).read_bytes().replace(b"data.parquet", b"data.csv")
        assert text == path.read_bytes(), path.name


def test_scaler_is_fitted_on_the_training_part_alone(trained):
    table = load_labelled(trained.parent / "data.csv", Columns("Class"))
    split = hold_out(table)
    train, test = split.train, split.test
    pipeline = load_fraud_model(trained / MODEL_FILE).pipeline
    np.testing.assert_allclose(pipeline.mean, table.rows[train].mean(axis=0))
    assert not np.allclose(pipeline.mean, table.rows.mean(axis=0))
    assert set(train) & set(test) == set()
    assert len(train) + len(test) == len(table.rows)


def test_hold_out_keeps_groups_whole_and_the_share_of_fraud(tmp_path):
    table = labelled(600).assign(account=lambda rows: [f"a{i % 60}" for i in range(len(rows))])
    table.to_csv(tmp_path / "data.csv", index=False)
    loaded = load_labelled(tmp_path / "data.csv", Columns("Class", group="account"))
    split = hold_out(loaded)
    train, test = split.train, split.test
    assert loaded.groups is not None
    assert set(loaded.groups[train]).isdisjoint(loaded.groups[test])
    assert loaded.labels[test].mean() == pytest.approx(loaded.labels.mean(), abs=0.05)


def test_groups_that_all_have_a_fraud_are_held_out_as_well(tmp_path):
    table = labelled(200).assign(account=list(range(50)) * 4)
    table["Class"] = (table.index < 50).astype(int)
    table.to_csv(tmp_path / "data.csv", index=False)
    split = hold_out(load_labelled(tmp_path / "data.csv", Columns("Class", group="account")))
    assert 0.2 < len(split.test) / len(table) < 0.3
    assert np.isfinite(split.cuts).all()


def test_text_empty_and_constant_columns_are_excluded_and_listed(tmp_path):
    table = labelled().assign(part="x", nothing=np.nan, one=1, Address="0x1")
    table.to_csv(tmp_path / "data.csv", index=False)
    loaded = load_labelled(tmp_path / "data.csv", Columns("Class", ("Address",)))
    assert loaded.inputs == INPUTS
    said = " ".join(loaded.notes)
    assert "not numeric: part" in said
    assert "empty: nothing" in said
    assert "the same in every row: one" in said


def test_missing_values_are_counted_and_take_the_training_medians(tmp_path):
    table = labelled()
    table.loc[::7, "V2"] = np.nan
    out = run(table.head(200), tmp_path)
    model = load_fraud_model(out / MODEL_FILE)
    assert model.manifest.training["missing_values"] == {"V2": len(table.head(200)[::7])}
    row = np.array([[100.0, -3.0, np.nan, 20.0]])
    filled = np.array([[100.0, -3.0, model.pipeline.impute[2], 20.0]])
    assert model.probabilities(row) == model.probabilities(filled)


def test_values_missing_in_one_class_only_give_a_warning(tmp_path):
    table = labelled()
    table["V2"] = table["V2"].where(table["Class"] == 0)
    table.to_csv(tmp_path / "data.csv", index=False)
    notes = " ".join(load_labelled(tmp_path / "data.csv", Columns("Class")).notes)
    assert "(V2) are missing only where the label is 1" in notes


def test_repeated_rows_are_dropped_unless_a_group_keeps_them_together(tmp_path):
    table = labelled(100).assign(day=1)
    pd.concat([table, table.head(7)]).to_csv(tmp_path / "data.csv", index=False)
    dropped = load_labelled(tmp_path / "data.csv", Columns("Class", ("day",)))
    assert len(dropped.rows) == 100
    assert "7 exact duplicates were dropped" in " ".join(dropped.notes)
    assert len(load_labelled(tmp_path / "data.csv", Columns("Class", group="day")).rows) == 107


def test_an_input_that_reveals_the_label_gives_a_warning(tmp_path):
    labelled().assign(chargeback=lambda rows: rows["Class"] * 2).to_csv(
        tmp_path / "data.csv", index=False
    )
    notes = " ".join(load_labelled(tmp_path / "data.csv", Columns("Class")).notes)
    assert "chargeback alone separates the classes" in notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="Class"), "lacks the column Class"),
        (lambda table: table.assign(Class=0), "not both 0 and 1"),
        (lambda table: table.head(0), "no rows"),
        (lambda table: table.assign(Class=table["Class"] + 1), "--positive"),
        (lambda table: table.assign(Class=table["Class"].replace(0, np.nan)), "have no Class"),
        (lambda table: table.assign(V1=np.inf), "V1 has infinite values"),
        (lambda table: table[["Class"]].assign(name="x"), "no numeric column"),
        (lambda table: table[table["Class"].cumsum() <= 3], "3 rows of fraud"),
    ],
)
def test_unusable_data_end_with_the_reason_and_no_model(tmp_path, capsys, change, message):
    change(labelled()).to_csv(tmp_path / "data.csv", index=False)
    options = ["--data", str(tmp_path / "data.csv"), "--label", "Class", "--out"]
    assert fraud.main([*options, str(tmp_path / "out"), *QUICK]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("values", "positive"),
    [(("legit", "fraud"), "fraud"), (("0", "1"), None), ((False, True), None), ((0.0, 1.0), None)],
)
def test_labels_may_be_text_booleans_or_numbers(tmp_path, values, positive):
    table = labelled(100)
    expected = table["Class"].sum()
    table.assign(Class=[values[label] for label in table["Class"]]).to_parquet(
        tmp_path / "data.parquet"
    )
    loaded = load_labelled(tmp_path / "data.parquet", Columns("Class", positive=positive))
    assert loaded.labels.sum() == expected


def test_threshold_has_the_best_f1_and_lies_between_two_probabilities():
    labels = np.array([0, 0, 0, 1, 0, 1, 1])
    probabilities = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.9])
    threshold = choose_threshold(labels, probabilities, None)
    assert threshold == pytest.approx(0.35)
    assert choose_threshold(labels, probabilities, 1.0) == pytest.approx(0.55)
    with pytest.raises(ValueError, match=r"the best is 0\.500"):
        choose_threshold(labels[:5], probabilities[:5], 0.9)


def test_metrics_count_what_they_say():
    labels = np.array([0] * 8 + [1] * 4)
    probabilities = np.array([0.9] + [0.1] * 7 + [0.9, 0.9, 0.9, 0.2])
    found = figures_of(labels, probabilities, 0.5, None, seed=0)
    assert found["confusion"] == {
        "true_negatives": 7,
        "false_positives": 1,
        "false_negatives": 1,
        "true_positives": 3,
    }
    assert found["metrics"]["precision"]["value"] == 0.75
    assert found["metrics"]["recall"]["value"] == 0.75
    # Ties at 0.9: three of four; then the last fraud as fifth. (3/4) * 3/4 + (4/5) * 1/4
    assert found["metrics"]["average_precision"]["value"] == pytest.approx(0.7625)


def test_svm_beyond_its_rows_keeps_rare_frauds_and_weighs_the_rest():
    labels = np.array([1] * 20 + [0] * 980)
    kept, weights = ThinnedSVC(max_rows=100)._thin(labels)
    assert labels[kept].sum() == 20
    assert len(kept) == 100
    assert weights[labels[kept] == 0].sum() == pytest.approx(980)


def test_a_model_has_not_drifted_from_its_own_training(tmp_path):
    """The folds' models are others than the one that is saved: so are their probabilities."""
    random = np.random.default_rng(0)
    is_fraud = random.random(4400) < 0.1
    rows = random.normal(size=(4400, 3))
    rows[:, 0] += 2.5 * is_fraud
    frame = pd.DataFrame(rows, columns=["V1", "V2", "Amount"]).assign(Class=is_fraud.astype(int))
    frame.to_csv(tmp_path / "data.csv", index=False)
    table = load_labelled(tmp_path / "data.csv", Columns("Class"))
    source = {"file": "data.csv", "label": "Class", "group": None}
    quick = Options(folds=2, classifiers=("DecisionTree",))
    train(table, tmp_path / "out", source, created_at=5, options=quick)
    model = load_fraud_model(tmp_path / "out" / "fraud_model.npz")
    reference = parse_sample((tmp_path / "out" / "drift_reference.json").read_text())
    drift = compare(reference, sample_of_predictions(model, table.rows))
    assert drift.verdict is Verdict.OK, drift.reasons
