"""The attack model: its bundle, the attack score, its explanation."""

import dataclasses
import hashlib
import io
import json
import shutil

import numpy as np
import pytest
import shap
from hypothesis import given
from hypothesis import strategies as st

from src.detection.attack.assessment import AttackAssessor
from src.detection.attack.model import load_attack_model
from src.detection.attack.ranking import Calibration, Ranking
from src.detection.bundle_files import manifest_path
from src.detection.errors import (
    InvalidInput,
    ModelIncompatible,
    ModelMalformed,
    ModelMissing,
    ModelTampered,
)
from src.detection.features.definitions import FEATURE_NAMES, FOREST_INPUTS
from src.detection.forest.model import load_model
from src.detection.signature import public_key
from src.detection.trees.tree_shap import Explainer
from src.detection.trees.trees import Trees
from src.registry.sign import write_signature
from src.training.attack.fit import attack_arrays, fit_trees, outputs_of
from src.training.bundle import npz_bytes
from tests.support.attack import QUICK, write_small_attack_model

N_INPUTS = len(FOREST_INPUTS)


@pytest.fixture(scope="module")
def forest(bundle_path):
    return load_model(bundle_path, FEATURE_NAMES)


@pytest.fixture(scope="module")
def written(forest, tmp_path_factory):
    return write_small_attack_model(forest, folder=tmp_path_factory.mktemp("attack"))


@pytest.fixture
def path(written, tmp_path):
    for file in (written, manifest_path(written)):
        shutil.copy(file, tmp_path / file.name)
    return tmp_path / written.name


@pytest.fixture(scope="module")
def model(written, forest):
    return load_attack_model(written, forest)


def odd_rows(n=200, columns=N_INPUTS, seed=5):
    return np.random.default_rng(seed).exponential(size=(n, columns)).astype(np.float32)


def fitted(rows):
    is_attack = np.arange(len(rows)) % 3 == 0
    background, attacks = rows[~is_attack], rows[is_attack] + 1
    return fit_trees(
        (background, np.ones(len(background))), (attacks, np.ones(len(attacks))), QUICK
    )


# The ranking


values = st.lists(st.integers(-50, 50), min_size=1, max_size=60).map(
    lambda numbers: np.array(numbers, dtype=float) / 8
)


@given(background=values, asked=values)
def test_the_surprise_is_that_of_the_share_that_ranks_no_lower(background, asked):
    ranking = Ranking.of(background)
    exact = [np.mean(background > value) + np.mean(background == value) / 2 for value in background]
    assert ranking.surprise(background) == pytest.approx(-np.log(exact), abs=0.0101)
    ordered = np.unique(np.concatenate([asked, background, background.max() + asked**2]))
    surprises = ranking.surprise(ordered)
    assert (np.diff(surprises) >= 0).all()
    beyond = surprises[ordered >= background.max()]
    assert (np.diff(beyond) > 0).all()
    assert (surprises >= 0).all()


def test_the_tail_is_resolved_to_the_last_row():
    background = np.arange(100_000.0)
    ranking = Ranking.of(background)
    assert len(ranking.values) < 1500
    for share in (0.01, 0.001, 0.0001, 0.00001):
        value = np.array([100_000 * (1 - share)])
        assert np.exp(-ranking.surprise(value)) == pytest.approx(share, rel=0.02 + 6e-6 / share)
    far = np.exp(-ranking.surprise(np.array([99_999.0, 100_003.5, 1e12, 1e300])))
    assert far[0] == pytest.approx(0.5 / 100_000)
    assert far[1] == pytest.approx(far[0] / 2, rel=0.1)
    assert (np.diff(far) < 0).all()
    assert (far > 0).all()


@pytest.mark.parametrize(
    ("knots", "surprises"),
    [
        ([], []),
        ([1.0, 1.0], [0.1, 0.2]),
        ([1.0, 2.0], [0.2, 0.2]),
        ([1.0], [0.1, 0.2]),
        ([1.0], [-0.1]),
        ([1.0], [26.0]),
        ([np.nan], [0.1]),
        ([0.0, 5e-324], [0.1, 0.2]),
        ([1.0], [np.inf]),
    ],
)
def test_knots_that_are_no_ranking_are_refused(knots, surprises):
    with pytest.raises(ValueError, match="ranking"):
        Ranking(np.array(knots), np.array(surprises))


# The attack score


