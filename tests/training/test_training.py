"""Training: the same transactions give the same bytes, and the shipped bundle is whole."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from notebooks.sample import write_sample
from src.datasets.location import EXPLOIT_TRANSFERS_FILE, default_folder
from src.datasets.tables import TableError, TransactionSet, read_table
from src.datasets.training_set import data_identity, load_background
from src.detection.features.definitions import FEATURE_NAMES, FOREST_INPUTS
from src.detection.forest.manifest import read_manifest
from src.detection.forest.model import load_model
from src.registry.bundle import BLOCKS_FILE, MODEL_FILE, bundle_file
from src.training.fit import cross_fit, fit, fold_of_blocks, profile_tokens, select_rows
from src.training.hyperparameters import Hyperparameters
from src.training.run import train
from src.training.train import main
from tests.support.pickles import first_difference

ROOT = Path(__file__).resolve().parents[2]
SMALL = Hyperparameters(n_estimators=10, max_samples=64)
FILES = (MODEL_FILE, "isolation_forest.manifest.json", BLOCKS_FILE)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, blocks=15, per_block=30, attacks=5)
    return folder


@pytest.fixture(scope="module")
def background(sample):
    return load_background(sample)


def shuffled(sample, folder, seed=1):
    folder.mkdir()
    for name in ("transactions.parquet", "transfers.parquet"):
        table = pd.read_parquet(sample / name)
        table.sample(frac=1, random_state=seed).to_parquet(folder / name, index=False)
    return folder


def digests(folder):
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES]


def test_training_gives_a_model_that_loads_and_scores(sample, tmp_path):
    manifest = train(sample, tmp_path, created_at=1_700_000_000, parameters=SMALL)
    model = load_model(tmp_path / MODEL_FILE, FEATURE_NAMES)
    assert model.version == "1700000000"
    assert manifest.anomaly_threshold == SMALL.anomaly_threshold
    assert manifest.training["hyperparameters"]["n_estimators"] == 10
    assert manifest.training["data"]["blocks"] == 15
    assert len(set(manifest.golden_scores)) > 5


def test_the_order_of_rows_and_the_number_of_jobs_change_no_byte(sample, tmp_path):
    train(sample, tmp_path / "one", created_at=7, parameters=SMALL)
    other = shuffled(sample, tmp_path / "shuffled")
    train(other, tmp_path / "two", created_at=7, parameters=SMALL, jobs=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


@pytest.mark.integration
def test_the_hash_seed_changes_no_byte(sample, tmp_path):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    train(sample, here, created_at=9, parameters=SMALL)
    program = (
        "import sys; from pathlib import Path;"
        "from tests.training.test_training import SMALL, train;"
        "train(Path(sys.argv[1]), Path(sys.argv[2]), created_at=9, parameters=SMALL)"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(sample), str(elsewhere)],
        env=os.environ | {"PYTHONHASHSEED": min({"1", "2"} - {os.environ.get("PYTHONHASHSEED")})},
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    models = [(folder / MODEL_FILE).read_bytes() for folder in (here, elsewhere)]
    assert first_difference(*models) == ""  # says what differs, which digests do not
    one, other = (json.loads((folder / FILES[1]).read_text()) for folder in (here, elsewhere))
    assert one == other
    assert digests(here) == digests(elsewhere)


def test_the_version_can_come_from_the_environment(sample, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "9")
    assert main(["--data", str(sample), "--out", str(tmp_path)]) == 0
    assert read_manifest(tmp_path / MODEL_FILE).model_version == 9


def test_repeated_rows_count_once(sample, tmp_path, background):
    folder = tmp_path / "twice"
    folder.mkdir()
    for name in ("transactions.parquet", "transfers.parquet"):
        table = pd.read_parquet(sample / name)
        pd.concat([table, table.head(100)]).to_parquet(folder / name, index=False)
    twice = load_background(folder)
    assert twice.table["tx_hash"].tolist() == background.table["tx_hash"].tolist()
    assert np.array_equal(twice.batch.amount, background.batch.amount)


def test_known_exploits_are_left_out(sample, tmp_path, background):
    folder = shuffled(sample, tmp_path / "listed")
    listed = background.table["tx_hash"].tolist()[:3]
    table = pd.DataFrame({"tx_hash": listed, "label": "exploit"})
    table.to_csv(folder / "exploit_transactions.csv.gz", index=False)
    assert not set(listed) & set(load_background(folder).table["tx_hash"])


def test_incomplete_blocks_are_left_out(sample, tmp_path):
    folder = shuffled(sample, tmp_path / "partial")
    table = pd.read_parquet(folder / "transactions.parquet")
    first = table["block_number"].min()
    table.loc[table["block_number"] == first, "full_block"] = False
    table.loc[table["block_number"] == first + 1, "all_logs"] = False
    table.to_parquet(folder / "transactions.parquet", index=False)
    assert load_background(folder).table["block_number"].min() == first + 2


def test_single_transfers_and_the_capped_source_are_thinned(background):
    half = np.arange(len(background)) % 2 == 0
    table = background.table.assign(source=np.where(half, "capped", "other"))
    parameters = replace(SMALL, capped_source="capped", capped_source_share=0.2)
    profile_rows, forest_rows = select_rows(replace(background, table=table), parameters)
    capped = half[profile_rows].mean()
    assert 0.15 < capped <= 0.2
    singles = (background.n_transfers[profile_rows] == 1).sum()
    kept = (background.n_transfers[forest_rows] == 1).sum()
    assert 0 < kept < 0.2 * singles
    several = background.n_transfers[profile_rows] > 1
    assert set(profile_rows[several]) <= set(forest_rows)


def test_token_amounts_are_medians_and_robust_deviations(background):
    rows = np.arange(len(background))
    known = profile_tokens(background, rows, replace(SMALL, min_token_scale=0.01))
    address, amounts = next(iter(known.items()))
    moved = background.batch.token == background.batch.token_addresses.index(address)
    logs = np.log10(background.batch.amount[moved])
    center = np.median(logs)
    assert amounts.center == pytest.approx(center)
    assert amounts.scale == pytest.approx(1.4826 * np.median(np.abs(logs - center)))
    assert list(known) == sorted(known)
    assert not profile_tokens(background, rows, replace(SMALL, min_token_transfers=10**6))


def test_a_transaction_is_scored_by_a_model_that_has_not_seen_its_block(background):
    crossed = cross_fit(background, SMALL)
    blocks = background.table["block_number"].to_numpy()
    for fold, model in crossed.models.items():
        held_out = set(blocks[crossed.fold == fold])
        assert not held_out & set(blocks[model.profile_rows])
    fold = crossed.fold[0]
    alone = crossed.models[fold].score(background)
    assert np.array_equal(alone[crossed.fold == fold], crossed.scores[crossed.fold == fold])


def test_a_block_is_in_one_fold_and_folds_do_not_depend_on_the_set(background):
    table = background.table.assign(fold=fold_of_blocks(background, 5))
    assert (table.groupby("block_number")["fold"].nunique() == 1).all()
    assert table["fold"].nunique() > 2


def test_the_identity_is_that_of_the_sorted_hashes(background):
    rows = np.array([3, 1, 2])
    hashes = sorted(background.table["tx_hash"].iloc[rows])
    digest = hashlib.sha256("".join(f"{h}\n" for h in hashes).encode()).hexdigest()
    identity = data_identity(background, rows)
    assert identity["sha256"] == digest
    assert identity["first_date"] == "2017-07-14"


def test_too_few_transactions_are_refused_with_what_to_do(background):
    allowed = np.zeros(len(background), dtype=bool)
    allowed[:1] = True
    with pytest.raises(ValueError, match="record more blocks"):
        fit(background, SMALL, allowed=allowed)
    one_block = (background.table["block_number"] == background.table["block_number"].min()).values
    table = background.table[one_block].reset_index(drop=True)
    with pytest.raises(ValueError, match="too few blocks"):
        cross_fit(TransactionSet(table, background.batch), SMALL)


def test_a_folder_that_is_no_data_set_is_named(tmp_path, capsys):
    assert main(["--data", str(tmp_path / "nowhere"), "--out", str(tmp_path)]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_a_missing_column_is_named(sample, tmp_path):
    folder = shuffled(sample, tmp_path / "lacking")
    table = pd.read_parquet(folder / "transactions.parquet").drop(columns="full_block")
    table.to_parquet(folder / "transactions.parquet", index=False)
    with pytest.raises(TableError, match="full_block"):
        load_background(folder)


@pytest.mark.parametrize(
    ("name", "content"), [("a.parquet", b"PAR1 no"), ("a.csv.gz", b"no gzip"), ("a.txt", b"")]
)
def test_unreadable_tables_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=name):
        read_table(tmp_path / name)


def test_the_sample_says_that_it_is_invented_and_is_the_same_each_time(sample, tmp_path):
    write_sample(tmp_path, blocks=15, per_block=30, attacks=5)
    for name in ("transactions.parquet", "transfers.parquet"):
        assert pd.read_parquet(tmp_path / name).equals(pd.read_parquet(sample / name))
    assert set(pd.read_parquet(tmp_path / "transactions.parquet")["source"]) == {"synthetic"}
    assert len(read_table(tmp_path / EXPLOIT_TRANSFERS_FILE, ("tx_from", "seq"))) > 5


def test_the_shipped_bundle_is_the_one_that_its_manifest_describes():
    model = load_model(ROOT / MODEL_FILE, FEATURE_NAMES)
    assert model.inputs == FOREST_INPUTS
    blocks = pd.read_csv(bundle_file(ROOT, BLOCKS_FILE))
    assert len(blocks) == model.manifest.training["data"]["blocks"]
    assert blocks["block_hash"].is_unique
    plain_payment = model.score(np.zeros((1, len(FOREST_INPUTS))))[0]
    assert plain_payment < model.manifest.anomaly_threshold


@pytest.mark.skipif(default_folder() is None, reason="the shared data set is not on this machine")
def test_training_on_the_shared_data_gives_the_shipped_model(tmp_path):
    shipped = read_manifest(ROOT / MODEL_FILE)
    manifest = train(default_folder(), tmp_path, created_at=shipped.model_version)
    assert json.loads(manifest.to_json())["training"]["data"] == shipped.training["data"]
    assert (tmp_path / BLOCKS_FILE).read_text() == (bundle_file(ROOT, BLOCKS_FILE)).read_text()
    trained = load_model(tmp_path / MODEL_FILE, FEATURE_NAMES)
    rows = np.array(shipped.golden_rows)
    # Not the bytes: another processor's log10 may differ in the last bit.
    np.testing.assert_allclose(trained.score(rows), shipped.golden_scores, rtol=1e-3)
