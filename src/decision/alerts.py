"""The alerts of a decision, for the bot, the service and the backtest.

Every transaction with transfers has one primary alert, which follows from its score. A rule that
requests more than `ALLOW` raises an additional alert, except for an anomalous transaction, whose
alert lists the rules' reasons.
"""

from collections.abc import Mapping
from enum import StrEnum, unique
from typing import Final, NamedTuple

from src.detection.detectors import DETECTORS
from src.detection.detectors.arbitrage import ArbitrageDetector
from src.detection.detectors.balanced import BalancedDetector
from src.detection.detectors.base import AlertSpec
from src.detection.detectors.isolation_forest import IsolationForestDetector
from src.detection.records import Action, Decision, Status, Verdict

UNKNOWN: Final = "unknown"
"""Text for an unknown sender or value."""

NORMAL: Final = AlertSpec(
    "NORMAL-TOKEN-TRANSFERS-TX",
    "Normal Transaction",
    "{sender} executed normal tx with token transfers",
)
ANOMALOUS: Final = AlertSpec(
    "ANOMALOUS-TOKEN-TRANSFERS-TX",
    "Anomalous Transaction",
    "{sender} executed anomalous tx with token transfers",
)
INVALID: Final = AlertSpec(
    "INVALID-TOKEN-TRANSFERS-TX",
    "Invalid Model Features",
    "Model input generation failed for tx executed by {sender}",
)


@unique
class Severity(StrEnum):
    """The severity of an alert, as in Forta findings, least severe first."""

    INFO = "Info"
    LOW = "Low"
    MEDIUM = "Medium"
    HIGH = "High"
    CRITICAL = "Critical"


SEVERITY_OF: Final[Mapping[Action, Severity]] = {
    Action.ALLOW: Severity.INFO,
    Action.REVIEW: Severity.HIGH,
    Action.BLOCK: Severity.CRITICAL,
}
"""The severity of a rule's alert, by the action that the rule requests."""


class Alert(NamedTuple):
    """One alert about one transaction. A tuple, since every transaction has one."""

    spec: AlertSpec  # id, title and description template
    description: str  # what the sender did
    severity: Severity  # of the alert
    action: Action  # requested by it
    # Human-readable: the rules' reasons, or why there is no score; may be "". Does not contain the
    # score.
    reason: str
    verdict: Verdict | None = None  # the rule's; None for a primary alert

    @property
    def is_suspicious(self) -> bool:
        """Whether it reports a suspicion."""
        return self.severity in (Severity.HIGH, Severity.CRITICAL)


def alerts_of(
    decision: Decision, sender: str | None, *, is_anomaly: bool, problem: str | None = None
) -> list[Alert]:
    """The alerts about one transaction with transfers, the primary one first.

    An anomaly after which every account has what it had is High, any other Critical. If the policy
    scoped the model out, an anomaly is reported as `Info`, requests nothing and does
    not absorb the rules' alerts.

    Args:
        decision: of all detectors.
        sender: the transaction's, or None.
        is_anomaly: whether its score reaches the anomaly threshold.
        problem: why it could not be scored, or None.
    """
    if problem is not None:
        primary = invalid_alert(sender, problem, decision.action)
    elif not is_anomaly:
        primary = _alert(NORMAL, sender, Severity.INFO, Action.ALLOW, "")
    elif (scoped_out := _scoped_out(decision)) is not None:
        primary = _alert(ANOMALOUS, sender, Severity.INFO, Action.ALLOW, scoped_out.reason)
    else:
        rules = "; ".join([verdict.reason for verdict, _ in _rules(decision)])
        severity = Severity.HIGH if _names(decision, BalancedDetector.NAME) else Severity.CRITICAL
        return [_alert(ANOMALOUS, sender, severity, decision.action, rules)]
    if decision.action is Action.ALLOW:
        return [primary]
    return [primary, *[_rule_alert(verdict, spec, sender) for verdict, spec in _rules(decision)]]


def invalid_alert(sender: str | None, problem: str, action: Action = Action.REVIEW) -> Alert:
    """The primary alert about a transaction that could not be scored."""
    return _alert(INVALID, sender, Severity.LOW, action, problem)


def is_arbitrage(decision: Decision) -> bool:
    """Whether the transaction is named as arbitrage, by a detector that counts."""
    return _names(decision, ArbitrageDetector.NAME)


def _names(decision: Decision, detector: str) -> bool:
    return any(
        verdict.detector == detector and verdict.status is Status.DECIDED
        for verdict in decision.reasons
    )


def _rules(decision: Decision) -> list[tuple[Verdict, AlertSpec]]:
    """The rules that request more than `ALLOW`, with their alerts, the deciding one first."""
    return [
        (verdict, spec)
        for verdict in decision.reasons
        if verdict.action is not Action.ALLOW
        and (spec := DETECTORS[verdict.detector].ALERT) is not None
    ]


def _rule_alert(verdict: Verdict, spec: AlertSpec, sender: str | None) -> Alert:
    severity = SEVERITY_OF[verdict.action]
    return _alert(spec, sender, severity, verdict.action, verdict.reason, verdict)


def _scoped_out(decision: Decision) -> Verdict | None:
    """The verdict of a model that the policy scoped out for this transaction."""
    for verdict in (*decision.reasons, *decision.shadow):
        if verdict.detector == IsolationForestDetector.NAME:
            return verdict if verdict.status is Status.OUT_OF_SCOPE else None
    return None


def _alert(
    spec: AlertSpec,
    sender: str | None,
    severity: Severity,
    action: Action,
    reason: str,
    verdict: Verdict | None = None,
) -> Alert:
    return Alert(spec, spec.describe(sender or UNKNOWN), severity, action, reason, verdict)
