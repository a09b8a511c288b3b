"""Batch scoring: the same figures as the live path, from any kind of table."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from notebooks.sample import write_sample
from src.backtest.score import main
from src.chain.transfers import TRANSFER_TOPIC, decode_transfers
from src.detection.bundle_files import manifest_path
from src.detection.features.definitions import FEATURE_NAMES, TokenProfile, feature_row
from src.detection.forest.model import load_model
from src.training.evaluation.threshold import main as threshold_main
from tests.conftest import ALICE, BOB, UNKNOWN_TOKEN, USDC, topic, word
from tests.support.attack import write_small_attack_model

ONE, TWO = (f"0x{digit * 64}" for digit in "ab")


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, blocks=5, per_block=20, attacks=1)
    return folder


@pytest.fixture(autouse=True)
def model_path(bundle_path, monkeypatch):
    monkeypatch.setenv("MODEL_PATH", str(bundle_path))
    monkeypatch.delenv("ANOMALY_THRESHOLD", raising=False)
    return bundle_path


def score(transactions, transfers, out, *options):
    tables = ["--transactions", str(transactions), "--transfers", str(transfers)]
    return main([*tables, "--out", str(out), *options])


def read(path):
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


class RawLog:
    """A log as the bridge hands it over."""

    def __init__(self, row, index):
        self.address = row.token_address
        self.topics = [TRANSFER_TOPIC, topic(row.from_address), topic(row.to_address)]
        self.data = word(int(row.value_raw))
        self.log_index = index


def test_scores_are_those_of_the_live_path_to_the_last_bit(sample, tmp_path, model_path):
    out = tmp_path / "scores.parquet"
    assert score(sample / "transactions.parquet", sample / "transfers.parquet", out) == 0
    scores = read(out).set_index("tx_hash")
    senders = pd.read_parquet(sample / "transactions.parquet").set_index("tx_hash")["from_address"]
    model = load_model(model_path, FEATURE_NAMES)
    profile = TokenProfile.from_manifest(model.manifest)
    assert len(scores) == 100
    for tx_hash, rows in pd.read_parquet(sample / "transfers.parquet").groupby("tx_hash"):
        logs = [RawLog(row, row.log_index) for row in rows.itertuples()]
        features = feature_row(decode_transfers(logs), senders[tx_hash], profile)
        row = features[[FEATURE_NAMES.index(name) for name in model.inputs]]
        live = model.score(row[np.newaxis])[0]
        assert scores.anomaly_score[tx_hash] == live
        assert scores.anomaly_percentile[tx_hash] == model.percentile(live)
        assert scores.prediction[tx_hash] == ("ANOMALY" if live >= 0.5 else "NORMAL")


@pytest.mark.parametrize("kind", ["parquet", "csv", "csv.gz"])
def test_every_kind_of_table_gives_the_same_scores_in_the_order_of_the_input(
    sample, tmp_path, kind
):
    for name in ("transactions", "transfers"):
        table = pd.read_parquet(sample / f"{name}.parquet")
        path = tmp_path / f"{name}.{kind}"
        table.to_parquet(path) if kind == "parquet" else table.to_csv(path, index=False)
    out = tmp_path / f"scores.{kind}"
    paths = (tmp_path / f"{name}.{kind}" for name in ("transactions", "transfers"))
    assert score(*paths, out) == 0
    reference = tmp_path / "reference.parquet"
    score(sample / "transactions.parquet", sample / "transfers.parquet", reference)
    assert read(out)["tx_hash"].tolist() == (
        pd.read_parquet(sample / "transactions.parquet")["tx_hash"].tolist()
    )
    assert read(out)["anomaly_score"].tolist() == read(reference)["anomaly_score"].tolist()


def small_tables(tmp_path, **changes):
    transfer = {
        "tx_hash": ONE,
        "log_index": 0,
        "token_address": USDC,
        "from_address": ALICE,
        "to_address": BOB,
        "value_raw": str(2**256 - 1),
    }
    transactions, transfers = tmp_path / "transactions.csv", tmp_path / "transfers.csv"
    pd.DataFrame(
        [{"tx_hash": ONE, "from_address": ALICE}, {"tx_hash": TWO, "from_address": BOB}]
    ).to_csv(transactions, index=False)
    pd.DataFrame([transfer | changes]).to_csv(transfers, index=False)
    return transactions, transfers


def test_transactions_without_an_erc20_transfer_are_left_out_and_said(tmp_path, capsys):
    out = tmp_path / "scores.csv"
    assert score(*small_tables(tmp_path), out) == 0
    assert read(out)["tx_hash"].tolist() == [ONE]
    assert "1 without an ERC-20 transfer" in capsys.readouterr().err


def test_transfers_of_other_standards_are_left_out(tmp_path):
    out = tmp_path / "scores.csv"
    assert score(*small_tables(tmp_path, token_std="erc721"), out) == 0
    assert len(read(out)) == 0


def test_addresses_are_compared_without_case(tmp_path):
    out, other = tmp_path / "scores.csv", tmp_path / "other.csv"
    score(*small_tables(tmp_path, token_address=UNKNOWN_TOKEN), out)
    score(*small_tables(tmp_path, from_address=ALICE.upper().replace("0X", "0x")), other)
    assert read(out).equals(read(other))


def test_explanations_are_the_models_and_sorted_by_weight(tmp_path, model_path):
    out = tmp_path / "scores.csv"
    assert score(*small_tables(tmp_path), out, "--explain") == 0
    reasons = json.loads(read(out)["model_explanations"][0])
    model = load_model(model_path, FEATURE_NAMES)
    wanted = model.explain(np.zeros(len(model.inputs)))[:10]
    assert [(r["feature"], r["value"], r["weight"]) for r in reasons] == [
        (w.feature, w.value, w.weight) for w in wanted
    ]


def test_the_threshold_comes_from_the_option_then_the_environment_then_the_model(
    tmp_path, monkeypatch
):
    tables, out = small_tables(tmp_path), tmp_path / "scores.csv"
    monkeypatch.setenv("ANOMALY_THRESHOLD", "0")
    score(*tables, out)
    assert read(out)["prediction"].tolist() == ["ANOMALY"]
    score(*tables, out, "--threshold", "1")
    assert read(out)["prediction"].tolist() == ["NORMAL"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"value_raw": "12.5"}, "uint256"), ({"value_raw": str(2**256)}, "uint256")],
)
def test_impossible_amounts_are_refused_and_shown(tmp_path, capsys, changes, said):
    assert score(*small_tables(tmp_path, **changes), tmp_path / "scores.csv") == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "scores.csv").exists()


def test_missing_columns_and_files_are_named(tmp_path, capsys):
    transactions, transfers = small_tables(tmp_path)
    table = pd.read_csv(transfers).drop(columns=["log_index", "value_raw"])
    table.to_csv(transfers, index=False)
    assert score(transactions, transfers, tmp_path / "scores.csv") == 1
    assert "log_index, value_raw" in capsys.readouterr().err
    assert score(transactions, tmp_path / "none.csv", tmp_path / "scores.csv") == 1
    assert "none.csv" in capsys.readouterr().err


def test_an_output_of_unknown_form_is_wrong_usage(tmp_path):
    with pytest.raises(SystemExit) as stopped:
        score(*small_tables(tmp_path), tmp_path / "scores.xlsx")
    assert stopped.value.code == 2


@pytest.mark.parametrize("out", ["transactions.csv", "transfers.csv"])
def test_no_table_that_is_read_is_written_over(tmp_path, capsys, out):
    for name in ("transactions.csv", "transfers.csv"):
        (tmp_path / name).write_text("tx_hash\n")
    with pytest.raises(SystemExit) as stopped:
        score(tmp_path / "transactions.csv", tmp_path / "transfers.csv", tmp_path / out)
    assert stopped.value.code == 2
    assert "one of the tables that are read" in capsys.readouterr().err
    assert (tmp_path / out).read_text() == "tx_hash\n"


def test_percentiles_rise_from_0_to_100_and_count_ties_half(model_path):
    model = load_model(model_path, FEATURE_NAMES)
    quantiles = np.array(model.manifest.score_quantiles)
    assert model.percentile(0.0) == 0.0
    assert model.percentile(1.0) == 100.0
    grid = np.linspace(0, 1, 2001)
    assert (np.diff(model.percentiles(grid)) >= 0).all()
    values, counts = np.unique(quantiles, return_counts=True)
    tied = values[counts.argmax()]
    places = np.flatnonzero(quantiles == tied)
    middle = (places[0] + places[-1]) / 2 / (len(quantiles) - 1) * 100
    assert len(places) > 2
    assert model.percentile(tied) == pytest.approx(middle)


def test_the_threshold_of_another_model_is_refused(tmp_path, capsys, bundle_path):
    assert threshold_main(["--rate", "0.004", "--model", str(bundle_path)]) == 1
    assert "npm run evaluate -- --model-card" in capsys.readouterr().err


# The attack score


@pytest.fixture
def with_attack_model(bundle_path, tmp_path, monkeypatch):
    for file in (bundle_path, manifest_path(bundle_path)):
        shutil.copy(file, tmp_path / file.name)
    path = tmp_path / bundle_path.name
    forest = load_model(path, FEATURE_NAMES)
    write_small_attack_model(forest, folder=tmp_path)
    monkeypatch.setenv("MODEL_PATH", str(path))
    return forest


def test_attack_scores_are_there_where_an_attack_model_is(sample, tmp_path, with_attack_model):
    out = tmp_path / "scores.parquet"
    tables = (sample / "transactions.parquet", sample / "transfers.parquet")
    assert score(*tables, out, "--explain") == 0
    scores = read(out)
    assert scores.attack_score.between(0, 1, inclusive="left").all()
    assert (scores.attack_percentile == 100 * scores.attack_score).all()
    assert len(json.loads(scores.attack_explanations[0])) == 10


def test_without_an_attack_model_there_is_no_column_and_the_report_says_so(
    sample, tmp_path, capsys
):
    out = tmp_path / "scores.csv"
    assert score(sample / "transactions.parquet", sample / "transfers.parquet", out) == 0
    assert "attack_score" not in read(out).columns
    assert "no attack scores: no attack model is loaded" in capsys.readouterr().err


def test_transfers_of_unknown_tokens_never_lower_an_attack_score(
    sample, tmp_path, with_attack_model
):
    transfers = pd.read_parquet(sample / "transfers.parquet")
    transactions = pd.read_parquet(sample / "transactions.parquet")
    added = transfers.drop_duplicates("tx_hash").assign(
        token_address=UNKNOWN_TOKEN, log_index=10_000, value_raw="1"
    )
    more = tmp_path / "more.parquet"
    pd.concat([transfers, added]).to_parquet(more)
    (tmp_path / "facts.csv").write_text(
        f"address,known\n{UNKNOWN_TOKEN.upper()},false\n{USDC},true\n"
    )

    def scored(path, *options):
        out = tmp_path / "scores.parquet"
        assert score(sample / "transactions.parquet", path, out, *options) == 0
        return read(out).set_index("tx_hash").attack_score[transactions.tx_hash]

    plain = scored(sample / "transfers.parquet")
    guarded = scored(more, "--token-facts", str(tmp_path / "facts.csv"))
    assert (guarded >= plain).all()
    assert (scored(more) <= guarded).all()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("address\n", "known"),
        ("address,known\n0x1,perhaps\n", "line 2: known must be true or false"),
    ],
)
def test_token_facts_that_are_none_are_refused(sample, tmp_path, capsys, text, complaint):
    (tmp_path / "facts.csv").write_text(text)
    tables = (sample / "transactions.parquet", sample / "transfers.parquet")
    options = ("--token-facts", str(tmp_path / "facts.csv"))
    assert score(*tables, tmp_path / "scores.csv", *options) == 1
    assert complaint in capsys.readouterr().err


# What is not known, and what is spelt otherwise


def test_a_transaction_without_a_sender_is_invalid_as_in_a_backtest(sample, tmp_path):
    table = pd.read_parquet(sample / "transactions.parquet")
    table.loc[3, "from_address"] = None
    table.to_parquet(tmp_path / "transactions.parquet")
    out = tmp_path / "scores.csv"
    assert score(tmp_path / "transactions.parquet", sample / "transfers.parquet", out) == 0
    scores = read(out)
    assert scores["prediction"].tolist().count("INVALID") == 1
    assert pd.isna(scores["anomaly_score"][3])


def test_hashes_in_either_case_are_the_same(sample, tmp_path):
    table = pd.read_parquet(sample / "transactions.parquet")
    table["tx_hash"] = table["tx_hash"].str.upper().str.replace("0X", "0x")
    table.to_csv(tmp_path / "transactions.csv", index=False)
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    assert score(tmp_path / "transactions.csv", sample / "transfers.parquet", one) == 0
    assert score(sample / "transactions.parquet", sample / "transfers.parquet", two) == 0
    assert read(one).equals(read(two))


def test_rows_that_are_there_twice_are_scored_once_in_order(sample, tmp_path):
    for name in ("transactions", "transfers"):
        table = pd.read_parquet(sample / f"{name}.parquet")
        pd.concat([table, table[::-1]]).to_parquet(tmp_path / f"{name}.parquet")
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    assert score(*(tmp_path / f"{n}.parquet" for n in ("transactions", "transfers")), one) == 0
    assert score(sample / "transactions.parquet", sample / "transfers.parquet", two) == 0
    assert one.read_bytes() == two.read_bytes()


def test_hashes_with_and_without_0x_are_the_same(tmp_path):
    transactions, transfers = small_tables(tmp_path)
    with transactions.open("a") as file:
        file.write(f"{ONE[2:]},{ALICE}\n")
    out = tmp_path / "scores.csv"
    assert score(transactions, transfers, out) == 0
    assert read(out)["tx_hash"].tolist() == [ONE]


@pytest.mark.parametrize("name", ["row", "number_of_the_row"])
def test_columns_of_other_names_do_not_change_the_order(sample, tmp_path, name):
    table = pd.read_parquet(sample / "transactions.parquet")
    table[name] = range(len(table), 0, -1)
    table.to_parquet(tmp_path / "transactions.parquet")
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    assert score(tmp_path / "transactions.parquet", sample / "transfers.parquet", one) == 0
    assert score(sample / "transactions.parquet", sample / "transfers.parquet", two) == 0
    assert one.read_bytes() == two.read_bytes()


def test_a_row_without_a_hash_is_said_to_be_left_out(tmp_path, capsys):
    transactions, transfers = small_tables(tmp_path)
    with transactions.open("a") as file:
        file.write(f",{ALICE}\n")
    assert score(transactions, transfers, tmp_path / "scores.csv") == 0
    assert "2 without an ERC-20 transfer are left out" in capsys.readouterr().err


def test_a_line_that_cannot_be_read_is_an_error_that_names_the_file(tmp_path, capsys):
    transactions, transfers = small_tables(tmp_path)
    with transactions.open("a") as file:
        file.writelines(f"0x{number:064x},{ALICE}\n" for number in range(30_000))
        file.write(f"{TWO},{ALICE},1\n")
    assert score(transactions, transfers, tmp_path / "scores.csv") == 1
    assert "transactions.csv: truncated, corrupt" in capsys.readouterr().err


def test_a_transaction_with_two_senders_is_refused(tmp_path, capsys):
    transactions, transfers = small_tables(tmp_path)
    with transactions.open("a") as file:
        file.write(f"{ONE},{BOB}\n")
    assert score(transactions, transfers, tmp_path / "scores.csv") == 1
    assert "is there twice with another from_address" in capsys.readouterr().err


def test_transfers_of_other_transactions_are_said(tmp_path, capsys):
    transactions, transfers = small_tables(tmp_path)
    with transfers.open("a") as file:
        file.write(f"0x{'c' * 64},0,{USDC},{ALICE},{BOB},1\n")
    assert score(transactions, transfers, tmp_path / "scores.csv") == 0
    assert "1 transfers of other transactions are ignored" in capsys.readouterr().err


def test_transactions_may_be_json(tmp_path):
    transactions, transfers = small_tables(tmp_path)
    rows = [{"tx_hash": ONE, "from_address": ALICE}, {"tx_hash": TWO, "from_address": BOB}]
    lines = tmp_path / "transactions.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    assert score(transactions, transfers, one) == score(lines, transfers, two) == 0
    assert one.read_bytes() == two.read_bytes()


def test_too_little_memory_names_no_option_that_the_command_lacks(
    sample, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("src.backtest.score_tables._MEMORY", "1MB")
    tables = (sample / f"{name}.parquet" for name in ("transactions", "transfers"))
    assert score(*tables, tmp_path / "scores.csv") == 1
    said = capsys.readouterr().err
    assert "not enough memory or room for temporary files: make room" in said
    assert "--memory" not in said
    assert "SET " not in said
