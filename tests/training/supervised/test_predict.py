"""Predicting by name, and refusing what is no row of the inputs."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.detection.bundle_files import FRAUD_MODEL_FILE as MODEL_FILE
from src.detection.supervised.model import InvalidInputs, load_fraud_model
from tests.training.supervised.data import INPUTS, a_row


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
