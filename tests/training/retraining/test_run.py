"""Retraining on synthetic data: better is promoted, worse refused, whatever happens on the way."""

import json
import re
import shutil
import sqlite3
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from werkzeug import Request, Response

from notebooks.sample import write_sample
from src import agent
from src.chain.recording.format import MANIFEST, RecordingError
from src.datasets.tables import TableError
from src.datasets.training_set import RECORDING_FOLDER, load_background
from src.detection.bundle_files import ATTACK_MODEL_FILE, DRIFT_FILE
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import load_model
from src.detection.signature import new_private_key, public_key
from src.registry import __main__ as models
from src.registry.bundle import ATTACK_MANIFEST_FILE, MANIFEST_FILE, MODEL_FILE
from src.registry.data_sets import DataSets, checked
from src.registry.drift_reference import ATTACK_SCORE, parse_sample
from src.registry.registry import BundleRefused, ChampionChanged, Registry
from src.registry.store import Store
from src.training.attack.fit import AttackParameters
from src.training.hyperparameters import Hyperparameters
from src.training.retraining import __main__ as command
from src.training.retraining.data import held_out_blocks, prepare
from src.training.retraining.feedback import Feedback, read_all, read_feedback
from src.training.retraining.gate import Judged, Tolerances, judge
from src.training.retraining.golden_shapes import misjudged
from src.training.retraining.outcome import Outcome
from src.training.retraining.run import REFUSED, collect_recent, retrain
from src.training.run import train
from tests.conftest import event_of, transfer_log
from tests.support.attack import write_small_attack_model
from tests.support.fake_chain import serve

GOOD = Hyperparameters(n_estimators=20, max_samples=256, folds=2)
# Three trees of eight rows know next to nothing.
POOR = Hyperparameters(n_estimators=3, max_samples=8, folds=2)
# Times differ by chance on a busy machine, the anomaly rate by the sample's small size.
LENIENT = Tolerances(slowdown=100.0, rate_band=20.0)
HEAD = 30_000_000
QUICK = {"tolerances": LENIENT, "repetitions": 100}


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    """Attack models of fewer trees than the shipped one's, which take half of a retraining."""
    few = partial(AttackParameters, n_estimators=10)
    monkeypatch.setattr("src.training.attack.train.AttackParameters", few)


@pytest.fixture(scope="module")
def old_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "old"
    write_sample(folder, blocks=30, per_block=40, attacks=15)
    return folder


@pytest.fixture(scope="module")
def new_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "new"
    write_sample(folder, blocks=15, per_block=40, attacks=5, seed=1)
    shift_blocks(folder / "transactions.parquet", 1000)
    return folder


def shift_blocks(path: Path, by: int) -> None:
    table = pd.read_parquet(path)
    table["block_number"] += by
    table["block_timestamp"] += 12 * by
    table["block_hash"] = [f"0x{number:064x}" for number in table["block_number"]]
    table.to_parquet(path, index=False)


