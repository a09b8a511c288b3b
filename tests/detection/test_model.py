"""Loading a bundle: what is refused, and with what words."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src.detection.assessment import Assessor
from src.detection.bundle_files import manifest_path
from src.detection.errors import (
    InvalidInput,
    ModelIncompatible,
    ModelMalformed,
    ModelMissing,
    ModelTampered,
)
from src.detection.features.definitions import FOREST_INPUTS
from src.detection.forest.model import explanation_json, load_model
from src.detection.records import Attribution
from tests.support.forests import fitted, flattened, training_rows


@pytest.fixture
def bundle(bundle_path: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    path = tmp_path / bundle_path.name
    shutil.copy(bundle_path, path)
    shutil.copy(manifest_path(bundle_path), manifest_path(path))
    return path


def edit_manifest(bundle: Path, **changes: object) -> None:
    content = json.loads(manifest_path(bundle).read_text())
    manifest_path(bundle).write_text(json.dumps(content | changes))


def rows(n: int = 50) -> np.ndarray:
    return np.random.default_rng(5).random((n, len(FOREST_INPUTS)))


def test_a_whole_bundle_loads(bundle):
    model = load_model(bundle, FOREST_INPUTS)
    assert model.version == "1650000000"
    assert model.inputs == FOREST_INPUTS
    scores = model.score(rows())
    assert ((scores > 0) & (scores < 1)).all()


def test_the_shipped_bundle_is_whole():
    model = load_model(Path(__file__).resolve().parents[2] / "isolation_forest.pkl", FOREST_INPUTS)
    assert model.forest.trees.n_trees >= 100


def test_a_model_without_its_manifest_is_missing(bundle):
    manifest_path(bundle).unlink()
    with pytest.raises(ModelMissing, match=r"manifest\.json is missing"):
        load_model(bundle, FOREST_INPUTS)


def test_another_scikit_learn_is_an_error_that_names_both(bundle):
    edit_manifest(bundle, sklearn_version="1.2.0")
    with pytest.raises(ModelIncompatible, match=r"1\.2\.0.*is installed"):
        load_model(bundle, FOREST_INPUTS)


def test_an_input_that_is_not_computed_is_named(bundle):
    with pytest.raises(ModelIncompatible, match=FOREST_INPUTS[3]):
        load_model(bundle, [name for name in FOREST_INPUTS if name != FOREST_INPUTS[3]])


def test_a_swapped_file_is_tampered_with(bundle):
    bundle.write_bytes(bundle.read_bytes()[:-1])
    with pytest.raises(ModelTampered, match="SHA-256"):
        load_model(bundle, FOREST_INPUTS)


def test_model_that_does_not_reproduce_its_golden_rows_is_refused(bundle):
    golden = json.loads(manifest_path(bundle).read_text())["golden_scores"]
    edit_manifest(bundle, golden_scores=[golden[0] + 1e-10, *golden[1:]])
    with pytest.raises(ModelMalformed, match="golden rows"):
        load_model(bundle, FOREST_INPUTS)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 99}, "format 99"),
        ({"anomaly_threshold": 1.5}, "outside"),
        ({"anomaly_threshold": "NaN"}, "not finite"),
        ({"inputs": []}, "empty"),
        ({"inputs": ["a", "a"]}, "repeat"),
        ({"golden_scores": [0.5]}, "differ in number"),
        ({"score_quantiles": [0.5]}, "two values"),
        ({"score_quantiles": [0.5, 0.4]}, "do not ascend"),
        ({"model_version": -1}, "not a time"),
        ({"model_version": 10**12}, "not a time"),
        ({"training": {"note": "\ud800"}}, "not UTF-8"),
        ({"golden_rows": [[1e300] * len(FOREST_INPUTS)], "golden_scores": [0.5]}, "golden row"),
        ({"token_amounts": {"0x": [1.0, 0.0]}}, "not positive"),
        ({"token_amounts": {"0x": [1.0]}}, "token_amounts"),
        ({"reference_values": {"date": "", "tokens": [{}]}}, "'chain_id' is missing"),
        ({"model_version": None}, "unexpected form"),
        ({"golden_rows": 7}, "unexpected form"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_broken_manifest_is_refused_with_the_reason(bundle, changes, said):
    edit_manifest(bundle, **changes)
    with pytest.raises(ModelMalformed, match=said):
        load_model(bundle, FOREST_INPUTS)


def test_golden_score_of_a_processor_that_rounds_otherwise_is_accepted(bundle):
    golden = json.loads(manifest_path(bundle).read_text())["golden_scores"]
    edit_manifest(bundle, golden_scores=[float(np.nextafter(golden[0], 1)), *golden[1:]])
    load_model(bundle, FOREST_INPUTS)


def test_a_model_of_other_features_by_the_same_names_is_refused(bundle):
    edit_manifest(bundle, format=1)
    with pytest.raises(ModelIncompatible, match="earlier version"):
        load_model(bundle, FOREST_INPUTS)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 2}', "[" * 50])
def test_a_manifest_that_is_no_manifest_is_refused(bundle, text):
    manifest_path(bundle).write_text(text)
    with pytest.raises(ModelMalformed):
        load_model(bundle, FOREST_INPUTS)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_rows_that_are_not_finite_in_float32_are_never_scored(bundle, bad):
    model = load_model(bundle, FOREST_INPUTS)
    table = rows()
    table[3, 2] = bad
    with pytest.raises(InvalidInput, match=FOREST_INPUTS[2]):
        model.score(table)
    with pytest.raises(InvalidInput):
        Assessor(model, attributions=10).assess(table[3])


def test_rows_of_another_width_are_refused(bundle):
    with pytest.raises(InvalidInput, match=f"{len(FOREST_INPUTS)} inputs expected"):
        load_model(bundle, FOREST_INPUTS).score(rows()[:, :5])


def test_an_assessment_is_what_the_model_says_remembered_or_not(bundle):
    model = load_model(bundle, FOREST_INPUTS)
    assessor = Assessor(model, attributions=10, remembered=4)
    for row in np.concatenate([rows(8), rows(8)]):
        assessment = assessor.assess(row)
        assert assessment.score == model.score(row[np.newaxis])[0]
        assert assessment.percentile == model.percentile(assessment.score)
        assert list(assessment.attributions) == model.explain(row)[:10]


def test_inputs_are_explained_by_weight_ties_in_their_order(bundle):
    table = training_rows()
    table[:, 4] = table[:, 7] = 1.0  # never split on, like column 1: three inputs of weight 0
    forest = flattened(fitted(table))
    names = FOREST_INPUTS[: forest.trees.n_features]
    loaded = load_model(bundle, FOREST_INPUTS)
    model = replace(
        loaded,
        manifest=replace(loaded.manifest, inputs=names),
        forest=forest,
        explainer=forest.explainer(),
    )
    for row in table[:200].astype(np.float64):
        explained = model.explain(row)
        assert [one.feature for one in explained[-3:]] == [names[1], names[4], names[7]]
        indices = [names.index(one.feature) for one in explained]
        ranks = [(-abs(one.weight), i) for one, i in zip(explained, indices, strict=True)]
        assert ranks == sorted(ranks)
        assert [one.value for one in explained] == row[indices].tolist()
        assert model.explain(row, 3) == explained[:3]


def test_explanation_is_json_of_rounded_numbers_whatever_their_size():
    attributions = [
        Attribution('a "quoted" name', 1e12 + 0.5, -0.25),
        Attribution("größe\n", 1 / 3, 60.0),
        Attribution("density", -0.0, 0.0),
    ]
    assert json.loads(explanation_json(attributions)) == [
        {"feature": 'a "quoted" name', "value": 1e12 + 0.5, "weight": -0.25, "factor": 0.8409},
        {"feature": "größe\n", "value": 0.333333, "weight": 60.0, "factor": 2.0**60},
        {"feature": "density", "value": 0.0, "weight": 0.0, "factor": 1.0},
    ]
    assert explanation_json([Attribution("x", 1.0, 0.5)]) == (
        '[{"feature": "x", "value": 1.000000, "weight": 0.500000, "factor": 1.4142}]'
    )
    assert explanation_json([]) == "[]"


def test_percentiles_run_from_0_to_100_and_never_fall(bundle):
    model = load_model(bundle, FOREST_INPUTS)
    percentiles = model.percentiles(np.linspace(0, 1, 500))
    assert (percentiles[0], percentiles[-1]) == (0, 100)
    assert (np.diff(percentiles) >= 0).all()
