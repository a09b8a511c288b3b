"""The handlers in one process: what they find in which transaction."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from forta_agent import FindingSeverity, FindingType, create_transaction_event
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src import agent
from src.chain.facts import token_info
from src.chain.text import BRIDGE_MARKERS
from src.chain.well_known import load_well_known_tokens
from src.decision.pipeline import Pipeline
from src.detection.features.definitions import FOREST_INPUTS, feature_row
from src.detection.forest.model import load_model
from tests.agent.handling import PRIMARY, answering, handle
from tests.conftest import (
    ALICE,
    BLOCK,
    BOB,
    TIMESTAMP,
    TX_HASH,
    UNKNOWN_TOKEN,
    USDC,
    event_of,
    transfer_log,
)
from tests.support.fake_chain import (
    NO_TRANSACTIONS,
    FakeNode,
    etherscan_answer,
    serve,
    usual_token,
)

AGE = "account_active_period_in_minutes"

CONTRACT_METADATA = {
    "from",
    "transfer_counts",
    "tokens_type_counts",
    "token_types",
    "max_single_token_transfers_name",
    "max_single_token_transfers_count",
    "max_single_token_transfers_value",
    "account_active_period_in_minutes",
    "model_version",
    "anomaly_threshold",
    "feature_generation_response_time",
}

SCORED_METADATA = {
    "prediction",
    "anomaly_score",
    "anomaly_percentile",
    "model_pred_response_time",
    "model_explanations",
}


def test_a_transaction_without_transfers_gives_no_finding(start_bot):
    start_bot()
    assert agent.handle_transaction(event_of([])) == []
    approval = transfer_log() | {"topics": ["0x" + "8c" * 32]}
    assert agent.handle_transaction(event_of([approval])) == []


def test_a_normal_transaction(start_bot):
    start_bot(ANOMALY_THRESHOLD="1")
    (finding,) = agent.handle_transaction(event_of([transfer_log(amount=1_500_000)]))
    assert finding.alert_id == "NORMAL-TOKEN-TRANSFERS-TX"
    assert finding.name == "Normal Transaction"
    assert finding.description == f"{ALICE} executed normal tx with token transfers"
    assert finding.severity is FindingSeverity.Info
    assert finding.type is FindingType.Info
    assert finding.protocol == "ethereum"
    assert finding.labels == []
    assert finding.timestamp.timestamp() == TIMESTAMP
    assert finding.addresses == [ALICE, USDC, BOB]
    metadata = finding.metadata
    assert metadata.keys() >= CONTRACT_METADATA | SCORED_METADATA
    assert metadata["from"] == ALICE
    assert metadata["prediction"] == "NORMAL"
    assert metadata["model_version"] == "1650000000"
    assert metadata["USDC_transfers"] == "1"
    assert metadata["USDC_value"] == "1.5"
    assert metadata["token_types"] == '["USD Coin-USDC"]'
    assert metadata["max_single_token_transfers_name"] == "USD Coin"
    assert all(isinstance(value, str) for value in metadata.values())


def test_an_anomalous_transaction(start_bot):
    start_bot(ANOMALY_THRESHOLD="0")
    (finding,) = agent.handle_transaction(event_of([transfer_log()]))
    assert finding.alert_id == "ANOMALOUS-TOKEN-TRANSFERS-TX"
    assert finding.name == "Anomalous Transaction"
    assert finding.description == f"{ALICE} executed anomalous tx with token transfers"
    assert finding.severity is FindingSeverity.Critical
    assert finding.type is FindingType.Suspicious
    assert finding.metadata["prediction"] == "ANOMALY"
    (label,) = finding.labels
    assert (label.entity, label.label, int(label.entity_type)) == (TX_HASH, "attacker", 2)
    assert f"{label.confidence:.3f}" == finding.metadata["anomaly_score"]


def test_the_threshold_is_compared_with_the_unrounded_score(start_bot):
    start_bot()
    event = event_of([transfer_log()])
    pipeline = agent.BOT.pipeline
    features = feature_row(agent.decode_transfers(event.logs), ALICE, pipeline.profile)
    row = features[: len(FOREST_INPUTS)]
    score = float(pipeline.model.score(row[np.newaxis])[0])
    assert score != round(score, 3)
    for threshold, prediction in (
        (score, "ANOMALY"),
        (float(np.nextafter(score, 1)), "NORMAL"),
    ):
        agent.BOT = None
        start_bot(ANOMALY_THRESHOLD=repr(threshold))
        assert handle(event)["metadata"]["prediction"] == prediction


def test_the_explanation_names_ten_features_and_adds_up(start_bot, bundle_path):
    start_bot()
    logs = [transfer_log(sender=BOB, recipient=ALICE, amount=n + 1) for n in range(6)]
    event = event_of(logs)
    metadata = handle(event)["metadata"]
    explanations = json.loads(metadata["model_explanations"])
    assert len(explanations) == 10
    assert [abs(e["weight"]) for e in explanations] == sorted(
        (abs(e["weight"]) for e in explanations), reverse=True
    )
    for entry in explanations:
        assert entry["factor"] == pytest.approx(2 ** entry["weight"], abs=1e-4)
        assert float(metadata[entry["feature"]]) == pytest.approx(entry["value"], abs=1e-6)
    row = np.array([float(metadata[name]) for name in FOREST_INPUTS])
    model = load_model(bundle_path, agent.FEATURE_NAMES)
    everything = model.explain(row)
    product = model.base_score * np.prod([attribution.factor for attribution in everything])
    assert product == pytest.approx(float(model.score(row[np.newaxis])[0]), rel=1e-9)
    assert handle(event)["metadata"]["model_explanations"] == metadata["model_explanations"]


def test_amounts_are_summed_exactly_and_scaled_once(start_bot):
    wbtc = "0x2260fac5e5542a773aa44fbcfedf7c193bc2c599"  # 8 decimals
    start_bot()
    logs = [transfer_log(wbtc, amount=40_000) for _ in range(100)]  # 0.0004 each
    metadata = handle(event_of(logs))["metadata"]
    assert metadata["WBTC_value"] == "0.04"
    assert metadata["WBTC_transfers"] == "100"


def test_the_largest_amount_scores(start_bot):
    start_bot()
    finding = handle(event_of([transfer_log(amount=2**256 - 1) for _ in range(3)]))
    assert finding["metadata"]["prediction"] in {"NORMAL", "ANOMALY"}
    assert float(finding["metadata"]["USDC_value"]) == 3 * (2**256 - 1) / 10**6


def test_a_fake_usdc_never_counts_as_usdc(start_bot):
    node = FakeNode(tokens={UNKNOWN_TOKEN: usual_token("USD Coin", "USDC", 6)})
    with serve(node.answer) as url:
        start_bot(JSON_RPC_URL=url)
        logs = [transfer_log(USDC, amount=10**6), transfer_log(UNKNOWN_TOKEN, amount=5 * 10**6)]
        metadata = handle(event_of(logs))["metadata"]
    assert metadata["USDC_value"] == "1"
    assert metadata[f"USDC ({UNKNOWN_TOKEN})_value"] == "5"
    assert json.loads(metadata["token_types"]) == [
        "USD Coin-USDC",
        f"USD Coin-USDC ({UNKNOWN_TOKEN})",
    ]


def test_a_look_alike_symbol_is_shown_with_its_address(start_bot):
    node = FakeNode(tokens={UNKNOWN_TOKEN: usual_token("USD Coin", "UЅDC", 6)})  # Cyrillic Dze
    with serve(node.answer) as url:
        start_bot(JSON_RPC_URL=url)
        metadata = handle(event_of([transfer_log(UNKNOWN_TOKEN)]))["metadata"]
    assert UNKNOWN_TOKEN in metadata["token_types"]


def test_a_symbol_cannot_take_the_place_of_another_feature(start_bot):
    node = FakeNode(tokens={UNKNOWN_TOKEN: usual_token("x", "max_single_token", 0)})
    with serve(node.answer) as url:
        start_bot(JSON_RPC_URL=url)
        logs = [transfer_log(amount=7), transfer_log(amount=7), transfer_log(UNKNOWN_TOKEN)]
        metadata = handle(event_of(logs))["metadata"]
    assert metadata["max_single_token_transfers_name"] == "USD Coin"
    assert metadata["max_single_token_transfers_count"] == "2"


HOSTILE_NAMES = [
    *BRIDGE_MARKERS,
    *(f"{marker}:" for marker in BRIDGE_MARKERS),
    "-!*forta_-!*forta_finding*!-:finding*!-:",
    "a\x00b\x1b[31m\r\nc\u202e\u200b",
    "\ud800",
    "N" * 100_000,
    '"}]} {"',
    "%s{0}{{}}",
    "=cmd()",
    "",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=range(len(HOSTILE_NAMES)))
def test_no_token_name_breaks_the_bridge(start_bot, name):
    start_bot()
    info = token_info("a source", name, name, 18)
    agent.BOT.lookups._cache.keep_token_infos({UNKNOWN_TOKEN: info})
    line = json.dumps(agent.handle_transaction(event_of([transfer_log(UNKNOWN_TOKEN)])),
                      default=lambda finding: finding.toJson())  # fmt: skip
    assert not any(marker in line for marker in BRIDGE_MARKERS)
    assert len(line) < 10_000
    (finding,) = map(json.loads, json.loads(line))
    assert finding["metadata"]["prediction"] in {"NORMAL", "ANOMALY"}
    assert finding["metadata"]["max_single_token_transfers_name"].isprintable()


def test_a_claim_of_a_first_transaction_after_this_one_is_not_remembered(start_bot, tmp_path):
    """Refuted by this transaction, it says nothing of the sender's next one either."""
    answers = [answering(etherscan_answer(str(TIMESTAMP + 60)))]
    with serve(lambda request: answers[0](request)) as url:
        start_bot(ETHERSCAN_URL=url, CACHE_DIR=str(tmp_path))
        assert handle(event_of([transfer_log()]))["metadata"][AGE] == "unknown"
        answers[0] = answering(etherscan_answer(str(TIMESTAMP - 600)))
        later = {"hash": "0x" + "c" * 64, "number": BLOCK + 300, "timestamp": TIMESTAMP + 3600}
        assert handle(event_of([transfer_log()], block=later))["metadata"][AGE] == "70"