@pytest.mark.parametrize("seed", range(5))
def test_the_attack_score_is_the_share_of_background_that_ranks_lower(seed):
    """By the combination of both, whatever the distribution of either."""
    rng = np.random.default_rng(seed)
    both = rng.beta(2, 5, 300), rng.integers(0, 20, 300) / 20
    scores = Calibration.of(*both).attack_scores(*both)
    order = np.sort(scores)
    lower = (np.searchsorted(order, scores) + np.searchsorted(order, scores, side="right")) / 600
    assert scores == pytest.approx(lower, abs=0.011)


def test_attack_scores_lie_below_one_and_keep_the_order_beyond_all_background(model):
    outputs = np.linspace(0, 1, 200)
    scores = model.manifest.calibration.attack_scores(np.linspace(0.5, 1, 200), outputs)
    assert (np.diff(scores) >= 0).all()
    calibration = model.manifest.calibration
    last = calibration.trees.values[-1]
    beyond = calibration.attack_scores(np.full(300, 0.999), np.linspace(last, last + 5, 300))
    assert (np.diff(beyond) > 0).all()
    assert (beyond < 1).all()
    assert (calibration.attack_scores(np.array([1.0]), np.array([1e9])) < 1).all()


def test_a_row_scores_alone_as_it_does_among_others(model):
    rows = odd_rows().astype(float)
    scores = np.linspace(0.3, 0.9, len(rows))
    together = model.scores(rows, scores)
    alone = [model.scores(rows[i : i + 1], scores[i : i + 1])[0] for i in range(len(rows))]
    assert together.tolist() == alone


def test_outputs_are_scikit_learns():
    rows = odd_rows(3000, 9)
    classifier = fitted(rows)
    arrays = attack_arrays(classifier)
    trees = trees_of(arrays, 9)
    assert trees.sums(rows) == pytest.approx(outputs_of(classifier, rows), abs=1e-12)


def trees_of(arrays, n_features):
    names = ("offsets", "left", "right", "feature", "threshold", "value", "cover")
    return Trees.from_columns(n_features, **{name: arrays[name] for name in names})


def test_explanations_are_those_of_the_shap_package():
    rows = odd_rows(600, 9)
    classifier = fitted(rows)
    explainer = Explainer.for_trees(trees_of(attack_arrays(classifier), 9))
    ours = np.array([explainer.weights(row) for row in rows[:50]])
    theirs = shap.TreeExplainer(classifier).shap_values(rows[:50])[..., 1]
    assert np.abs(ours - theirs).max() < 1e-9


def test_weights_and_base_add_up_to_the_output(model):
    for row in odd_rows(20).astype(float):
        total = model.explainer.base + sum(one.weight for one in model.explain(row))
        assert total == pytest.approx(model.outputs(row[np.newaxis])[0], abs=1e-12)


def test_only_what_asks_for_attention_is_explained(model):
    row, score = np.array(model.manifest.golden_rows[-1]), model.manifest.golden_forest_scores[-1]
    known = model.manifest.golden_attack_scores[-1]
    silent = AttackAssessor(model, explain_from=known + 1e-6).assess(row, score)
    assert (silent.score, silent.attributions, silent.explanation_json) == (known, (), "[]")
    loud = AttackAssessor(model, explain_from=known).assess(row, score)
    assert len(loud.attributions) == 10
    assert {*json.loads(loud.explanation_json)[0]} == {"feature", "value", "weight"}
    assert loud.percentile == 100 * known


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_an_impossible_input_has_no_score(model, value):
    row = np.zeros((1, len(FEATURE_NAMES)))
    row[0, 3] = value
    with pytest.raises(InvalidInput):
        model.scores(row, np.array([0.5]))


# The bundle


def test_the_same_model_has_the_same_bytes(forest, written, tmp_path):
    again = write_small_attack_model(forest, folder=tmp_path)
    assert again.read_bytes() == written.read_bytes()
    assert manifest_path(again).read_bytes() == manifest_path(written).read_bytes()


def test_a_model_for_another_forest_is_refused(path, forest):
    other = dataclasses.replace(
        forest, manifest=dataclasses.replace(forest.manifest, sha256="0" * 64)
    )
    with pytest.raises(ModelIncompatible, match="train:attack"):
        load_attack_model(path, other)


def test_a_missing_or_changed_model_is_refused(path, forest):
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ModelTampered, match="SHA-256"):
        load_attack_model(path, forest)
    path.unlink()
    with pytest.raises(ModelMissing, match="train:attack"):
        load_attack_model(path, forest)
    manifest_path(path).unlink()
    with pytest.raises(ModelMissing, match="train:attack"):
        load_attack_model(path, forest)


