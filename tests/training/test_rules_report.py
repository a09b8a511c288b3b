"""The report about rules, on the synthetic sample."""

import json
import shutil

import pandas as pd
import pytest

from notebooks.sample import write_sample
from src.training import evaluate_rules
from tests.conftest import ALICE, USDC

REAL = "0xdb1a65a00dddd8961d310f86077373b39a8b7c54"
FAKE = "0xdb19d20ded05012813b29de926c5c454d37b7c54"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample")
    write_sample(path, blocks=5, per_block=20, attacks=5)
    row = {
        "token_address": USDC,
        "from_address": ALICE,
        "to_address": FAKE,
        "intended_addr": REAL,
        "is_sender_victim": "true",
    }
    pd.DataFrame(
        [
            {"tx_hash": "0x01", "label": "poisoning_zero_value", "value_raw": 0, **row},
            {"tx_hash": "0x02", "label": "poisoning_payoff", "value_raw": 1e9, **row},
            {"tx_hash": "0x03", "label": "victim_intended", "value_raw": 1e9, **row},
        ]
    ).to_csv(path / "poisoning_transfers.csv.gz", index=False)
    return path


def test_the_rules_are_measured_alone_and_together(folder, bundle_path, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_PATH", str(bundle_path))
    assert evaluate_rules.main(["--data", str(folder), "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "rules.json").read_text())
    steps = {step["detector"]: step for step in report["steps"]}
    poisoning = steps["address_poisoning"]
    assert poisoning["alone"]["poisoning: zero value, alone"]["flagged"] == 1
    assert poisoning["alone"]["poisoning: payoff, alone"]["flagged"] == 0
    assert poisoning["alone"]["poisoning: payoff, remembered"]["blocked"] == 1
    assert poisoning["alone"]["background"]["transactions"] == 100
    for step in report["steps"]:
        for name, before in step["before"].items():
            assert step["after"][name]["flagged"] >= before["flagged"]
    assert "| address_poisoning |" in (tmp_path / "rules.md").read_text()


def test_it_counts_what_the_informational_detectors_name(
    folder, bundle_path, tmp_path, monkeypatch
):
    evasions = tmp_path / "evasions"
    evasions.mkdir()
    listed = pd.read_csv(folder / "exploit_transactions.csv.gz").assign(label="exploit")
    moved = pd.read_csv(folder / "exploit_transfers.csv.gz", dtype={"value_raw": str})
    one, other = moved["tx_hash"].unique()[:2]  # one exploit, rewritten as two transactions
    goes_back = (
        {"from_address": REAL, "to_address": FAKE},
        {"from_address": FAKE, "to_address": REAL},
    )
    loan = pd.DataFrame(
        [
            {"tx_hash": tx_hash, "tx_from": ALICE, "seq": seq, "token_address": USDC}
            | {"value_raw": "7", **sides}
            for tx_hash, back in ((one, goes_back), (other, goes_back[:1]))
            for seq, sides in enumerate(back)
        ]
    )
    listed.assign(evades=one).to_csv(evasions / "split.transactions.csv.gz", index=False)
    loan.to_csv(evasions / "split.transfers.csv.gz", index=False)
    pd.DataFrame({"address": [ALICE], "category": ["mev_bot"]}).to_csv(
        folder / "labelled_addresses.csv.gz", index=False
    )
    monkeypatch.setenv("MODEL_PATH", str(bundle_path))
    words = ["--data", str(folder), "--robustness", str(evasions), "--out", str(tmp_path)]
    assert evaluate_rules.main(words) == 0
    rows = {row["set"]: row for row in json.loads((tmp_path / "rules.json").read_text())["named"]}
    assert rows["background"]["transactions"] == 100
    assert rows["evasions: split"] == {
        "set": "evasions: split", "transactions": 1, "arbitrage": 0, "balanced": 1,
    }  # fmt: skip
    assert "| evasions: split | 1 | 0 | 1 |" in (tmp_path / "rules.md").read_text()


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("poisoning_transfers", {"to_address": None}, "lacks the column to_address"),
        ("exploit_transfers", {"value_raw": "1.5"}, "invalid literal for int"),
        ("exploit_transfers", {"tx_from": ""}, ""),
    ],
)
def test_damaged_tables_are_named(
    folder, bundle_path, tmp_path, monkeypatch, capsys, name, change, said
):
    monkeypatch.setenv("MODEL_PATH", str(bundle_path))
    data = shutil.copytree(folder, tmp_path / "data")
    path = data / f"{name}.csv.gz"
    table = pd.read_csv(path, dtype=str).assign(**change).dropna(axis="columns", how="all")
    table.to_csv(path, index=False)
    code = evaluate_rules.main(["--data", str(data), "--out", str(tmp_path)])
    assert code == int(bool(said))
    error = capsys.readouterr().err
    assert said in error
    assert (str(path) in error) == bool(said)


def test_a_folder_without_the_tables_is_refused(tmp_path, capsys):
    assert evaluate_rules.main(["--data", str(tmp_path), "--out", str(tmp_path)]) == 1
    assert "transactions.parquet" in capsys.readouterr().err