def test_a_sender_of_earlier_transactions_is_no_new_address(start_bot):
    """As an explorer of another chain claims of everybody, or one that is far behind."""
    with serve(answering(NO_TRANSACTIONS)) as url:
        start_bot(ETHERSCAN_URL=url)
        sent = {"hash": TX_HASH, "from": ALICE, "to": BOB, "nonce": 500}
        metadata = handle(event_of([transfer_log()], transaction=sent))["metadata"]
        assert metadata[AGE] == "unknown"
        assert "has sent some" in metadata[f"{AGE}_source"]
        assert metadata["prediction"] in {"NORMAL", "ANOMALY"}
        sent["nonce"] = 0
        metadata = handle(event_of([transfer_log()], transaction=sent))["metadata"]
        assert (metadata[AGE], metadata[f"{AGE}_source"]) == ("0", "new address")


def test_a_claim_of_a_first_transaction_after_this_one_takes_no_score_away(start_bot):
    start_bot()
    unknown = handle(event_of([transfer_log()]))
    with serve(answering(etherscan_answer(str(TIMESTAMP + 60)))) as url:
        agent.BOT = None
        start_bot(ETHERSCAN_URL=url, ETHERSCAN_API_KEY="k")
        finding = handle(event_of([transfer_log()]))
    metadata = finding["metadata"]
    assert metadata["anomaly_score"] == unknown["metadata"]["anomaly_score"]
    assert metadata["account_active_period_in_minutes"] == "unknown"
    assert "after this one" in metadata["account_active_period_in_minutes_source"]


