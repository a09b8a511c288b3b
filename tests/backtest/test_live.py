"""A backtest says what live handling says about the same transactions."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from src.backtest.scoring.decisions import BatchDecider
from src.backtest.scoring.prefilter import CONDITIONS, Considered, candidates
from src.backtest.scoring.scoring import Scorer
from src.backtest.scoring.transactions import batch_of
from src.chain.names.book import open_address_book
from src.datasets.fixed_bytes import hex_column
from src.datasets.store import read_slice
from src.decision.second_opinion import SecondOpinion
from src.detection.assessment import Assessor
from src.detection.counterparties import CounterpartyBook
from src.detection.detectors import DETECTORS
from src.detection.detectors.base import Equipment
from src.detection.evidence import Evidence, TokenFact
from src.detection.features.definitions import FEATURE_NAMES, TokenProfile, feature_row
from src.detection.features.reference_values import ReferenceValue, ReferenceValues
from src.detection.policy import Condition, Match, Scope, parse_policy
from src.detection.records import Action
from src.detection.suite import DetectorSuite
from src.history.importing import ImportOptions, import_history
from src.settings import PROJECT_ROOT
from tests.backtest.data import (
    hostile_history,
    write_cryo,
    write_dataset,
    write_etl,
)
from tests.backtest.runs import THRESHOLD, attack_of, rows_of, run

POLICY = (PROJECT_ROOT / "policy.yaml").read_text()
NAMES = open_address_book(1)

RULES = ("flash_loan_profit", "drained_account", "isolation_forest")


def live(model, history, facts=None, policy=None):
    """Every transaction by itself, through the functions of live handling."""
    facts = facts or {}
    profile = TokenProfile.from_manifest(model.manifest)
    suite = DetectorSuite.from_policy(
        policy or parse_policy(POLICY), 1, Equipment(THRESHOLD, model.manifest.token_amounts)
    )
    assessor = Assessor(model, attributions=10)
    second = SecondOpinion(attack_of(model), model, profile, explain_from=1)
    book = CounterpartyBook(10**6)
    found = {}
    for t in sorted(history, key=lambda t: (t.block, t.index)):
        if not t.transfers:
            continue
        assessment, row, features = None, None, None
        if t.sender is not None:
            features = feature_row(t.transfers, t.sender, profile)
            row = features[[FEATURE_NAMES.index(name) for name in model.inputs]]
            assessment = assessor.assess(row)
        evidence = Evidence(
            t.transfers, t.sender, t.to, 1, t.block, t.timestamp, t.nonce, None, assessment,
            {} if row is None else dict(zip(model.inputs, row.tolist(), strict=True)),
            {m.token: facts[m.token] for m in t.transfers if m.token in facts},
            None, book.enter(t.transfers, t.sender), values=profile.values,
            attack=second.assess(t.transfers, t.sender, features, assessment, frozenset()),
        )  # fmt: skip
        decision = suite.decide(evidence, with_names=NAMES.with_names)
        found[t.tx_hash] = (row, assessment, decision, evidence)
    return found


@pytest.mark.parametrize("layout", ["data set", "ethereum-etl", "cryo", "cryo logs"])
def test_every_layout_gives_what_live_handling_gives(tmp_path, model, history, layout):
    data, out = tmp_path / "data", tmp_path / "out"
    if layout == "data set":
        write_dataset(data, history)
    elif layout == "ethereum-etl":
        write_etl(data, history)
    else:
        write_cryo(data, history, logs=layout == "cryo logs")
    assert run(data, out, "--features") == 0
    assert_like_live(out, live(model, history), model)


def assert_like_live(out, expected, model, least_alerts=5):
    decisions, alerts = rows_of(out), rows_of(out, "alerts")
    assert set(decisions.index) == set(expected)
    assert decisions.index.is_unique
    raised = 0
    for tx_hash, (row, assessment, decision, evidence) in expected.items():
        found = decisions.loc[tx_hash]
        assert found["action"] == decision.action.name
        if assessment is None:
            assert found["prediction"] == "INVALID"
            assert pd.isna(found["anomaly_score"])
        else:
            assert found["anomaly_score"] == assessment.score
            assert found["anomaly_percentile"] == assessment.percentile
            assert found[list(model.inputs)].tolist() == row.tolist()
            assert found["prediction"] == ("ANOMALY" if assessment.score >= THRESHOLD else "NORMAL")
        anomaly = assessment is not None and assessment.score >= THRESHOLD
        if decision.action or anomaly:
            raised += 1
            alert = alerts.loc[tx_hash]
            assert [r["reason"] for r in json.loads(alert["reasons"])] == [
                v.reason for v in decision.reasons
            ]
            gained = {part["token"]: int(part["amount"]) for part in json.loads(alert["gained"])}
            assert gained == evidence.gains.own
        if anomaly:
            told = json.loads(alerts.loc[tx_hash]["model_explanations"])
            assert [(w["feature"], w["weight"]) for w in told] == [
                (w.feature, w.weight) for w in assessment.attributions
            ]
    assert raised == len(alerts) >= least_alerts


@pytest.mark.parametrize("seed", range(6))
def test_no_condition_hides_a_transaction_from_its_detector(tmp_path, model, seed):
    tokens = list(model.manifest.token_amounts)
    history = hostile_history(seed, tokens=tokens)
    facts = {tokens[1]: TokenFact("USDC", impersonates=True)}
    values = ReferenceValues("2026-01-01", (ReferenceValue(1, tokens[0], "ONE", 18, 1.0),))
    model = replace(model, manifest=replace(model.manifest, reference_values=values))
    called = frozenset(t.to for t in history[:100] if t.to)
    scope = Scope("some", "why", frozenset(RULES), Match.TO, called, only_if=Condition.SENDER_PAYS)
    policy = parse_policy(POLICY)
    policy = replace(policy, scopes=(*policy.scopes, scope))
    write_etl(tmp_path / "etl", history)
    store = import_history(
        str(tmp_path / "etl"), tmp_path / "store", ImportOptions(), lambda _: print
    )
    batch = batch_of(read_slice(store.path(store.slices[0])))
    scores = Scorer(model, attack_of(model).model).score(batch)
    hashes = hex_column(batch.tx_hash).to_pylist()
    expected = live(model, history, facts, policy)
    assert any("some: why" in str(decision) for _, _, decision, _ in expected.values())
    alike = np.array([bool(expected[h][3].look_alikes) for h in hashes])
    amounts = model.manifest.token_amounts
    decider = BatchDecider(model, policy, 1, THRESHOLD, facts, attack_of(model), NAMES)
    decided = decider.decide(batch, scores)
    for position, tx_hash in enumerate(hashes):
        decision = expected[tx_hash][2]
        if position in decided:
            assert decided[position].decision == decision
        else:
            assert decision.action is Action.ALLOW
    around = Considered(batch, scores, THRESHOLD, amounts, frozenset([tokens[1]]), alike)
    for name, entry in policy.for_chain(1).items():
        seen = candidates(name, around, entry.parameters)
        detector = DETECTORS[name].build(entry.parameters, Equipment(THRESHOLD, amounts))
        for position in np.flatnonzero(~seen):
            evidence = expected[hashes[position]][3]
            assert not detector.evaluate(evidence).action, (name, hashes[position])


def test_the_hostile_history_makes_every_detector_of_the_policy_speak(model):
    spoke = set()
    for seed in range(6):
        tokens = list(model.manifest.token_amounts)
        facts = {tokens[1]: TokenFact("USDC", impersonates=True)}
        for *_, decision, _ in live(model, hostile_history(seed, tokens=tokens), facts).values():
            spoke |= {v.detector for v in decision.reasons if v.action}
    never_select = {
        "known_bad_address", "fresh_contract_drain", "emptied_account", "inflated_supply",
        "arbitrage", "balanced",
    }  # fmt: skip
    assert spoke == set(CONDITIONS) - never_select