@pytest.fixture(scope="module")
def bundles(old_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    train(old_data, folder / "good", created_at=1_700_000_000, parameters=GOOD)
    train(old_data, folder / "poor", created_at=1_600_000_000, parameters=POOR)
    return {"good": folder / "good", "poor": folder / "poor"}


def registry_with(url, bundle):
    registry = Registry(Store(url))
    registry.promote(registry.add(bundle, code_version="abc").id)
    return registry


def test_a_better_challenger_is_promoted_and_the_bot_runs_with_it(
    url, bundles, old_data, new_data, tmp_path, start_bot
):
    registry = registry_with(url, bundles["poor"])
    stored = DataSets(registry.store)
    stored.add(checked(old_data))
    new = checked(new_data)
    outcome = retrain(
        registry, list(stored.fetch("transactions", tmp_path / "data")), new=[new],
        parameters=GOOD, created_at=1_800_000_000, **QUICK,
    )  # fmt: skip
    assert new.id in {one.id for one in stored.list()}
    assert outcome.promoted, outcome.checks
    assert any(check.name.startswith("attack score") for check in outcome.checks)
    assert {ATTACK_MODEL_FILE, ATTACK_MANIFEST_FILE} <= registry.entry("champion").files.keys()
    assert registry.ledger().champion == outcome.challenger
    assert json.loads(registry.read("champion", "evaluation.json"))["passed"]
    registry.fetch("champion", tmp_path / "models")
    start_bot(MODEL_PATH=str(tmp_path / "models/current" / MODEL_FILE))
    (finding,) = agent.handle_transaction(event_of([transfer_log()]))
    assert finding.metadata["model_version"] == "1800000000"
    registry.rollback()
    registry.fetch("champion", tmp_path / "models")
    assert (
        load_model(tmp_path / "models/current" / MODEL_FILE, FEATURE_NAMES).version == "1600000000"
    )


def test_a_worse_challenger_is_refused_with_the_reason(bundles, old_data, tmp_path):
    registry = registry_with(str(tmp_path / "store"), bundles["good"])
    outcome = retrain(registry, [old_data], parameters=POOR, created_at=1_800_000_000, **QUICK)
    assert not outcome.promoted
    failed = {check.name for check in outcome.checks if not check.passed}
    assert failed & {"AUC", "recall at the model's own threshold", "golden shapes"}
    step = registry.ledger()
    assert step.champion.startswith("1700000000")
    assert step.challenger == outcome.challenger


def test_a_signed_challenger_keeps_its_signature_through_the_registry(tmp_path, bundles, old_data):
    """And its chain: joined tables do not state it, and a forest of mainnet is the default."""
    registry = registry_with(str(tmp_path / "store"), of_chain(56, bundles["poor"], tmp_path))
    key = new_private_key()
    feedback = Feedback(benign=frozenset({"0x" + "0" * 64}))
    outcome = retrain(
        registry, [old_data], feedback=feedback, parameters=GOOD, created_at=9, signing_key=key,
        **QUICK,
    )  # fmt: skip
    assert outcome.promoted
    assert outcome.notes == ("By the analysts' feedback 0 transactions are attacks, 1 are not.",)
    path = registry.fetch("champion", tmp_path / "models")
    model = load_model(path, FEATURE_NAMES, public_key=public_key(key))
    assert model.version == "9"
    assert model.manifest.chain_id == 56


def of_chain(chain_id: int, bundle: Path, folder: Path) -> Path:
    """The same model, of another chain."""
    copy = shutil.copytree(bundle, folder / f"chain-{chain_id}")
    path = copy / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chain_id": chain_id}))
    return copy


def test_data_of_another_chain_are_refused(tmp_path, bundles, old_data, capsys):
    store = str(tmp_path / "store")
    registry = registry_with(store, of_chain(56, bundles["poor"], tmp_path))
    data = shutil.copytree(old_data, tmp_path / "collected")
    (data / RECORDING_FOLDER).mkdir()
    stated = {"format": "recorded-blocks", "version": 1, "chain_id": 8453}
    (data / RECORDING_FOLDER / MANIFEST).write_text(json.dumps(stated))
    with pytest.raises(ValueError, match=r"is of Base .*, the champion of BNB Smart Chain"):
        retrain(registry, [old_data], new=[checked(data)], created_at=9, **QUICK)
    assert models.main(["data", "add", str(data), "--store", store]) == 1  # for later retrainings
    assert "each chain needs a store of its own" in capsys.readouterr().err
    assert DataSets(registry.store).list() == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:///FOLDER/mistyped.db", "mistyped.db: there is no such database"),
        ("sqlite:///FOLDER", "there is no such database"),
        ("postgres://me:s3cret@127.0.0.1:1/db", "no feedback can be read: OperationalError"),
        ("postgresql://me:s3cret@127.0.0.1:1/db", "no feedback can be read: OperationalError"),
        ("postgresql://me:s3cret@host:s3cret/db", "use sqlite:///FILE or postgresql://..."),
    ],
)
def test_a_database_that_cannot_be_had_is_named_without_its_password(tmp_path, url, said):
    with pytest.raises(TableError, match=re.escape(said)) as refused:
        read_all([url.replace("FOLDER", str(tmp_path))])
    assert "s3cret" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_verdicts_are_those_on_the_champion_s_chain(tmp_path):
    """A service may assess several chains in one database."""
    with closing(sqlite3.connect(tmp_path / "service.db")) as database:
        database.executescript(
            f"""
            CREATE TABLE alerts (id, chain_id, tx_hash, model_version);
            CREATE TABLE feedback (alert, author, is_true_positive);
            CREATE TABLE features (chain_id, tx_hash, model_version, features);
            INSERT INTO alerts VALUES (1, 1, '0x{"1" * 64}', ''), (2, 56, '0x{"2" * 64}', '');
            INSERT INTO feedback VALUES (1, 'a', 1), (2, 'a', 1);
            """
        )
    sources = [f"sqlite:///{tmp_path}/service.db"]
    assert read_all(sources, 56).of_transactions.attacks == {f"0x{'2' * 64}"}
    assert len(read_all(sources).of_transactions.attacks) == 2
    (tmp_path / "empty.db").touch()
    with pytest.raises(TableError, match=r"empty.db: no feedback can be read: DatabaseError"):
        read_all([f"sqlite:///{tmp_path}/empty.db"])


