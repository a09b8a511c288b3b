"""Findings carry actions; rules raise their own; a broken policy stops the bot."""

import json

import pytest
from forta_agent import FindingSeverity, FindingType

from src import agent
from src.chain.names.labels import AddressListError
from src.chain.transfers import UPGRADE_TOPICS
from src.detection.policy import PolicyError
from tests.conftest import (
    ALICE,
    BOB,
    TIMESTAMP,
    TX_HASH,
    UNKNOWN_TOKEN,
    USDC,
    event_of,
    transfer_log,
)
from tests.support.fake_chain import FakeNode, serve, usual_token

CAROL = "0x" + "c3" * 20
FAKE = "0x" + "b2" * 2 + "00" * 16 + "b2" * 2  # reads like BOB
QUIET = {"ANOMALY_THRESHOLD": "1"}  # the model calls nothing anomalous


def handle(*logs, **changes):
    return agent.handle_transaction(event_of(list(logs), **changes))


def policy_file(tmp_path, text):
    path = tmp_path / "policy.yaml"
    path.write_text(f"version: 1\ndetectors:\n{text}")
    return str(path)


def test_a_normal_transaction_is_allowed_with_a_reason(start_bot):
    start_bot(**QUIET)
    (finding,) = handle(transfer_log())
    assert finding.metadata["action"] == "ALLOW"
    reasons = json.loads(finding.metadata["reasons"])
    assert reasons[0]["detector"] == "isolation_forest"
    assert reasons[0]["action"] == "ALLOW"
    by_detector = {reason["detector"]: reason for reason in reasons}
    assert by_detector["known_bad_address"]["status"] == "missing inputs"
    assert "shadow_actions" not in finding.metadata


def test_an_anomalous_transaction_is_reviewed_or_blocked(start_bot, tmp_path):
    start_bot(ANOMALY_THRESHOLD="0")
    (finding,) = handle(transfer_log())
    assert finding.metadata["action"] == "REVIEW"
    agent.BOT = None
    start_bot(POLICY_PATH=policy_file(tmp_path, "  isolation_forest: {mode: on, block_at: 0}\n"))
    (finding,) = handle(transfer_log())
    assert finding.metadata["action"] == "BLOCK"
    assert finding.alert_id == "ANOMALOUS-TOKEN-TRANSFERS-TX"


def test_a_rule_raises_its_own_finding_beside_the_normal_one(start_bot):
    start_bot(**QUIET)
    normal, rule = handle(transfer_log(sender=CAROL, amount=0))
    assert normal.alert_id == "NORMAL-TOKEN-TRANSFERS-TX"
    assert normal.severity is FindingSeverity.Info
    assert normal.metadata["action"] == "REVIEW"
    assert json.loads(normal.metadata["reasons"])[0]["detector"] == "address_poisoning"
    assert rule.alert_id == "ADDRESS-POISONING"
    assert rule.name == "Address Poisoning"
    assert (rule.severity, rule.type) == (FindingSeverity.High, FindingType.Suspicious)
    assert rule.metadata["detector_action"] == "REVIEW"
    assert rule.metadata["count"] == "1"
    assert ALICE in rule.description


def test_paying_an_imitator_is_blocked(start_bot):
    start_bot(**QUIET)
    assert len(handle(transfer_log(recipient=BOB, amount=10**6))) == 1
    _, rule = handle(transfer_log(recipient=FAKE, amount=10**6))
    assert rule.metadata["action"] == "BLOCK"
    assert rule.severity is FindingSeverity.Critical
    assert FAKE in rule.metadata["reason"]


def test_an_impersonated_token_raises_a_finding(start_bot):
    node = FakeNode(tokens={UNKNOWN_TOKEN: usual_token("Tether USD", "UЅDT", 6)})
    with serve(node.answer) as url:
        start_bot(JSON_RPC_URL=url, **QUIET)
        _, rule = handle(transfer_log(UNKNOWN_TOKEN))
    assert rule.alert_id == "IMPERSONATED-TOKEN"


@pytest.mark.parametrize("decimals", [None, 300])
def test_a_counterfeit_that_states_no_decimals_does_not_evade(start_bot, decimals):
    views = usual_token("USD Coin", "USDC", decimals or 0)
    if decimals is None:
        del views["decimals"]
    with serve(FakeNode(tokens={UNKNOWN_TOKEN: views}).answer) as url:
        start_bot(JSON_RPC_URL=url, **QUIET)
        findings = handle(transfer_log(UNKNOWN_TOKEN, sender=CAROL))
    assert {"IMPERSONATED-TOKEN", "ADDRESS-POISONING"} <= {one.alert_id for one in findings}
    metadata = findings[0].metadata
    assert metadata["action"] == "REVIEW"
    assert metadata[f"USDC ({UNKNOWN_TOKEN})_transfers"] == "1"
    assert metadata[f"USDC ({UNKNOWN_TOKEN})_value"] == "unknown"