@pytest.mark.parametrize("sender", [{}, {"from": "0x12"}, {"from": 5}])
def test_an_event_without_a_valid_sender_is_invalid(start_bot, sender):
    start_bot()
    event = event_of([transfer_log()], transaction={"hash": TX_HASH, **sender})
    finding = handle(event)
    assert finding["alert_id"] == "INVALID-TOKEN-TRANSFERS-TX"
    assert finding["metadata"]["from"] == "unknown"
    assert finding["metadata"]["reason"] == "the sender is not an address"
    assert finding["name"] == "Invalid Model Features"
    assert finding["description"] == "Model input generation failed for tx executed by unknown"
    assert finding["severity"] == FindingSeverity.Low
    assert finding["type"] == FindingType.Info
    assert finding["metadata"].keys() >= CONTRACT_METADATA
    assert not SCORED_METADATA & finding["metadata"].keys()
    assert finding["metadata"]["action"] == "REVIEW"


def test_the_policy_may_allow_what_could_not_be_scored(start_bot, tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "version: 1\ndetectors:\n  isolation_forest: {mode: on, review_unscored: 0}\n"
    )
    start_bot(POLICY_PATH=str(policy))
    finding = handle(event_of([transfer_log()], transaction={"hash": TX_HASH}))
    assert finding["alert_id"] == "INVALID-TOKEN-TRANSFERS-TX"
    assert finding["metadata"]["action"] == "ALLOW"