def test_a_report_that_cannot_be_written_does_not_deny_the_promotion(
    tmp_path, bundles, old_data, monkeypatch, capsys
):
    monkeypatch.setenv("STORE_URL", str(tmp_path / "store"))
    registry_with(str(tmp_path / "store"), bundles["poor"])
    outcome = Outcome("1-0", "2-0", (), False, (), 1.0, promoted=True)
    monkeypatch.setattr("src.training.retraining.run.retrain", lambda *_, **__: outcome)
    report = tmp_path / "report"
    (report / "retraining.json").mkdir(parents=True)
    assert command.main(["--report", str(report)]) == 1
    said = capsys.readouterr()
    assert "Promoted: 2-0" in said.err.splitlines()[-1]
    assert "nothing was promoted" not in said.err
    assert "Promoted: 2-0" in said.out


def test_a_dry_run_keeps_nothing(tmp_path, bundles, old_data):
    registry = registry_with(str(tmp_path), bundles["poor"])
    before = sorted(tmp_path.rglob("*"))
    outcome = retrain(
        registry, [], new=[checked(old_data)], parameters=GOOD, created_at=9, dry_run=True, **QUICK
    )
    assert outcome.passed
    assert not outcome.promoted
    assert sorted(tmp_path.rglob("*")) == before
    assert len(registry.ids()) == 1
    assert len(registry.history()) == 1


def test_a_kill_at_any_step_leaves_the_old_champion(tmp_path, bundles, old_data, monkeypatch):
    """It leaves what is stored when the step begins."""
    registry = registry_with(str(tmp_path / "store"), bundles["poor"])
    before = registry.ledger().champion

    def copied_before(step):
        do = getattr(registry, step)

        def copy_and_do(*arguments, **keywords):
            shutil.copytree(tmp_path / "store", tmp_path / step)
            return do(*arguments, **keywords)

        return copy_and_do

    steps = ("add", "challenge", "promote")
    for step in steps:
        monkeypatch.setattr(registry, step, copied_before(step))
    assert retrain(registry, [old_data], parameters=GOOD, created_at=9, **QUICK).promoted
    for step in steps:
        left = Registry(Store(str(tmp_path / step)))
        assert left.ledger().champion == before
        assert left.fetch("champion", tmp_path / "models" / step).is_file()


def test_a_corrupted_champion_is_refused_before_anything_is_trained(tmp_path, bundles, old_data):
    registry = registry_with(str(tmp_path), bundles["good"])
    file = tmp_path / "models" / registry.ledger().champion / MODEL_FILE
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BundleRefused, match="truncated or was modified"):
        retrain(registry, [old_data], created_at=9, **QUICK)


def test_a_champion_promoted_meanwhile_is_not_overthrown(tmp_path, bundles, old_data, monkeypatch):
    registry = registry_with(str(tmp_path), bundles["poor"])
    other = registry.add(bundles["good"], code_version="abc").id
    add = registry.add

    def meanwhile(*arguments, **keywords):
        Registry(registry.store).promote(other)
        return add(*arguments, **keywords)

    monkeypatch.setattr(registry, "add", meanwhile)
    with pytest.raises(ChampionChanged):
        retrain(registry, [old_data], parameters=GOOD, created_at=9, **QUICK)
    assert registry.ledger().champion == other