def test_a_symbol_too_long_to_read_does_not_evade(start_bot):
    views = usual_token("USD Coin", "USDC" + " " * 300_000, 6)
    with serve(FakeNode(tokens={UNKNOWN_TOKEN: views}).answer) as url:
        start_bot(JSON_RPC_URL=url, LOOKUP_DEADLINE_SECONDS="20", **QUIET)
        findings = handle(transfer_log(UNKNOWN_TOKEN, sender=CAROL))
    assert {"IMPERSONATED-TOKEN", "ADDRESS-POISONING"} <= {one.alert_id for one in findings}
    assert findings[0].metadata["action"] == "REVIEW"
    assert findings[0].metadata[f"(unreadable) ({UNKNOWN_TOKEN})_transfers"] == "1"


def test_a_token_that_renames_itself_by_an_upgrade_is_recognised(start_bot):
    node = FakeNode(tokens={UNKNOWN_TOKEN: usual_token("Hello", "HELLO")})
    upgraded = {"address": UNKNOWN_TOKEN, "topics": [min(UPGRADE_TOPICS), "0x" + "1" * 64]}
    with serve(node.answer) as url:
        start_bot(JSON_RPC_URL=url, **QUIET)
        assert len(handle(transfer_log(UNKNOWN_TOKEN))) == 1
        node.tokens[UNKNOWN_TOKEN] = usual_token("USD Coin", "USDC", 6)
        assert handle({**upgraded, "data": "0x", "logIndex": 0}) == []
        _, rule = handle(transfer_log(UNKNOWN_TOKEN))
    assert rule.alert_id == "IMPERSONATED-TOKEN"


