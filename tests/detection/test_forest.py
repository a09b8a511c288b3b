"""The forest reader and the scoring kernel, held against scikit-learn itself."""

import pickle
import subprocess
import sys

import dill
import numpy as np
import pytest
from sklearn.ensemble import IsolationForest, RandomForestClassifier

from src.detection.errors import ModelMalformed
from src.detection.forest.forest_file import average_path_length, forest_content, read_forest
from tests.support.forests import fitted, flattened, training_rows


def rows_on_the_thresholds(model, rows, n):
    """Rows whose values are exactly thresholds, or one float32 step beside them."""
    rng = np.random.default_rng(1)
    cuts = [[0.0] for _ in range(rows.shape[1])]
    for tree, columns in zip(model.estimators_, model.estimators_features_, strict=True):
        inner = tree.tree_.feature >= 0
        for column, threshold in zip(
            columns[tree.tree_.feature[inner]], tree.tree_.threshold[inner], strict=True
        ):
            cuts[column].append(threshold)
    chosen = np.stack([rng.choice(column, n) for column in cuts], axis=1).astype(np.float32)
    step = rng.integers(-1, 2, chosen.shape)
    up, down = np.nextafter(chosen, np.float32(np.inf)), np.nextafter(chosen, np.float32(-np.inf))
    return np.where(step == 0, chosen, np.where(step > 0, up, down)).astype(np.float32)


@pytest.mark.parametrize(
    "parameters",
    [{}, {"max_features": 0.5}, {"max_samples": 1}, {"max_samples": 2}, {"bootstrap": True}],
    ids=lambda p: str(p) or "default",
)
def test_scores_are_bit_identical_to_scikit_learn(parameters):
    rows = training_rows()
    model = fitted(rows, **parameters)
    assert np.array_equal(flattened(model).score(rows), -model.score_samples(rows))


def test_scores_are_bit_identical_on_100_000_rows_random_and_on_thresholds():
    rows = training_rows()
    model = fitted(rows, n_estimators=50)
    hostile = np.concatenate(
        [rows_on_the_thresholds(model, rows, 50_000), training_rows(2, 50_000)]
    )
    assert np.array_equal(flattened(model).score(hostile), -model.score_samples(hostile))


def test_a_row_scores_alone_as_it_does_among_others():
    rows = training_rows()
    forest = flattened(fitted(rows))
    together = forest.score(rows[:500])
    alone = [forest.score(rows[i : i + 1])[0] for i in range(500)]
    assert np.array_equal(together, alone)


def test_forest_of_many_inputs_scores_as_scikit_learn_does():
    rows = training_rows(columns=300, n=400)
    model = fitted(rows, n_estimators=30)
    assert np.array_equal(flattened(model).score(rows), -model.score_samples(rows))


def test_average_path_length_is_the_papers():
    # Liu, Ting, Zhou 2008, equation 1, with H(i) = ln(i) + 0.5772156649.
    assert average_path_length(1) == 0
    assert average_path_length(2) == 1
    assert average_path_length(256) == pytest.approx(
        2 * (np.log(255) + 0.5772156649) - 2 * 255 / 256, rel=1e-9
    )


def test_reading_a_forest_does_not_import_scikit_learn(tmp_path):
    path = tmp_path / "forest.pkl"
    path.write_bytes(dill.dumps(fitted(training_rows())))
    code = (
        "import sys; from pathlib import Path;"
        "from src.detection.forest.forest_file import forest_content, read_forest;"
        f"read_forest(Path({str(path)!r}).read_bytes());"
        "assert not {'sklearn', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps({"a": 1}),
        pickle.dumps([1.0]),
        dill.dumps(IsolationForest()),
    ],
    ids=["empty", "text", "dict", "list", "unfitted"],
)
def test_files_that_hold_no_forest_are_refused(content):
    with pytest.raises(ModelMalformed):
        read_forest(content)


def test_another_estimator_is_refused():
    rows = training_rows()
    model = RandomForestClassifier(n_estimators=2).fit(rows, rows[:, 0] > 1)
    with pytest.raises(ModelMalformed, match="RandomForestClassifier"):
        read_forest(dill.dumps(model))


def test_truncated_and_flipped_files_never_crash_and_never_walk_out_of_the_arrays():
    content = dill.dumps(fitted(training_rows(n=300), n_estimators=3, max_samples=32))
    rows = training_rows(n=50)
    rng = np.random.default_rng(3)
    for _ in range(400):
        broken = bytearray(content)
        for position in rng.integers(0, len(content), 3):
            broken[position] ^= 1 << rng.integers(0, 8)
        try:
            forest = read_forest(bytes(broken[: rng.integers(1, len(content))]))
            assert forest.score(rows).shape == (50,)
        except ModelMalformed:
            continue
    for _ in range(400):
        broken = bytearray(content)
        broken[rng.integers(0, len(content))] ^= 1 << rng.integers(0, 8)
        try:
            forest = read_forest(bytes(broken))
        except ModelMalformed:
            continue
        assert forest.score(rows).shape == (50,)


def test_children_that_loop_back_are_refused():
    model = fitted(training_rows(n=300), n_estimators=1, max_samples=32)
    tree = model.estimators_[0].tree_
    state = tree.__getstate__()
    state["nodes"]["left_child"][2] = 1 if tree.children_left[2] != -1 else 0
    tree.__setstate__(state)
    with pytest.raises(ModelMalformed, match="form a tree"):
        read_forest(dill.dumps(model))


def test_arrays_of_more_dimensions_than_they_have_are_refused():
    """Columns of one would be combined to squares: gigabytes from a small file."""
    model = fitted(training_rows(n=300), n_estimators=1, max_samples=32)
    model._decision_path_lengths = tuple(one[:, None] for one in model._decision_path_lengths)
    with pytest.raises(ModelMalformed, match="not made of arrays"):
        read_forest(dill.dumps(model))


def test_equal_forests_have_equal_bytes():
    model = fitted(training_rows(n=300), n_estimators=2, max_samples="auto")
    content = forest_content(model)
    model.max_samples = "".join(["au", "to"])  # the same text, another object
    for tree in model.estimators_:
        tree.splitter = "".join(list(tree.splitter))
    assert forest_content(model) == content
    assert forest_content(dill.loads(content)) == content


def test_the_written_forest_scores_as_the_fitted_one():
    rows = training_rows(n=300)
    model = fitted(rows, n_estimators=2, max_samples=16)
    content = forest_content(model)
    assert np.array_equal(dill.loads(content).score_samples(rows), model.score_samples(rows))
    assert np.array_equal(read_forest(content).score(rows), -model.score_samples(rows))