def test_two_well_known_tokens_of_one_symbol_are_told_apart(start_bot):
    start_bot()
    listed = load_well_known_tokens(1)._tokens
    first, second = sorted(address for address, info in listed.items() if info.symbol == "KNC")
    logs = [transfer_log(first), transfer_log(second), transfer_log(second)]
    metadata = handle(event_of(logs))["metadata"]
    assert metadata[f"KNC ({first})_transfers"] == "1"
    assert metadata[f"KNC ({second})_transfers"] == "2"
    assert "KNC_transfers" not in metadata


def test_numbers_as_strings_are_numbers(start_bot):
    start_bot(ANOMALY_THRESHOLD="1")
    block = {"number": str(BLOCK), "timestamp": hex(TIMESTAMP)}
    finding = handle(event_of([transfer_log()], block=block))
    assert finding["alert_id"] == "NORMAL-TOKEN-TRANSFERS-TX"
    assert finding["timestamp"].startswith("2023-11-14 22:13:20")


def test_an_internal_error_is_an_invalid_finding_without_its_text(start_bot, monkeypatch):
    start_bot()

    def explode(*_, **__):
        raise KeyError("secret-value")

    monkeypatch.setattr(Pipeline, "assess", explode)
    finding = handle(event_of([transfer_log()]))
    assert finding["alert_id"] == "INVALID-TOKEN-TRANSFERS-TX"
    assert finding["metadata"]["reason"] == "internal error: KeyError"
    assert finding["metadata"]["action"] == "REVIEW"


def test_the_alert_rate_is_the_share_of_anomalies(start_bot):
    start_bot(ANOMALY_THRESHOLD="0")
    assert handle(event_of([transfer_log()]))["metadata"]["alert_rate"] == "1.000000"
    assert agent.BOT.alert_rate.count(is_anomaly=False) == 1 / 2


def test_ten_thousand_tokens_give_one_bounded_finding(start_bot):
    start_bot()
    logs = [transfer_log(f"0x{number:040x}", amount=number) for number in range(1, 10_001)]
    line = agent.handle_transaction(event_of(logs))[0].toJson()
    assert len(line) < 100_000
    metadata = json.loads(line)["metadata"]
    assert metadata["transfer_counts"] == "10000"
    assert metadata["tokens_type_counts"] == "10000"
    assert metadata["tokens_omitted"] == "9950"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3)
    ),
    max_leaves=5,
)

hostile_logs = st.lists(
    st.fixed_dictionaries(
        {
            "address": st.sampled_from([USDC, UNKNOWN_TOKEN]) | json_values,
            "topics": st.just(transfer_log()["topics"]) | json_values,
            "data": st.integers(0, 2**256 - 1).map(lambda n: f"0x{n:064x}") | json_values,
            "logIndex": json_values,
            "removed": json_values,
        }
    ),
    max_size=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    logs=hostile_logs,
    sender=st.just(ALICE) | json_values,
    tx_hash=st.just(TX_HASH) | json_values,
    block=st.fixed_dictionaries({"number": json_values, "timestamp": json_values}),
)
def test_no_event_can_make_the_handler_raise(start_bot, logs, sender, tx_hash, block):
    if agent.BOT is None:
        start_bot()
    event = create_transaction_event({"block": {}, "transaction": {}, "logs": logs})
    event.transaction = SimpleNamespace(hash=tx_hash, from_=sender)
    event.block = SimpleNamespace(**block)
    findings = agent.handle_transaction(event)
    primary = [finding for finding in findings if finding.alert_id in PRIMARY]
    assert len(primary) == bool(agent.decode_transfers(event.logs))
    for finding in findings:
        line = finding.toJson()
        assert not any(marker in line for marker in BRIDGE_MARKERS)
        assert all(isinstance(value, str) for value in finding.metadata.values())
