"""The bundle is read as it was written, or refused before it does anything."""

import io
import os
import pickle

import dill
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

from src.detection.bundle_files import FRAUD_MODEL_FILE as MODEL_FILE
from src.detection.bundle_files import manifest_path
from src.detection.errors import (
    ModelIncompatible,
    ModelMalformed,
    ModelMissing,
    ModelTampered,
)
from src.detection.supervised.manifest import read_fraud_manifest
from src.detection.supervised.model import load_fraud_model, read_pipeline
from src.training.supervised.bundle import pipeline_arrays, write_fraud_bundle
from src.training.supervised.candidates import candidates
from tests.training.supervised.data import INPUTS, labelled, vouch_for


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


def test_golden_rows_that_cannot_be_predicted_are_refused(bundle):
    rows = [[1e308] * len(INPUTS)]
    vouch_for(bundle, bundle.read_bytes(), golden_rows=rows, golden_probabilities=[0.5])
    with pytest.raises(ModelMalformed, match="golden row"):
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


def test_a_manifest_that_is_not_text_is_refused(bundle):
    manifest_path(bundle).write_bytes(b"\xff\xfe{}")
    with pytest.raises(ModelMalformed, match="not UTF-8 text"):
        load_fraud_model(bundle)