def test_a_signature_is_asked_for_where_a_key_is_set(path, forest):
    key = "11" * 32
    with pytest.raises(ModelTampered):
        load_attack_model(path, forest, public_key=public_key(key))
    write_signature(manifest_path(path), key)
    load_attack_model(path, forest, public_key=public_key(key))


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"kind": "supervised"},
        {"inputs": []},
        {"inputs": ["density", "density"]},
        {"golden_rows": []},
        {"golden_rows": [[1.0]]},
        {"golden_outputs": []},
        {"golden_attack_scores": [10**400]},
        {"forest_ranking": {"values": [2.0, 1.0], "surprises": [0.1, 0.2]}},
        {"trees_ranking": {"values": [], "surprises": []}},
        {"combined_ranking": {"values": [1.0], "surprises": ["x"]}},
        {"combined_ranking": None},
        {"training": {"share": float("nan")}},
        {"model_version": 1e999},
    ],
    ids=lambda change: str(change)[:50],
)
def test_an_impossible_manifest_is_refused(path, forest, change):
    content = json.loads(manifest_path(path).read_text())
    manifest_path(path).write_text(json.dumps(content | change))
    with pytest.raises(ModelMalformed, match=r"attack_model\.manifest\.json"):
        load_attack_model(path, forest)


def rewrite(path, change):
    """Change the arrays of a model file, and vouch for the result."""
    with np.load(io.BytesIO(path.read_bytes())) as file:
        arrays = dict(file)
    arrays = change(arrays)
    content = npz_bytes(arrays)
    path.write_bytes(content)
    manifest = json.loads(manifest_path(path).read_text())
    manifest["sha256"] = hashlib.sha256(content).hexdigest()
    manifest_path(path).write_text(json.dumps(manifest))


def changed(name, function):
    return lambda arrays: arrays | {name: function(arrays[name])}


@pytest.mark.parametrize(
    "change",
    [
        changed("value", lambda a: a + 0.001),
        changed("value", lambda a: np.where(a > 0, 1e300, a)),
        changed("value", lambda a: np.where(a > 0, np.nan, a)),
        changed("value", lambda a: a[:-1]),
        changed("value", lambda a: a.astype(np.float32)),
        changed("left", lambda a: np.where(a > 0, a - 1, a)),
        changed("left", lambda a: np.where(a > 0, len(a) + 5, a)),
        changed("right", lambda a: np.where(a > 0, 2**62, a)),
        changed("feature", lambda a: a + len(FEATURE_NAMES)),
        changed("cover", lambda a: a * 0),
        changed("cover", lambda a: a - np.inf),
        changed("offsets", lambda a: a[::-1].copy()),
        changed("offset", lambda a: a + 1),
        changed("offset", lambda a: np.array([0.0])),
        lambda arrays: {name: arrays[name] for name in arrays if name != "cover"},
        lambda arrays: {},
    ],
)  # fmt: skip
def test_arrays_that_are_no_such_trees_are_refused(path, forest, change):
    rewrite(path, change)
    with pytest.raises(ModelMalformed):
        load_attack_model(path, forest)


def test_golden_rows_that_cannot_be_scored_are_refused(path, forest):
    content = json.loads(manifest_path(path).read_text())
    content["golden_rows"][0][0] = 1e300
    manifest_path(path).write_text(json.dumps(content))
    with pytest.raises(ModelMalformed, match="golden row"):
        load_attack_model(path, forest)


def test_a_pickle_in_the_model_file_is_never_read(path, forest):
    buffer = io.BytesIO()
    np.savez(buffer, value=np.array([print], dtype=object))
    path.write_bytes(buffer.getvalue())
    manifest = json.loads(manifest_path(path).read_text())
    manifest["sha256"] = hashlib.sha256(buffer.getvalue()).hexdigest()
    manifest_path(path).write_text(json.dumps(manifest))
    with pytest.raises(ModelMalformed, match="plain numbers"):
        load_attack_model(path, forest)


def test_unknown_inputs_are_named(path, forest):
    content = json.loads(manifest_path(path).read_text())
    content["inputs"][0] = "phase_of_the_moon"
    manifest_path(path).write_text(json.dumps(content))
    with pytest.raises(ModelIncompatible, match="phase_of_the_moon"):
        load_attack_model(path, forest)
