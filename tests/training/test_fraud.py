"""The supervised model: training, the bundle, and predicting by name."""

import dataclasses
import functools
import hashlib
import io
import json
import os
import pickle
from pathlib import Path

import dill
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

from src.detection.bundle_files import manifest_path
from src.detection.errors import (
    ModelIncompatible,
    ModelMalformed,
    ModelMissing,
    ModelTampered,
)
from src.detection.supervised.manifest import read_fraud_manifest
from src.detection.supervised.model import InvalidInputs, load_fraud_model, read_pipeline
from src.training.supervised import __main__ as fraud
from src.training.supervised.bundle import MODEL_FILE, pipeline_arrays, write_fraud_bundle
from src.training.supervised.candidates import ThinnedSVC, candidates
from src.training.supervised.selection import choose_threshold, figures_of, hold_out
from src.training.supervised.table import load_labelled

INPUTS = ("Time", "V1", "V2", "Amount")
QUICK = ("--trees", "10", "--folds", "3", "--created-at", "1700000000")


def labelled(n: int = 400, fraud_share: float = 0.1, seed: int = 0) -> pd.DataFrame:
    """Card-like rows; fraud differs in V1 and Amount."""
    random = np.random.default_rng(seed)
    is_fraud = random.random(n) < fraud_share
    return pd.DataFrame(
        {
            "Time": random.integers(0, 172_800, n),
            "V1": random.normal(0, 1, n) - 3 * is_fraud,
            "V2": random.normal(0, 1, n),
            "Amount": np.exp(random.normal(3, 1, n) + is_fraud),
            "Class": is_fraud.astype(int),
        }
    )


def run(table: pd.DataFrame, folder: Path, *arguments: str, name: str = "data.csv") -> Path:
    folder.mkdir(exist_ok=True)
    table.to_csv(folder / name, index=False)
    out = folder / "out"
    options = ["--data", str(folder / name), "--label", "Class", "--out", str(out)]
    assert fraud.main([*options, *QUICK, *arguments]) == 0
    return out


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(labelled(), tmp_path_factory.mktemp("fraud"))


