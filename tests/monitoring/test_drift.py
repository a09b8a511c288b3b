"""Drift: silent on the same traffic, loud when tokens, values or shapes move."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notebooks.sample import write_sample
from src.datasets.location import default_folder
from src.datasets.training_set import load_background
from src.detection.attack.model import load_attack_model
from src.detection.bundle_files import manifest_path
from src.detection.features.batch import TransferBatch
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import load_model
from src.monitoring import exposition
from src.monitoring.drift import __main__ as command
from src.monitoring.drift.drift_report import as_json, publish
from src.monitoring.drift.levels import Levels
from src.monitoring.drift.measures import bin_edges, effect
from src.monitoring.drift.sample import SCORE, VALUE_SCALE, sample_of
from src.monitoring.drift.verdict import TOKEN_MIX, TooFew, Verdict, compare
from src.registry.bundle import MODEL_FILE
from src.registry.drift_reference import ATTACK_SCORE, Categories, Distribution, parse_sample
from src.settings import PROJECT_ROOT
from src.training.hyperparameters import Hyperparameters
from src.training.run import train
from tests.support.attack import write_small_attack_model

PER_BLOCK = 25
SIZE = 1000
BLOCKS_A_SAMPLE = SIZE // PER_BLOCK


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traffic")
    write_sample(folder, blocks=240, per_block=PER_BLOCK, attacks=1)
    return folder


@pytest.fixture(scope="module")
def traffic(folder):
    return load_background(folder)


@pytest.fixture(scope="module")
def model(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("model")
    train(folder, out, created_at=7, parameters=Hyperparameters(n_estimators=20, max_samples=256))
    return load_model(out / MODEL_FILE, FEATURE_NAMES)


def part(data, rows):
    """The transfers of some transactions of a set, rows ascending."""
    batch = data.batch
    chosen = np.zeros(len(data), dtype=bool)
    chosen[rows] = True
    moves = np.repeat(chosen, data.n_transfers)
    return replace(
        batch,
        offsets=np.concatenate([[0], np.cumsum(data.n_transfers[rows])]).astype(np.int64),
        token=batch.token[moves],
        sender=batch.sender[moves],
        recipient=batch.recipient[moves],
        amount=batch.amount[moves],
        origin=batch.origin[rows],
    )


def of_blocks(data, chosen):
    blocks = data.table["block_number"].to_numpy(dtype=np.int64)
    rows = np.flatnonzero(np.isin(blocks, chosen))
    return part(data, rows), blocks[rows]


def halves(data, seed):
    blocks = np.random.default_rng(seed).permutation(data.table["block_number"].unique())
    return (
        of_blocks(data, blocks[:BLOCKS_A_SAMPLE]),
        of_blocks(data, blocks[BLOCKS_A_SAMPLE : 2 * BLOCKS_A_SAMPLE]),
    )


@pytest.fixture(scope="module")
def reference(model, traffic):
    return sample_of(model, *halves(traffic, 0)[0])


def test_the_same_traffic_raises_no_alarm_in_30_draws(model, traffic):
    blocks = traffic.table["block_number"].unique()
    alarms = 0
    for seed in range(10):
        mixed = np.random.default_rng(seed).permutation(blocks)
        used, others = mixed[:BLOCKS_A_SAMPLE], mixed[BLOCKS_A_SAMPLE:]
        before = sample_of(model, *of_blocks(traffic, used))
        for draw in range(3):
            now = np.random.default_rng([seed, draw]).choice(others, BLOCKS_A_SAMPLE, replace=False)
            current = sample_of(model, of_blocks(traffic, now)[0])
            alarms += compare(before, current).verdict is not Verdict.OK
    assert alarms <= 1


def shifted(batch: TransferBatch, kind: str) -> TransferBatch:
    if kind == "tokens":
        return replace(batch, token=np.minimum(batch.token, 1))
    if kind == "unknown tokens":
        strangers = [f"0x{number:040x}" for number in range(len(batch.token_addresses))]
        return replace(batch, token_addresses=tuple(strangers))
    if kind == "values":
        return replace(batch, amount=batch.amount * 100.0)
    many = np.diff(batch.offsets)
    times = np.repeat(np.full(len(many), 4), many)  # every transfer four times
    return replace(
        batch,
        offsets=(batch.offsets * 4).astype(np.int64),
        **{
            name: np.repeat(getattr(batch, name), times)
            for name in ("token", "sender", "recipient", "amount")
        },
    )


@pytest.mark.parametrize(
    ("kind", "blamed"),
    [
        ("tokens", TOKEN_MIX),
        ("unknown tokens", "unknown tokens"),
        ("values", VALUE_SCALE),
        ("transfer count", "transfer_count"),
    ],
)
def test_a_shift_is_noticed_and_named(model, traffic, reference, kind, blamed):
    _, (current, _) = halves(traffic, 0)
    assert compare(reference, sample_of(model, current)).verdict is Verdict.OK
    drift = compare(reference, sample_of(model, shifted(current, kind)))
    assert drift.verdict is Verdict.RETRAIN
    assert any(blamed in reason for reason in drift.reasons), drift.reasons


def test_a_rising_anomaly_rate_is_noticed(reference):
    drift = compare(reference, replace(reference, anomalies=reference.anomalies + 100))
    assert drift.verdict is Verdict.RETRAIN
    assert "anomaly rate" in drift.reasons[0]
    low, high = drift.rates[1][1:]
    assert low < drift.rates[1][0] < high


def test_the_effect_size_does_not_grow_with_the_sample():
    rng = np.random.default_rng(0)
    effects = [
        effect(Distribution.of(rng.normal(size=size)), Distribution.of(rng.normal(0.5, size=size)))
        for size in (2_000, 200_000)
    ]
    assert effects[1].psi == pytest.approx(effects[0].psi, abs=0.08)
    assert effects[1].wasserstein == pytest.approx(0.5, abs=0.02)
    assert effects[0].wasserstein == pytest.approx(0.5, abs=0.08)


def test_what_the_reference_never_had_is_noticed():
    zeros = Distribution.of(np.zeros(5000))
    some = Distribution.of(np.repeat([0.0, 3.0], [4000, 1000]))
    assert effect(zeros, some).psi > 0.5
    assert effect(zeros, zeros).psi == 0
    assert effect(zeros, zeros).wasserstein == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=600))
def test_a_distribution_differs_from_itself_by_nothing(observations):
    one = Distribution.of(np.array(observations))
    assert one.shares.sum() == pytest.approx(1)
    assert (np.diff(one.values) > 0).all()
    assert effect(one, one).psi == pytest.approx(0, abs=1e-12)
    assert effect(one, one).wasserstein == pytest.approx(0, abs=1e-6)
    assert (np.diff(bin_edges(one)) > 0).all()


def test_few_transactions_say_nothing(model, traffic, reference):
    few = sample_of(model, part(traffic, np.arange(50)))
    with pytest.raises(TooFew, match="50 transactions"):
        compare(reference, few)


def test_two_models_scores_are_not_compared(reference):
    with pytest.raises(ValueError, match="create a new reference"):
        compare(reference, replace(reference, model_version="8"))


def test_the_attack_model_is_checked_too(model, traffic, tmp_path):
    """Its score, and the inputs that the forest has not, against the same attack model's."""

    def attack_model(seed, version):
        (tmp_path / version).mkdir()
        path = write_small_attack_model(model, FEATURE_NAMES, tmp_path / version, seed)
        content = json.loads(manifest_path(path).read_text())
        manifest_path(path).write_text(json.dumps(content | {"model_version": int(version)}))
        return load_attack_model(path, model)

    first, second = attack_model(0, "11"), attack_model(1, "12")
    (before, blocks), (now, _) = halves(traffic, 0)
    reference = sample_of(model, before, blocks, attack=first)
    assert parse_sample(reference.to_json()).attack_version == "11"
    assert set(FEATURE_NAMES) | {ATTACK_SCORE} <= reference.columns.keys()
    assert compare(reference, sample_of(model, now, attack=first)).verdict is Verdict.OK
    moved = compare(reference, sample_of(model, shifted(now, "transfer count"), attack=first))
    assert any(ATTACK_SCORE in reason for reason in moved.reasons)
    assert as_json(moved)["attack_model_version"] == "11"
    assert ATTACK_SCORE not in compare(reference, sample_of(model, now, attack=second)).effects
    assert ATTACK_SCORE not in compare(reference, sample_of(model, now)).effects
    renewed = reference.with_attack_score_of(sample_of(model, now, attack=second))
    assert renewed.columns[SCORE] is reference.columns[SCORE]
    assert compare(renewed, sample_of(model, now, attack=second)).effects[ATTACK_SCORE].psi < 0.1