def test_a_listed_sender_raises_a_finding(start_bot, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text(f"{ALICE},drainer\n")
    start_bot(ADDRESS_LIST=str(path), **QUIET)
    _, rule = handle(transfer_log())
    assert rule.alert_id == "KNOWN-BAD-ADDRESS"
    assert rule.metadata["action"] == "BLOCK"
    assert "drainer" in rule.metadata["reason"]
    assert agent.health_check() == []


def test_on_an_anomalous_transaction_a_rule_adds_its_reason_only(start_bot):
    start_bot(ANOMALY_THRESHOLD="0")
    (finding,) = handle(transfer_log(sender=CAROL, amount=0))
    assert finding.alert_id == "ANOMALOUS-TOKEN-TRANSFERS-TX"
    detectors = {reason["detector"] for reason in json.loads(finding.metadata["reasons"])}
    assert "address_poisoning" in detectors


def test_repeats_of_a_rule_are_counted_and_the_primary_finding_stays(start_bot):
    start_bot(**QUIET)
    log = transfer_log(sender=CAROL, amount=0)
    assert [len(handle(dict(log))) for _ in range(3)] == [2, 1, 1]
    later = {"number": 20_001_000, "timestamp": TIMESTAMP + 7200}
    _, rule = handle(dict(log), block=later)
    assert rule.metadata["count"] == "3"


def test_a_small_theft_does_not_hold_back_the_finding_on_a_large_one(start_bot, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text(f"{ALICE},drainer\n")
    start_bot(ADDRESS_LIST=str(path), **QUIET)
    stolen = [50, 60, 4_000_000, 4_000_000]  # USDC
    findings = [handle(transfer_log(amount=usdc * 10**6)) for usdc in stolen]
    assert [len(one) for one in findings] == [2, 1, 2, 1]
    assert findings[2][1].metadata["count"] == "2"


def test_repeats_are_remembered_over_a_restart(start_bot, tmp_path):
    for expected in (2, 1):
        start_bot(CACHE_DIR=str(tmp_path), **QUIET)
        assert len(handle(transfer_log(sender=CAROL, amount=0))) == expected
        agent.BOT.close()
        agent.BOT = None


def test_a_shadow_detector_is_recorded_and_raises_nothing(start_bot, tmp_path):
    start_bot(
        POLICY_PATH=policy_file(tmp_path, "  isolation_forest: on\n  address_poisoning: shadow\n"),
        **QUIET,
    )
    (finding,) = handle(transfer_log(sender=CAROL, amount=0))
    assert finding.metadata["action"] == "ALLOW"
    (shadow,) = json.loads(finding.metadata["shadow_actions"])
    assert (shadow["detector"], shadow["action"]) == ("address_poisoning", "REVIEW")


def test_a_challenger_scores_in_shadow(start_bot, bundle_path):
    start_bot(CHALLENGER_MODEL_PATH=str(bundle_path), **QUIET)
    (finding,) = handle(transfer_log())
    (shadow,) = json.loads(finding.metadata["shadow_actions"])
    assert shadow["detector"] == "challenger"
    assert "model 1650000000" in shadow["reason"]
    assert finding.metadata["anomaly_score"] in shadow["reason"]
    assert finding.metadata["action"] == "ALLOW"


def test_a_challenger_that_fails_costs_nothing(start_bot, bundle_path, monkeypatch):
    start_bot(CHALLENGER_MODEL_PATH=str(bundle_path), **QUIET)
    monkeypatch.setattr("src.detection.challenger.feature_row", lambda *_: 1 / 0)
    (finding,) = handle(transfer_log())
    assert finding.alert_id == "NORMAL-TOKEN-TRANSFERS-TX"
    assert json.loads(finding.metadata["shadow_actions"])[0]["status"] == "failed"


def test_an_invalid_transaction_still_gets_the_rules_word(start_bot):
    start_bot(**QUIET)
    changed = {"hash": TX_HASH, "to": BOB, "nonce": 1}
    (finding,) = handle(transfer_log(), transaction=changed)
    assert finding.alert_id == "INVALID-TOKEN-TRANSFERS-TX"
    actions = {r["detector"]: r.get("action") for r in json.loads(finding.metadata["reasons"])}
    assert actions["isolation_forest"] == "REVIEW"
    assert finding.metadata["action"] == "REVIEW"


def test_normal_findings_can_be_sampled_or_off(start_bot):
    hashes = [f"0x{n:064x}" for n in range(60)]

    def emitted():
        events = ({"hash": h, "from": ALICE, "to": BOB, "nonce": 9} for h in hashes)
        return [bool(handle(transfer_log(), transaction=event)) for event in events]

    start_bot(NORMAL_FINDINGS="sampled:4", **QUIET)
    sampled = emitted()
    assert 0 < sum(sampled) < 30
    assert sampled == emitted()
    agent.BOT = None
    start_bot(NORMAL_FINDINGS="off", **QUIET)
    assert not any(emitted())
    (rule,) = handle(transfer_log(sender=CAROL, amount=0))
    assert rule.alert_id == "ADDRESS-POISONING"


@pytest.mark.parametrize("text", ["", "  isolation_forest: maybe\n", "  nobody: on\n"])
def test_a_broken_policy_stops_the_bot(start_bot, tmp_path, text):
    with pytest.raises(PolicyError, match=r"policy\.yaml, line \d"):
        start_bot(POLICY_PATH=policy_file(tmp_path, text))
    assert agent.BOT is None
    with pytest.raises(PolicyError, match="no such file"):
        start_bot(POLICY_PATH=str(tmp_path / "absent.yaml"))


def test_a_missing_address_list_stops_the_bot(start_bot, tmp_path):
    with pytest.raises(AddressListError, match=r"absent\.csv"):
        start_bot(ADDRESS_LIST=str(tmp_path / "absent.csv"))
    assert agent.BOT is None


def test_a_detector_that_raises_is_named_in_the_finding(start_bot, monkeypatch):
    start_bot(**QUIET)
    monkeypatch.setattr(
        "src.detection.detectors.losses.DrainedAccountDetector.evaluate",
        lambda *_: 1 / 0,
    )
    (finding,) = handle(transfer_log(USDC))
    failed = [r for r in json.loads(finding.metadata["reasons"]) if r.get("status") == "failed"]
    assert [(r["detector"], r["reason"]) for r in failed] == [
        ("drained_account", "ZeroDivisionError")
    ]


def test_an_event_of_a_token_deployed_for_it_does_not_silence_a_rule(start_bot):
    lender, victim, own_token = "0x" + "1e" * 20, "0x" + "7c" * 20, "0x" + "0d" * 20
    tokens = {token: usual_token() for token in (UNKNOWN_TOKEN, own_token)}
    loan = [(lender, BOB, 1000), (victim, BOB, 50), (BOB, lender, 1000)]
    logs = [transfer_log(UNKNOWN_TOKEN, *move) for move in loan]
    event = transfer_log(own_token, ALICE, CAROL, 10**18)  # the sender "pays"
    for deployed, alerts in ((20_000_000 - 100, ["FLASH-LOAN-PROFIT"]), (0, [])):
        with serve(FakeNode(tokens, deployed_in_block={own_token: deployed}).answer) as url:
            start_bot(**QUIET, JSON_RPC_URL=url)
            _, *rules = handle(event, *logs)
            assert [rule.alert_id for rule in rules] == alerts
        agent.BOT = None
