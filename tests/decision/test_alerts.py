"""One definition of every alert: from the detector's own file to the finding that is emitted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forta_agent import FindingSeverity, FindingType

from src import agent
from src.chain.transfers import ZERO_ADDRESS
from src.decision.alerts import ANOMALOUS, INVALID, NORMAL, SEVERITY_OF, Severity, alerts_of
from src.detection.detectors import DETECTORS
from src.detection.detectors.base import AlertSpec
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import load_model
from src.detection.records import Action, Status, Verdict, decide
from src.settings import PROJECT_ROOT
from tests.conftest import ALICE, BLOCK, BOB, TX_HASH, UNKNOWN_TOKEN, USDC, event_of, transfer_log
from tests.detection.test_loaders import supervised_model
from tests.support.fake_chain import FakeNode, serve, usual_token

CAROL = "0x" + "c3" * 20
POOL = "0x" + "70" * 20
BRIDGE = "0x" + "b4" * 20
SHIPPED = PROJECT_ROOT / "isolation_forest.pkl"
SPECS = {name: cls.ALERT for name, cls in DETECTORS.items() if cls.ALERT is not None}
QUIET = {"ANOMALY_THRESHOLD": "1"}  # the model calls nothing anomalous


def known_token() -> str:
    """A token of whose usual amounts the shipped model knows."""
    return next(iter(load_model(SHIPPED, FEATURE_NAMES).manifest.token_amounts))


def listed(folder: Path) -> dict[str, str]:
    (folder / "bad.csv").write_text(f"{ALICE},drainer\n")
    return {"ADDRESS_LIST": str(folder / "bad.csv")}


def with_classifier(folder: Path) -> dict[str, str]:
    policy = folder / "policy.yaml"
    policy.write_text("version: 1\ndetectors:\n  supervised: {mode: on, review_at: 0}\n")
    return {
        "POLICY_PATH": str(policy),
        "SUPERVISED_MODEL_PATH": str(supervised_model(folder)),
    }


def with_drains_on(folder: Path) -> dict[str, str]:
    policy = folder / "policy.yaml"
    policy.write_text("version: 1\ndetectors:\n  fresh_contract_drain: on\n")
    return {"POLICY_PATH": str(policy)}


# What each detector must report: the logs, and the settings that it needs beside the usual ones.
MATCHING: dict[str, tuple[Callable[[], list[Any]], Callable[[Path], dict[str, str]]]] = {
    "supervised": (lambda: [transfer_log()], with_classifier),
    "known_bad_address": (lambda: [transfer_log()], listed),
    "impersonated_token": (lambda: [transfer_log(UNKNOWN_TOKEN)], lambda _: {}),
    "address_poisoning": (lambda: [transfer_log(sender=CAROL, amount=0)], lambda _: {}),
    "fresh_account_large_value": (
        lambda: [transfer_log(known_token(), amount=2**200)],
        lambda _: {"MODEL_PATH": str(SHIPPED)},
    ),
    "flash_loan_profit": (
        lambda: [
            transfer_log(sender=POOL, recipient=BOB, amount=1000),
            transfer_log(UNKNOWN_TOKEN, sender=CAROL, recipient=BOB, amount=9),
            transfer_log(sender=BOB, recipient=POOL, amount=1000),
        ],
        lambda _: {},
    ),
    "fresh_contract_drain": (
        lambda: [transfer_log(sender=CAROL, recipient=POOL, amount=10)],
        with_drains_on,
    ),
    "drained_account": (
        lambda: [
            transfer_log(f"0x{number:040x}", sender=CAROL, recipient=POOL, amount=10)
            for number in (1, 2, 3)
        ],
        lambda _: {},
    ),
    "drainer_split": (
        lambda: [
            transfer_log(sender=CAROL, recipient=POOL, amount=20_000_000),
            transfer_log(sender=CAROL, recipient=f"0x{1:040x}", amount=80_000_000),
        ],
        lambda _: {},
    ),
    "emptied_account": (
        lambda: [transfer_log(sender=BRIDGE, recipient=ALICE, amount=10**14)],
        lambda _: {"MODEL_PATH": str(SHIPPED)},
    ),
    "inflated_supply": (
        lambda: [transfer_log(UNKNOWN_TOKEN, sender=ZERO_ADDRESS, recipient=ALICE, amount=100)],
        lambda _: {},
    ),
    "approval_phishing": (
        lambda: [transfer_log(sender=CAROL, recipient=POOL, amount=5_000_000)],
        lambda _: {"MODEL_PATH": str(SHIPPED)},
    ),
    "disproportionate_mint": (
        lambda: [transfer_log(known_token(), sender=ZERO_ADDRESS, amount=2**200)],
        lambda _: {"MODEL_PATH": str(SHIPPED)},
    ),
}


def test_every_detector_with_an_alert_has_a_matching_transaction_here() -> None:
    assert MATCHING.keys() == SPECS.keys()


@pytest.mark.parametrize("name", sorted(SPECS))
def test_a_matching_transaction_gives_the_detectors_own_finding(
    start_bot: Callable[..., None], tmp_path: Path, name: str
) -> None:
    logs, settings = MATCHING[name]
    node = FakeNode(
        tokens={UNKNOWN_TOKEN: usual_token("Tether USD", "UЅDT", 6)},
        deployed_in_block={BOB: BLOCK - 5} if name == "fresh_contract_drain" else {},
        balances={(BRIDGE, USDC): 10**14, (ZERO_ADDRESS, UNKNOWN_TOKEN): 1000},
    )
    with serve(node.answer) as url:
        start_bot(JSON_RPC_URL=url, LOOKUP_DEADLINE_SECONDS="20", **(QUIET | settings(tmp_path)))
        called = USDC if name == "approval_phishing" else BOB
        sent = {"hash": TX_HASH, "from": ALICE, "to": called, "nonce": 1}
        found = agent.handle_transaction(event_of(logs(), transaction=sent))
    assert found[0].alert_id == NORMAL.id
    spec = SPECS[name]
    rule = next(finding for finding in found if finding.alert_id == spec.id)
    assert rule.name == spec.title
    assert rule.description == spec.describe(ALICE)
    assert ALICE in rule.description
    assert rule.metadata["detector"] == name
    severity = SEVERITY_OF[Action[rule.metadata["detector_action"]]]
    assert rule.severity is FindingSeverity[severity.value]
    assert rule.type is FindingType.Suspicious


def test_alert_ids_and_titles_are_unique() -> None:
    specs = [NORMAL, ANOMALOUS, INVALID, *SPECS.values()]
    for texts in zip(*[(spec.id, spec.title, spec.description) for spec in specs], strict=True):
        assert len(set(texts)) == len(specs)


@pytest.mark.parametrize(
    ("alert_id", "title"), [("", "T"), ("lower", "T"), ("A-", "T"), ("A" * 65, "T"), ("A", "")]
)
def test_an_impossible_alert_is_an_error_where_it_is_defined(alert_id: str, title: str) -> None:
    with pytest.raises(ValueError, match=r"alert id|title"):
        AlertSpec(alert_id, title, "{sender} executed tx")


def review(detector: str, action: Action = Action.REVIEW) -> Verdict:
    return Verdict(detector, action, f"{detector} says so")


def test_a_rule_asks_for_its_alert_beside_the_normal_one() -> None:
    decision = decide([review("drained_account"), review("address_poisoning", Action.BLOCK)])
    primary, first, second = alerts_of(decision, ALICE, is_anomaly=False)
    assert (primary.spec, primary.severity, primary.reason) == (NORMAL, Severity.INFO, "")
    assert (first.spec, first.severity) == (SPECS["address_poisoning"], Severity.CRITICAL)
    assert (second.spec, second.severity) == (SPECS["drained_account"], Severity.HIGH)
    assert second.reason == "drained_account says so"


def test_on_an_anomaly_the_rules_reasons_stand_in_the_anomalous_alert() -> None:
    decision = decide([review("drained_account", Action.BLOCK), review("isolation_forest")])
    (alert,) = alerts_of(decision, ALICE, is_anomaly=True)
    assert (alert.spec, alert.severity, alert.action) == (
        ANOMALOUS,
        Severity.CRITICAL,
        Action.BLOCK,
    )
    assert alert.reason == "drained_account says so"


def test_an_invalid_alert_has_a_reason_and_keeps_the_rules_alerts() -> None:
    alerts = alerts_of(decide([review("drained_account")]), None, is_anomaly=False, problem="why")
    assert [alert.spec for alert in alerts] == [INVALID, SPECS["drained_account"]]
    assert (alerts[0].severity, alerts[0].reason) == (Severity.LOW, "why")
    assert alerts[0].description.endswith("executed by unknown")


def test_detectors_in_shadow_raise_no_alert() -> None:
    shadow = Verdict("drained_account", Action.BLOCK, "says so", shadow=True)
    assert [a.spec for a in alerts_of(decide([shadow]), ALICE, is_anomaly=False)] == [NORMAL]


@pytest.mark.parametrize("shadow", [False, True])
def test_an_anomaly_that_the_policy_scoped_out_is_information(shadow: bool) -> None:
    out = Verdict("isolation_forest", reason="a scope", status=Status.OUT_OF_SCOPE, shadow=shadow)
    (alert,) = alerts_of(decide([out]), ALICE, is_anomaly=True)
    assert (alert.spec, alert.severity, alert.action) == (ANOMALOUS, Severity.INFO, Action.ALLOW)
    both = alerts_of(decide([out, review("drained_account")]), ALICE, is_anomaly=True)
    assert [(a.spec, a.severity) for a in both] == [
        (ANOMALOUS, Severity.INFO),
        (SPECS["drained_account"], Severity.HIGH),
    ]


def test_a_scoped_out_anomaly_is_info_without_a_label(
    start_bot: Callable[..., None], tmp_path: Path
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"""\
version: 1
detectors: {{isolation_forest: on, address_poisoning: on}}
scopes:
  market_maker:
    reason: agreed
    detectors: [isolation_forest]
    addresses: ["{ALICE}"]