@pytest.fixture
def bundle(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    for path in (trained / MODEL_FILE, manifest_path(trained / MODEL_FILE)):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path / MODEL_FILE


def a_row(**changes: object) -> dict[str, object]:
    return {"Time": 100, "V1": -3.2, "V2": 0.1, "Amount": 149.62, **changes}


def vouch_for(path: Path, content: bytes, **changes: object) -> None:
    """Replace the model file, and let the manifest vouch for the new one."""
    path.write_bytes(content)
    manifest = json.loads(manifest_path(path).read_text())
    manifest |= {"sha256": hashlib.sha256(content).hexdigest(), **changes}
    manifest_path(path).write_text(json.dumps(manifest))


# Training


def test_training_writes_the_bundle_the_report_and_three_pictures(trained):
    names = {path.name for path in trained.iterdir()}
    assert names == {
        "fraud_model.npz",
        "fraud_model.manifest.json",
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


def test_same_rows_in_another_order_and_format_give_the_same_bytes(tmp_path):
    table = labelled(200, 0.2)
    shuffled = table.sample(frac=1, random_state=3)
    shuffled.to_parquet(tmp_path / "data.parquet", index=False)
    first = run(table, tmp_path / "a")
    second = tmp_path / "b"
    options = ["--data", str(tmp_path / "data.parquet"), "--label", "Class", "--out", str(second)]
    assert fraud.main([*options, *QUICK]) == 0
    for path in first.iterdir():
        text = (second / path.name).read_bytes().replace(b"data.parquet", b"data.csv")
        assert text == path.read_bytes(), path.name


def test_scaler_is_fitted_on_the_training_part_alone(trained):
    table = load_labelled(trained.parent / "data.csv", "Class")
    train, test = hold_out(table, seed=0)
    pipeline = load_fraud_model(trained / MODEL_FILE).pipeline
    np.testing.assert_allclose(pipeline.mean, table.rows[train].mean(axis=0))
    assert not np.allclose(pipeline.mean, table.rows.mean(axis=0))
    assert set(train) & set(test) == set()
    assert len(train) + len(test) == len(table.rows)


def test_hold_out_keeps_groups_whole_and_the_share_of_fraud(tmp_path):
    table = labelled(600).assign(account=lambda rows: [f"a{i % 60}" for i in range(len(rows))])
    table.to_csv(tmp_path / "data.csv", index=False)
    loaded = load_labelled(tmp_path / "data.csv", "Class", group="account")
    train, test = hold_out(loaded, seed=0)
    assert loaded.groups is not None
    assert set(loaded.groups[train]).isdisjoint(loaded.groups[test])
    assert loaded.labels[test].mean() == pytest.approx(loaded.labels.mean(), abs=0.05)


def test_text_empty_and_constant_columns_are_excluded_and_listed(tmp_path):
    table = labelled().assign(part="x", nothing=np.nan, one=1, Address="0x1")
    table.to_csv(tmp_path / "data.csv", index=False)
    loaded = load_labelled(tmp_path / "data.csv", "Class", ignore=["Address"])
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
    notes = " ".join(load_labelled(tmp_path / "data.csv", "Class").notes)
    assert "(V2) are missing only where the label is 1" in notes


def test_repeated_rows_are_dropped_unless_a_group_keeps_them_together(tmp_path):
    table = labelled(100).assign(day=1)
    pd.concat([table, table.head(7)]).to_csv(tmp_path / "data.csv", index=False)
    dropped = load_labelled(tmp_path / "data.csv", "Class", ignore=["day"])
    assert len(dropped.rows) == 100
    assert "7 rows repeat" in " ".join(dropped.notes)
    assert len(load_labelled(tmp_path / "data.csv", "Class", group="day").rows) == 107


def test_an_input_that_reveals_the_label_gives_a_warning(tmp_path):
    labelled().assign(chargeback=lambda rows: rows["Class"] * 2).to_csv(
        tmp_path / "data.csv", index=False
    )
    notes = " ".join(load_labelled(tmp_path / "data.csv", "Class").notes)
    assert "chargeback alone tells the classes apart" in notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="Class"), "lacks the column Class"),
        (lambda table: table.assign(Class=0), "not both 0 and 1"),
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
    loaded = load_labelled(tmp_path / "data.parquet", "Class", positive=positive)
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


# The bundle


@pytest.mark.parametrize("at", range(4))
def test_every_classifier_predicts_from_its_arrays_as_scikit_learn_does(tmp_path, at):
    table = labelled(500, 0.3)
    rows = table[list(INPUTS)].to_numpy(dtype=np.float64)
    candidate = candidates(0, trees=15)[at]
    pipeline = clone(candidate.pipeline()).fit(rows[:300], table["Class"].to_numpy()[:300])
    write_fraud_bundle(
        tmp_path / MODEL_FILE,
        name=candidate.name,
        pipeline=pipeline,
        inputs=INPUTS,
        label="Class",
        threshold=0.5,
        training_rows=rows[:300],
        model_version=1,
        training={},
    )
    model = load_fraud_model(tmp_path / MODEL_FILE)
    expected = pipeline.predict_proba(rows)[:, 1]
    got = model.probabilities(rows)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)
    if candidate.name in {"RandomForest", "DecisionTree"}:
        np.testing.assert_array_equal(got, expected)
    singly = [model.predict_proba(dict(zip(INPUTS, row, strict=True))) for row in rows.tolist()]
    np.testing.assert_allclose(singly, got, rtol=0, atol=1e-12)


class Bomb:
    def __reduce__(self):
        return (os.mkdir, (self.target,))

    def __init__(self, target: str) -> None:
        self.target = target


@pytest.mark.parametrize("wrap", ["pickle", "dill", "npz", "npy"])
def test_a_bomb_that_the_manifest_vouches_for_is_refused_and_does_not_go_off(bundle, wrap):
    target = bundle.parent / "exploded"
    bomb = Bomb(str(target))
    buffer = io.BytesIO()
    if wrap == "npz":
        np.savez(buffer, classifier=np.array([bomb], dtype=object))
    elif wrap == "npy":
        np.save(buffer, np.array([bomb], dtype=object), allow_pickle=True)
    else:
        buffer.write({"pickle": pickle, "dill": dill}[wrap].dumps(bomb))
    vouch_for(bundle, buffer.getvalue())
    with pytest.raises(ModelMalformed):
        load_fraud_model(bundle)
    assert not target.exists()