def test_a_saved_reference_is_the_same_reference(reference):
    again = parse_sample(reference.to_json())
    assert compare(again, reference).reasons == ()
    assert again.tokens == replace(reference.tokens, counts=dict(reference.tokens.counts))
    for name, column in reference.columns.items():
        assert np.array_equal(column.values, again.columns[name].values)
        assert column.noise == again.columns[name].noise


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', "null"])
def test_a_file_that_is_no_sample_is_refused(text):
    with pytest.raises(ValueError, match="not a sample of traffic"):
        parse_sample(text)


@pytest.mark.parametrize(
    "change",
    [
        lambda sample, _: sample.update(size=math.inf),
        lambda sample, _: sample.update(size=10**400),
        lambda sample, _: sample.update(size=0),
        lambda sample, _: sample.update(anomalies=-1),
        lambda sample, _: sample.update(anomalies=sample["size"] + 1),
        lambda sample, _: sample["tokens"]["counts"].update(unknown=-1),
        lambda sample, _: sample["tokens"]["noise"].update(psi="0"),
        lambda _, column: column["noise"].update(psi=math.nan),
        lambda _, column: column["noise"].update(wasserstein=-1.0),
        lambda _, column: column.update(size=math.inf),
        lambda _, column: column["values"].reverse(),
        lambda _, column: column.update(values=[[1.0]], shares=[[1.0]]),
        lambda _, column: column["values"].append(1e308) or column["shares"].append(0.0),
    ],
)
def test_a_sample_of_impossible_numbers_is_refused(reference, change):
    sample = json.loads(reference.to_json())
    change(sample, sample["columns"][SCORE])
    with pytest.raises(ValueError, match="not a sample of traffic"):
        parse_sample(json.dumps(sample))