def test_two_retrainings_at_once_leave_one_whole_champion(tmp_path, bundles, old_data):
    registry_with(str(tmp_path), bundles["poor"])
    outcomes = []

    def run(created_at):
        registry = Registry(Store(str(tmp_path)))
        try:
            outcomes.append(
                retrain(registry, [old_data], parameters=GOOD, created_at=created_at, **QUICK)
            )
        except ChampionChanged as refusal:
            outcomes.append(refusal)

    threads = [threading.Thread(target=run, args=[made]) for made in (11, 12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 2
    champion = Registry(Store(str(tmp_path))).entry("champion").id
    promoted = {o.challenger for o in outcomes if not isinstance(o, ChampionChanged) and o.promoted}
    assert champion in promoted


def test_held_out_blocks_are_seen_by_no_challenger(old_data, tmp_path):
    data = prepare([old_data], Feedback(), tmp_path)
    seen = set(load_background(data.training).table["block_number"])
    held_out = set(data.held_out.table["block_number"])
    assert held_out
    assert not seen & held_out
    assert held_out | seen == set(load_background(old_data).table["block_number"])
    numbers = pd.Series(range(10_000))
    assert 0.18 < held_out_blocks(numbers).mean() < 0.22
    assert 0 < data.recent.sum() < len(data.held_out)


def test_old_and_new_data_are_joined_and_repeated_ones_count_once(old_data, new_data, tmp_path):
    both = prepare([old_data, new_data, old_data], Feedback(), tmp_path / "both")
    table = load_background(both.training).table
    assert table["block_number"].max() > 1_001_000
    assert table["tx_hash"].is_unique
    assert len(both.exploits) == 20


def test_what_analysts_found_leaves_the_background_and_joins_the_attacks(old_data, tmp_path):
    background = load_background(old_data)
    found, benign = background.table["tx_hash"].tolist()[:2]
    feedback = Feedback(frozenset({found, "0x" + "0" * 64}), frozenset({benign}))
    data = prepare([old_data], feedback, tmp_path)
    everywhere = set(load_background(data.training).table["tx_hash"]) | set(
        data.held_out.table["tx_hash"]
    )
    assert found not in everywhere
    assert benign in everywhere
    assert found in set(data.exploits.table["tx_hash"])
    assert data.reported_benign.table["tx_hash"].tolist() == [benign]
    assert data.unknown_feedback == ("0x" + "0" * 64,)


@pytest.fixture(scope="module")
def good_and_poor(bundles):
    return [load_model(bundles[name] / MODEL_FILE, FEATURE_NAMES) for name in ("good", "poor")]


def checks_by_name(old, new, data, **keywords):
    sides = (Judged.by(model, None, data) for model in (old, new))
    return {c.name: c for c in judge(*sides, data, repetitions=100, **keywords)}


def test_a_model_is_no_worse_than_itself(good_and_poor, old_data, tmp_path):
    good, _ = good_and_poor
    checks = checks_by_name(
        good, good, prepare([old_data], Feedback(), tmp_path), tolerances=LENIENT
    )
    assert all(check.passed for check in checks.values()), checks
    assert "+0.0000" in checks["AUC"].why


def test_golden_cases_must_be_kept(good_and_poor, old_data, tmp_path):
    good, _ = good_and_poor
    folder = tmp_path / "golden"
    folder.mkdir()
    attack = pd.read_csv(old_data / "exploit_transactions.csv.gz")["tx_hash"][0]
    table = pd.DataFrame({"tx_hash": [attack], "expected": ["ANOMALY"]})
    for name in old_data.iterdir():
        (folder / name.name).write_bytes(name.read_bytes())
    for expected, passes in (("ANOMALY", True), ("NORMAL", False)):
        table.assign(expected=expected).to_csv(folder / "golden_cases.csv", index=False)
        data = prepare([folder], Feedback(), tmp_path / expected)
        assert checks_by_name(good, good, data)["golden cases"].passed is passes
    table.assign(tx_hash="0x" + "1" * 64).to_csv(folder / "golden_cases.csv", index=False)
    data = prepare([folder], Feedback(), tmp_path / "missing")
    assert "not in the data" in checks_by_name(good, good, data)["golden cases"].why


def test_false_alarms_that_were_reported_must_not_come_back(good_and_poor, old_data, tmp_path):
    good, _ = good_and_poor
    background = load_background(old_data)
    noisy = load_model_with_threshold(good, 0.0)
    feedback = Feedback(benign=frozenset(background.table["tx_hash"].tolist()[:5]))
    data = prepare([old_data], feedback, tmp_path)
    checks = checks_by_name(good, noisy, data)
    assert not checks["false alarms that analysts reported"].passed
    assert not checks["anomaly rate, recent traffic"].passed
    assert not checks["golden shapes"].passed


def load_model_with_threshold(model, threshold):
    from dataclasses import replace

    return replace(model, manifest=replace(model.manifest, anomaly_threshold=threshold))


def test_a_slower_model_is_refused(good_and_poor, old_data, tmp_path):
    good, poor = good_and_poor
    data = prepare([old_data], Feedback(), tmp_path)
    name = "time to score and explain"
    assert not checks_by_name(good, good, data, tolerances=Tolerances(slowdown=0.01))[name].passed
    assert checks_by_name(good, poor, data)[name].passed


def test_too_little_to_judge_by_is_refused(good_and_poor, old_data, tmp_path):
    good, _ = good_and_poor
    data = prepare([old_data], Feedback(), tmp_path)
    (check,) = checks_by_name(good, good, data, tolerances=Tolerances(background=10**6)).values()
    assert not check.passed


@pytest.mark.parametrize("blocks", [1, 2])
def test_too_few_blocks_to_split_are_refused(blocks, tmp_path):
    write_sample(tmp_path / "data", blocks=blocks, per_block=20, attacks=1)
    with pytest.raises(TableError, match=rf"the data sets have {blocks} blocks: too few"):
        prepare([tmp_path / "data"], Feedback(), tmp_path)


def test_the_shipped_model_judges_the_golden_shapes_right():
    path = Path(__file__).resolve().parents[3] / MODEL_FILE
    assert misjudged(load_model(path, FEATURE_NAMES)) == []


def test_feedback_is_counted_by_transaction(tmp_path):
    one, two, three = (f"0x{number:064x}" for number in (1, 2, 3))
    rows = [(one, "true"), (one, "TRUE"), (one, "false"), (two, "0"), (three, "yes"), (three, "no")]
    table = pd.DataFrame(rows, columns=["tx_hash", "is_true_positive"])
    table.to_csv(tmp_path / "feedback.csv", index=False)
    (tmp_path / "feedback.json").write_text(table.to_json(orient="records"))
    old = table.rename(columns={"is_true_positive": "is_true_alarm"})
    old.to_csv(tmp_path / "old.csv", index=False)
    (tmp_path / "old.json").write_text(old.to_json(orient="records"))
    for name in ("feedback.csv", "feedback.json", "old.csv", "old.json"):
        feedback = read_feedback(tmp_path / name)
        assert feedback == Feedback(frozenset({one}), frozenset({two}))  # three is disputed


def test_an_author_has_one_vote_on_a_transaction(tmp_path):
    """Whose three alerts were judged, or whose features changed with the model, has no more."""
    tx_hash = f"0x{1:064x}"
    rows = [(tx_hash, "true", "a")] * 3 + [(tx_hash, "false", "b"), (tx_hash, "false", "c")]
    table = pd.DataFrame(rows, columns=["tx_hash", "is_true_positive", "author"])
    table.to_csv(tmp_path / "feedback.csv", index=False)
    assert read_feedback(tmp_path / "feedback.csv") == Feedback(benign=frozenset({tx_hash}))
    table.assign(author=None).to_csv(tmp_path / "feedback.csv", index=False)
    assert read_feedback(tmp_path / "feedback.csv") == Feedback(frozenset({tx_hash}))
    table.assign(author=[["a"]] * len(table)).to_json(tmp_path / "x.json", orient="records")
    assert read_feedback(tmp_path / "x.json") == Feedback(frozenset({tx_hash}))


def one_graph(folder: Path, old_data: Path, *hashes: str) -> Path:
    """The old data with attacks that are all the first one, run again."""
    folder.mkdir()
    for file in old_data.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    for name in ("exploit_transactions.csv.gz", "exploit_transfers.csv.gz"):
        table = pd.read_csv(old_data / name, dtype={"value_raw": str})
        first = table[table["tx_hash"] == table["tx_hash"][0]]
        again = [first.assign(tx_hash=tx_hash) for tx_hash in hashes]
        pd.concat(again).to_csv(folder / name, index=False)
    return folder


def test_attacks_of_one_graph_leave_none_to_judge_an_attack_model_by(tmp_path, bundles, old_data):
    data = one_graph(tmp_path / "one", old_data, *(f"0x{number:064x}" for number in range(12)))
    registry = registry_with(str(tmp_path / "store"), bundles["poor"])
    outcome = retrain(registry, [data], parameters=GOOD, created_at=9, **QUICK)
    assert not any(check.name.startswith("attack") for check in outcome.checks)
    assert ATTACK_MODEL_FILE not in registry.entry(outcome.challenger).files
    both = registry.add(with_attack_model(bundles["good"], tmp_path / "both"), code_version="abc")
    registry.promote(both.id)
    outcome = retrain(registry, [data], parameters=GOOD, created_at=11, **QUICK)
    assert "attack model" in {check.name for check in outcome.checks if not check.passed}


def with_attack_model(bundle: Path, folder: Path) -> Path:
    shutil.copytree(bundle, folder)
    write_small_attack_model(load_model(folder / MODEL_FILE, FEATURE_NAMES), folder=folder)
    return folder


def test_an_attack_is_kept_from_training_when_others_of_its_graph_join(tmp_path):
    few = tmp_path / "few"
    write_sample(few, blocks=10, per_block=2, attacks=1)
    kept = set()
    for number in range(12):
        data = one_graph(tmp_path / f"{number}", few, f"0x{number:064x}")
        kept.add(prepare([data], Feedback(), tmp_path / f"work{number}").kept_attacks.all())
    assert len(kept) == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "tx_hash\n0x1\n", "is_true_positive"),
        ("a.csv", "tx_hash,is_true_positive\n0x1,true\n", "row 1"),
        ("a.csv", f"tx_hash,is_true_positive\n0x{1:064x},perhaps\n", "perhaps"),
        ("a.json", "{}", "list of objects"),
        ("a.json", "[1]", "list of objects"),
    ],
)
def test_feedback_that_is_none_is_named(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(TableError, match=said):
        read_feedback(tmp_path / name)


def test_a_data_set_in_the_store_that_was_changed_is_refused(old_data, tmp_path):
    store = Store(str(tmp_path / "store"))
    stored = DataSets(store)
    data_id = stored.add(checked(old_data))
    assert stored.add(checked(old_data)) == data_id
    (folder,) = stored.fetch("transactions", tmp_path / "one")
    assert len(load_background(folder)) == len(load_background(old_data))
    file = tmp_path / "store/data" / data_id / "transfers.parquet"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(TableError, match="truncated or was modified"):
        stored.fetch("transactions", tmp_path / "two")


def test_the_command_reports_and_its_exit_code_tells(
    tmp_path, bundles, old_data, monkeypatch, capsys
):
    monkeypatch.setenv("STORE_URL", str(tmp_path / "store"))
    assert command.main(["--data", str(old_data)]) == 1
    assert "there is no store at" in capsys.readouterr().err
    assert models.main(["add", str(bundles["good"]), "--promote"]) == 0
    arguments = [
        "--data",
        str(old_data),
        "--parameter",
        "n_estimators=3",
        "--parameter",
        "max_samples=8",
    ]
    arguments += ["--report", str(tmp_path / "report"), "--created-at", "1800000000"]
    capsys.readouterr()
    assert command.main(arguments) == REFUSED
    assert "Refused: 1800000000-" in capsys.readouterr().out
    page = (tmp_path / "report/retraining.html").read_text()
    assert "FAILED" in page
    assert page.count("data:image/png") == 4
    assert {path.name for path in (tmp_path / "report").glob("*.png")} == {
        "comparison_anomaly_score.png",
        "comparison_attack_score.png",
        "confusion_matrix_anomaly_score.png",
        "confusion_matrix_attack_score.png",
    }
    written = json.loads((tmp_path / "report/retraining.json").read_text())
    assert written["passed"] is False
    assert np.isfinite(written["seconds"])
    with pytest.raises(SystemExit, match="2"):
        command.main(["--parameter", "capped_source=x"])


@pytest.mark.parametrize("kind", ["forest", "attack", "fraud"])
def test_what_a_challenger_needs_is_checked_before_the_work(tmp_path, monkeypatch, capsys, kind):
    """The champion, and the keys: without them hours of collecting and training would be lost."""

    def work(*_):
        raise AssertionError("too early")

    monkeypatch.setattr("src.training.retraining.run.collect_recent", work)
    monkeypatch.setattr("src.training.retraining.run.retrain", work)
    monkeypatch.setattr("src.training.retraining.run.retrain_fraud", work)
    monkeypatch.setenv("STORE_URL", str(tmp_path / "store"))
    (tmp_path / "store/data/unfinished").mkdir(parents=True)
    collecting = ["--collect", "5"] if kind != "fraud" else []
    assert command.main(["--kind", kind, *collecting]) == 1
    assert "there is no champion" in capsys.readouterr().err
    monkeypatch.setenv("MODEL_PUBLIC_KEY", public_key("11" * 32))
    assert command.main(["--kind", kind]) == 1
    assert "set MODEL_SIGNING_KEY too" in capsys.readouterr().err
    monkeypatch.setenv("MODEL_SIGNING_KEY", "22" * 32)
    assert command.main(["--kind", kind]) == 2
    assert "must be the private key of MODEL_PUBLIC_KEY" in capsys.readouterr().err


def test_the_attack_model_is_retrained_for_the_same_forest(tmp_path, bundles, old_data):
    registry = registry_with(str(tmp_path / "store"), bundles["good"])
    before = registry.entry("champion")
    outcome = retrain(registry, [old_data], attack_only=True, created_at=1_800_000_000, **QUICK)
    assert outcome.promoted, outcome.checks
    after = registry.entry("champion")
    assert after.id == outcome.challenger != before.id
    assert after.files[MODEL_FILE] == before.files[MODEL_FILE]
    assert ATTACK_MODEL_FILE in after.files
    assert ATTACK_MODEL_FILE not in before.files
    reference = parse_sample(registry.read("champion", DRIFT_FILE).decode())
    assert reference.attack_version == "1800000000"
    again = retrain(registry, [old_data], attack_only=True, created_at=1_900_000_000, **QUICK)
    assert [one.name for one in again.checks if not one.passed] == ["another model"]
    assert registry.entry("champion").id == after.id
    assert outcome.pictures.keys() == {
        "comparison_attack_score.png",
        "confusion_matrix_attack_score.png",
    }
    assert ATTACK_SCORE in reference.columns


@pytest.mark.parametrize(
    ("chain_id", "problem"),
    [
        (1, f"block {HEAD - 64 - 7 * 7_200}: the node's newest block is only 0"),
        (56, f"block {HEAD - 64 - 7 * 115_200}: the node's newest block is only 0"),
        (424_242, "no time between blocks of Chain 424242 (no record): set BLOCK_SECONDS"),
    ],
)
def test_a_week_of_blocks_to_collect_is_one_on_the_node_s_chain(
    chain_id: int, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = iter([HEAD, 0])  # a node that loses its chain stops the collection

    def answer(request: Request) -> Response:
        call = request.get_json()
        result = chain_id if call["method"] == "eth_chainId" else next(heads)
        content = {"jsonrpc": "2.0", "id": call["id"], "result": hex(result)}
        return Response(json.dumps(content), mimetype="application/json")

    with serve(answer) as url:
        monkeypatch.setenv("JSON_RPC_URL", url)
        with pytest.raises((RecordingError, ValueError), match=re.escape(problem)):
            collect_recent(1, tmp_path)
        monkeypatch.setenv("FORTA_CHAIN_ID", "8453")
        with pytest.raises(ValueError, match=rf"must be {chain_id}, the chain of the node"):
            collect_recent(1, tmp_path)