def test_a_changed_file_is_refused_before_it_is_read(bundle):
    bundle.write_bytes(bundle.read_bytes() + b"\0")
    with pytest.raises(ModelTampered, match="SHA-256"):
        load_fraud_model(bundle)


def test_the_error_for_a_missing_file_or_manifest_names_the_command(bundle):
    bundle.unlink()
    with pytest.raises(ModelMissing, match="train:fraud"):
        load_fraud_model(bundle)
    manifest_path(bundle).unlink()
    with pytest.raises(ModelMissing, match=r"manifest\.json is missing"):
        load_fraud_model(bundle)


def test_another_scikit_learn_is_refused(bundle):
    vouch_for(bundle, bundle.read_bytes(), sklearn_version="1.0")
    with pytest.raises(ModelIncompatible, match=r"scikit-learn 1\.0"):
        load_fraud_model(bundle)


def test_golden_rows_that_are_not_reproduced_are_refused(bundle):
    golden = list(read_fraud_manifest(bundle).golden_probabilities)
    golden[0] += 0.001
    vouch_for(bundle, bundle.read_bytes(), golden_probabilities=golden)
    with pytest.raises(ModelMalformed, match="golden rows"):
        load_fraud_model(bundle)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"kind": "forest"},
        {"inputs": ["V1", "V1"]},
        {"inputs": []},
        {"threshold": 1.5},
        {"threshold": float("nan")},
        {"classifier": "Oracle"},
        {"golden_rows": []},
        {"golden_probabilities": [0.5]},
        {"training": 3},
    ],
)
def test_a_manifest_with_a_wrong_field_is_refused(bundle, changes):
    vouch_for(bundle, bundle.read_bytes(), **changes)
    with pytest.raises(ModelMalformed, match=r"fraud_model\.manifest\.json"):
        load_fraud_model(bundle)


def test_inputs_of_another_number_than_the_arrays_are_refused(bundle):
    manifest = read_fraud_manifest(bundle)
    fewer = [row[1:] for row in manifest.golden_rows]
    vouch_for(bundle, bundle.read_bytes(), inputs=INPUTS[1:], golden_rows=fewer)
    with pytest.raises(ModelMalformed, match="not 3"):
        load_fraud_model(bundle)


def tree_arrays() -> dict[str, np.ndarray]:
    rows = labelled(300, 0.3)[list(INPUTS)].to_numpy(dtype=np.float64)
    labels = labelled(300, 0.3)["Class"].to_numpy()
    candidate = candidates(0)[3]
    return pipeline_arrays(candidate.name, candidate.pipeline().fit(rows, labels))


def as_npz(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("left", 0),  # a walk that never ends
        ("right", 10**9),  # a walk that leaves the arrays
        ("left", -2),
        ("feature", 4),
        ("feature", -1),
        ("threshold", np.nan),
        ("fraud", 1.5),
        ("scale", 0.0),
        ("mean", np.inf),
    ],
)
def test_arrays_that_claim_the_impossible_are_refused(name, value):
    arrays = tree_arrays()
    arrays[name] = arrays[name].copy()
    arrays[name][0] = value
    with pytest.raises(ModelMalformed):
        read_pipeline(as_npz(arrays), len(INPUTS))


@pytest.mark.parametrize("name", sorted(tree_arrays()))
def test_a_missing_or_misshapen_array_is_refused(name):
    arrays = tree_arrays()
    missing = {key: value for key, value in arrays.items() if key != name}
    with pytest.raises(ModelMalformed):
        read_pipeline(as_npz(missing), len(INPUTS))
    with pytest.raises(ModelMalformed):
        read_pipeline(as_npz({**arrays, name: np.zeros((2, 2, 2))}), len(INPUTS))


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_be_refused(content):
    with pytest.raises(ModelMalformed):
        read_pipeline(content, len(INPUTS))


# Predicting