""")
    start_bot(ANOMALY_THRESHOLD="0", POLICY_PATH=str(policy))
    (finding,) = agent.handle_transaction(event_of([transfer_log(USDC)]))
    assert finding.alert_id == ANOMALOUS.id
    assert (finding.severity, finding.type) == (FindingSeverity.Info, FindingType.Info)
    assert finding.labels == []
    assert finding.metadata["prediction"] == "ANOMALY"
    assert finding.metadata["action"] == "ALLOW"
    assert "market_maker: agreed" in finding.metadata["reasons"]
    _, rule = agent.handle_transaction(event_of([transfer_log(sender=CAROL, amount=0)]))
    assert rule.alert_id == "ADDRESS-POISONING"
    stranger = {"hash": TX_HASH, "from": CAROL, "to": BOB, "nonce": 1}
    (other,) = agent.handle_transaction(event_of([transfer_log()], transaction=stranger))
    assert other.severity is FindingSeverity.Critical
    assert len(other.labels) == 1
    assert json.loads(other.metadata["reasons"])[0]["action"] == "REVIEW"


def test_arbitrage_labels_its_finding_and_changes_nothing_else(
    start_bot: Callable[..., None], tmp_path: Path
) -> None:
    weth, eth = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2", 10**18
    second = "0x" + "71" * 20

    def circle() -> list[Any]:
        return [
            transfer_log(weth, BOB, POOL, 100 * eth),
            transfer_log(USDC, POOL, second, 230_000 * 10**6),
            transfer_log(weth, second, BOB, 101 * eth),
        ]

    labels, actions = [], []
    for mode in ("on", "shadow", "off"):
        policy = tmp_path / f"{mode}.yaml"
        policy.write_text(f"version: 1\ndetectors:\n  isolation_forest: on\n  arbitrage: {mode}\n")
        agent.BOT = None
        start_bot(MODEL_PATH=str(SHIPPED), POLICY_PATH=str(policy), LOOKUP_DEADLINE_SECONDS="1")
        (found,) = agent.handle_transaction(event_of(circle()))
        labels.append([(one.entity, one.label, one.confidence) for one in found.labels])
        actions.append((found.alert_id, found.severity, found.metadata["action"]))
    assert labels == [[(TX_HASH, "arbitrage", 0.95)], [], []]
    assert len(set(actions)) == 1


def test_an_anomaly_after_which_everybody_has_what_they_had_is_high_and_no_less() -> None:
    anomaly = Verdict("isolation_forest", Action.BLOCK, "score")
    balanced = Verdict("balanced", reason="no account ends richer or poorer of any token")
    (alert,) = alerts_of(decide([anomaly, balanced]), ALICE, is_anomaly=True)
    assert (alert.severity, alert.action) == (Severity.HIGH, Action.BLOCK)
    assert alert.is_suspicious
    shadowed = Verdict("balanced", reason="the same", shadow=True)
    (alert,) = alerts_of(decide([anomaly, shadowed]), ALICE, is_anomaly=True)
    assert alert.severity is Severity.CRITICAL