def test_categories_that_are_new_count_together():
    before = Categories({"a": 500, "b": 500}, 1000)
    after = Categories({"a": 250, "b": 250, "c": 500}, 1000)
    from src.monitoring.drift.measures import categorical_effect

    assert categorical_effect(before, after).psi > 1
    assert categorical_effect(before, before).psi == pytest.approx(0, abs=1e-9)


def test_the_command_writes_reports_and_its_exit_code_tells(
    folder, model, traffic, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("MODEL_PATH", str(tmp_path / MODEL_FILE))
    train(folder, tmp_path, created_at=7,
          parameters=Hyperparameters(n_estimators=20, max_samples=256))  # fmt: skip
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "transactions.parquet").write_bytes((folder / "transactions.parquet").read_bytes())
    transfers = pd.read_parquet(folder / "transfers.parquet")
    transfers["value_raw"] += "000"
    transfers.to_parquet(moved / "transfers.parquet", index=False)
    saved = str(tmp_path / "reference.json")
    assert command.main(["--reference", str(folder), "--save-reference", saved]) == 0
    assert command.main(["--reference", saved, "--current", str(folder)]) == 0
    assert capsys.readouterr().out == "ok\n"
    out = ["--html", str(tmp_path / "d.html"), "--json", str(tmp_path / "d.json")]
    assert command.main(["--reference", saved, "--current", str(moved), *out]) == 4
    assert "value_scale" in capsys.readouterr().out
    written = json.loads((tmp_path / "d.json").read_text())
    assert written["verdict"] == "retrain"
    assert written["effects"]["value_scale"]["wasserstein"] > 1
    assert "data:image/png" in (tmp_path / "d.html").read_text()
    few = ["--reference", saved, "--current", str(folder), "--least", "100000"]
    assert command.main(few) == 1
    assert "at least 100,000" in capsys.readouterr().err


def test_before_the_first_check_drift_is_unknown_and_not_ok():
    code = "from src.monitoring import exposition; print(exposition.render()[0].decode())"
    told = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=PROJECT_ROOT
    ).stdout
    assert "token_transfers_drift_verdict -1.0" in told
    assert "token_transfers_drift_checked_timestamp_seconds NaN" in told


def test_the_outcome_reaches_the_metrics(reference):
    publish(as_json(compare(reference, replace(reference, anomalies=SIZE))))
    text = exposition.render()[0].decode()
    assert "token_transfers_drift_verdict 2.0" in text
    assert 'token_transfers_drift_psi{input="token_mix"}' in text


@pytest.mark.skipif(default_folder() is None, reason="the shared data set is not on this machine")
def test_two_eras_of_mainnet_differ_and_one_era_does_not():
    from src.settings import DEFAULT_MODEL_PATH

    data = load_background(default_folder())
    shipped = load_model(DEFAULT_MODEL_PATH, FEATURE_NAMES)
    years = pd.to_datetime(data.table["block_timestamp"].astype("int64"), unit="s").dt.year
    blocks = data.table["block_number"].to_numpy(dtype=np.int64)

    def era(first, last):
        rows = np.flatnonzero(((years >= first) & (years <= last)).to_numpy())
        return sample_of(shipped, part(data, rows), blocks[rows])

    drift = compare(era(2017, 2019), era(2023, 2025), Levels())
    assert drift.verdict is Verdict.RETRAIN
    assert any(TOKEN_MIX in reason for reason in drift.reasons)
    rng = np.random.default_rng(0)
    late = np.unique(blocks[(years >= 2022).to_numpy()])
    mixed = rng.permutation(late)
    one, other = (of_blocks(data, half) for half in np.array_split(mixed, 2))
    assert compare(sample_of(shipped, *one), sample_of(shipped, other[0])).verdict is Verdict.OK