def test_prediction_is_by_name_whatever_the_order(trained):
    model = load_fraud_model(trained / MODEL_FILE)
    row = a_row()
    backwards = dict(reversed(row.items()))
    assert model.predict_proba(row) == model.predict_proba(backwards)
    assert model.predict(row) == {"prediction": 1}
    assert model.predict(a_row(V1=1.0, Amount=10)) == {"prediction": 0}


def test_prediction_is_fraud_from_the_threshold_on(trained):
    model = load_fraud_model(trained / MODEL_FILE)
    probability = model.predict_proba(a_row())
    at = dataclasses.replace(model.manifest, threshold=probability)
    assert dataclasses.replace(model, manifest=at).predict(a_row()) == {"prediction": 1}
    above = dataclasses.replace(model.manifest, threshold=np.nextafter(probability, 2))
    assert dataclasses.replace(model, manifest=above).predict(a_row()) == {"prediction": 0}


def test_every_wrong_input_is_named_by_what_is_wrong(trained):
    model = load_fraud_model(trained / MODEL_FILE)
    with pytest.raises(InvalidInputs) as raised:
        model.predict({"V1": True, "V2": "1", "Amount": float("nan"), "v1": 0.0})
    assert raised.value.missing == ("Time",)
    assert raised.value.unknown == ("v1",)
    assert raised.value.not_numeric == ("V1", "V2")
    assert raised.value.not_finite == ("Amount",)
    for name in ("Time", "V1", "V2", "Amount", "v1"):
        assert name in str(raised.value)


@pytest.mark.parametrize("value", [None, "", [], {}, True, np.True_, 1 + 2j, b"1"])
def test_what_is_not_a_number_is_refused(trained, value):
    with pytest.raises(InvalidInputs) as raised:
        load_fraud_model(trained / MODEL_FILE).predict(a_row(V1=value))
    assert raised.value.not_numeric == ("V1",)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 10**400, 1e300, np.float64("inf")])
def test_what_is_not_finite_or_too_large_is_refused(trained, value):
    with pytest.raises(InvalidInputs) as raised:
        load_fraud_model(trained / MODEL_FILE).predict(a_row(V1=value))
    assert raised.value.not_finite == ("V1",)


def test_nothing_sent_names_every_input(trained):
    with pytest.raises(InvalidInputs) as raised:
        load_fraud_model(trained / MODEL_FILE).predict({})
    assert raised.value.missing == tuple(sorted(INPUTS))


def test_a_flood_of_unknown_names_makes_a_short_printable_message(trained):
    flood = {f"x{number}\n\x1b[31m" + "y" * 5000: 1.0 for number in range(1000)}
    with pytest.raises(InvalidInputs) as raised:
        load_fraud_model(trained / MODEL_FILE).predict(a_row(**flood))
    assert len(raised.value.unknown) == 1000
    assert len(str(raised.value)) < 1000
    assert str(raised.value).isprintable()


@given(
    st.dictionaries(
        st.sampled_from([*INPUTS, "other"]),
        st.one_of(st.floats(), st.integers(), st.text(), st.none(), st.booleans()),
    )
)
def test_any_object_gives_a_probability_or_a_named_refusal(trained, inputs):
    model = load_cached(trained)
    sound = set(inputs) == set(INPUTS) and all(
        type(value) in {int, float} and abs(value) < 1e30 for value in inputs.values()
    )
    if sound:
        assert 0 <= model.predict_proba(inputs) <= 1
    else:
        with pytest.raises(InvalidInputs, match="|".join([*INPUTS, "other"])):
            model.predict_proba({"other": 0.0, **inputs})


@functools.cache
def load_cached(trained: Path):
    return load_fraud_model(trained / MODEL_FILE)


def test_the_detector_may_hand_over_more_features_than_the_model_needs(trained):
    model = load_fraud_model(trained / MODEL_FILE)
    features = {**a_row(), "transfer_counts": 7.0}
    assert model.probability(features) == model.predict_proba(a_row())
    with pytest.raises(InvalidInputs):
        model.probability({"V1": 1.0})
    assert model.version == "1700000000"


def test_a_manifest_that_is_not_text_is_refused(bundle):
    manifest_path(bundle).write_bytes(b"\xff\xfe{}")
    with pytest.raises(ModelMalformed, match="not UTF-8 text"):
        load_fraud_model(bundle)
