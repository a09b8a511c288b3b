"""Evaluation on attacks that no fold's model was fitted on, and on rewritten ones."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from notebooks.sample import write_sample
from src.datasets.location import EXPLOIT_TRANSFERS_FILE, EXPLOITS_FILE
from src.datasets.tables import TableError, TransactionSet, read_unknown_tokens
from src.datasets.training_set import load_background
from src.training.attack.fit import AttackParameters
from src.training.evaluation.unseen.attacks import (
    OLDER,
    attack_classes,
    load_attack_sets,
    protocol_name,
)
from src.training.evaluation.unseen.cross_fit import (
    ATTACK_SCORE,
    FOREST,
    TREES,
    joint_cross_fit,
)
from src.training.evaluation.unseen.measure import UnseenData, evaluate_unseen
from src.training.evaluation.unseen.report import unseen_sections
from src.training.evaluation.unseen.robustness import (
    AS_SENT,
    load_evasions,
    robustness,
)
from src.training.fit import cross_fit
from src.training.hyperparameters import Hyperparameters

SMALL = Hyperparameters(n_estimators=20, max_samples=128)
FEW_TREES = AttackParameters(n_estimators=10)
OWN_TOKEN = "0x" + "f" * 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, blocks=20, per_block=30, attacks=12)
    return folder


@pytest.fixture(scope="module")
def background(folder):
    return load_background(folder)


@pytest.fixture(scope="module")
def forests(background):
    return cross_fit(background, SMALL)


@pytest.fixture(scope="module")
def attacks(folder, forests):
    return load_attack_sets(folder, None, len(forests.models))


@pytest.fixture(scope="module")
def crossed(background, forests, attacks):
    return joint_cross_fit(background, forests, attacks, FEW_TREES)


@pytest.fixture(scope="module")
def evasions(folder, tmp_path_factory):
    """The exploits as sent; each behind an event of an own token; each cut in two."""
    out = tmp_path_factory.mktemp("evasions")
    facts = pd.read_csv(folder / EXPLOITS_FILE)
    rows = pd.read_csv(folder / EXPLOIT_TRANSFERS_FILE, dtype={"value_raw": str})
    facts = facts.assign(evades=facts["tx_hash"])
    noise = rows[rows["seq"] == 0].assign(
        seq=-1, token_address=OWN_TOKEN, from_address=rows["tx_from"], value_raw="1"
    )
    part = rows["tx_hash"] + "#" + (rows["seq"] % 2).astype(str)
    written = {
        AS_SENT: (facts, rows),
        "own_token": (facts, pd.concat([noise, rows])),
        "split+in_two": (
            pd.concat([facts.assign(tx_hash=facts["tx_hash"] + end) for end in ("#0", "#1")]),
            rows.assign(tx_hash=part),
        ),
    }
    for name, (transactions, transfers) in written.items():
        transactions.to_csv(out / f"{name}.transactions.csv.gz", index=False)
        transfers.to_csv(out / f"{name}.transfers.csv.gz", index=False)
    costs = pd.DataFrame({"evasion": ["own_token"], "extra_gas_median": [112_131]})
    costs.to_csv(out / "costs.csv", index=False)
    return out


def test_attacks_of_one_graph_or_one_protocol_are_held_out_together(folder, tmp_path):
    for name in (EXPLOIT_TRANSFERS_FILE, "transactions.parquet", "transfers.parquet"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    listed = pd.read_csv(folder / EXPLOITS_FILE)
    listed["protocol"] = ["Same Finance", "SAME"] * 2 + [f"other{n}v" for n in range(8)]
    listed.to_csv(tmp_path / EXPLOITS_FILE, index=False)
    (found,) = load_attack_sets(tmp_path, None, 1000)
    assert found.name == OLDER
    folds = pd.DataFrame(
        {
            "fold": found.folds,
            "graph": found.clusters,
            "protocol": found.data.table["protocol"].map(protocol_name),
        }
    )
    assert (folds.groupby("graph")["fold"].nunique() == 1).all()
    assert (folds.groupby("protocol")["fold"].nunique() == 1).all()
    assert folds["fold"].nunique() > 1


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Saddle Finance", "saddle"),
        ("Inverse-Finance2", "inverse"),
        ("Token", "token"),
        (float("nan"), ""),
        ("unknown", ""),
    ],
)
def test_a_protocol_has_one_name_in_all_lists(text, name):
    assert protocol_name(text) == name


def test_a_subset_has_the_transfers_of_its_rows(background):
    rows = np.array([0, 5, 17])
    part = background.where(np.isin(np.arange(len(background)), rows))
    assert part.n_transfers.tolist() == background.n_transfers[rows].tolist()
    first = background.batch.offsets[5]
    assert part.batch.amount[part.batch.offsets[1]] == background.batch.amount[first]
    assert part.batch.origin.tolist() == background.batch.origin[rows].tolist()
    assert part.table["tx_hash"].tolist() == background.table["tx_hash"][rows].tolist()


def test_classes_are_read_from_the_registrys_text(background):
    facts = background.table.iloc[:3].assign(
        classes=["vuln/oracle/spot-price · vuln/defi/slippage", "", float("nan")]
    )
    data = TransactionSet(facts.reset_index(drop=True), background.batch)
    assert attack_classes(data) == [
        {"oracle/spot-price", "defi/slippage"},
        frozenset(),
        frozenset(),
    ]


def test_the_attack_score_is_the_share_of_background_that_ranks_lower(crossed):
    scores = crossed.background[ATTACK_SCORE]
    lower = np.mean(scores < scores[:, np.newaxis], axis=1)
    equal = np.mean(scores == scores[:, np.newaxis], axis=1)
    share = lower + equal / 2
    assert scores[share > 0.5] == pytest.approx(share[share > 0.5], abs=0.02)
    assert ((scores >= 0) & (scores < 1)).all()


def test_an_attack_is_scored_by_the_models_of_its_own_fold(crossed, attacks):
    (one,) = attacks
    together = crossed.score(one.data, one.folds)
    for fold in np.unique(one.folds):
        rows = one.folds == fold
        alone = crossed.score(one.data.where(rows), one.folds[rows])
        for name in (FOREST, TREES, ATTACK_SCORE):
            assert together[name][rows] == pytest.approx(alone[name])


def test_tokens_without_a_reputation_cannot_lower_the_attack_score(crossed, attacks, evasions):
    (one,) = attacks
    noisy = next(e for e in load_evasions(evasions) if e.name == "own_token").data
    as_sent = crossed.score(one.data, one.folds)[ATTACK_SCORE]
    scores = crossed.score(noisy, one.folds, unknown_tokens={OWN_TOKEN})[ATTACK_SCORE]
    assert noisy.table["tx_hash"].tolist() == one.data.table["tx_hash"].tolist()
    assert (scores >= as_sent).all()


def test_robustness_counts_an_attack_in_parts_as_found_when_any_part_is(crossed, attacks, evasions):
    rows = {row["evasion"]: row for row in robustness(evasions, crossed, attacks, rate=0.05)}
    assert list(rows) == [AS_SENT, "own_token", "split+in_two"]
    assert rows["own_token"]["gas"] == 112_131
    assert {row["attacks"] for row in rows.values()} == {12}
    assert all(0 <= row[ATTACK_SCORE] <= 1 for row in rows.values())


def test_evasions_of_attacks_that_no_model_saw_are_scored_by_all_models(crossed, evasions):
    rows = robustness(evasions, crossed, (), rate=0.05)
    assert rows[0]["attacks"] == 12


def test_attacks_that_are_all_held_out_together_are_refused(background, forests, attacks):
    (one,) = attacks
    together = replace(one, folds=np.zeros_like(one.folds))
    with pytest.raises(TableError, match="held out together"):
        joint_cross_fit(background, forests, [together], FEW_TREES)


def test_a_folder_without_evasions_is_refused(crossed, tmp_path):
    with pytest.raises(TableError, match="no rewritten attacks"):
        robustness(tmp_path, crossed, ())


def test_evasions_without_the_attacks_as_sent_are_refused(crossed, evasions, tmp_path):
    for end in ("transactions", "transfers"):
        name = f"own_token.{end}.csv.gz"
        (tmp_path / name).write_bytes((evasions / name).read_bytes())
    with pytest.raises(TableError, match="as they were sent"):
        robustness(tmp_path, crossed, ())


def test_token_facts_name_the_tokens_without_a_reputation(tmp_path):
    path = tmp_path / "facts.csv"
    path.write_text("address,known\n0xAB,0\n0xcd,1\n0xef,False\n")
    assert read_unknown_tokens(path) == {"0xab", "0xef"}
    path.write_text("address,known\n0xab,maybe\n")
    with pytest.raises(TableError, match="maybe"):
        read_unknown_tokens(path)


def test_the_report_has_every_section(folder, background, forests, evasions):
    figures = evaluate_unseen(
        folder,
        background,
        forests,
        UnseenData(blocks=folder, evasions=[evasions]),
        parameters=FEW_TREES,
        repetitions=20,
    )
    dated = f"{background.table['block_number'].nunique()} whole blocks of 20"
    assert any(name.startswith(dated) for name in figures["backgrounds"]), figures["backgrounds"]
    sections = dict(unseen_sections({"unseen": figures}))
    assert list(sections) == [
        "Unseen attacks",
        "Unseen attacks by number of transfers, at 0.4%",
        "Unseen attacks by class, at 0.4%",
        "The budget on three backgrounds",
        "Attacks rewritten to evade",
    ]
    assert OLDER in sections["Unseen attacks"][1]
    assert "split+in_two" in "\n".join(sections["Attacks rewritten to evade"])
