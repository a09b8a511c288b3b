"""The results of the detectors, told apart by whether they decided, and what contradicts them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from src.decision.alerts import Severity
from src.decision.pipeline import Pipeline
from src.detection.detectors.isolation_forest import IsolationForestDetector
from src.detection.records import Action, Status
from src.service.database.alerts import Alert
from src.service.database.decisions import StoredDecision

MEANING: Final[Mapping[Action, str]] = {
    Action.ALLOW: "nothing to do",
    Action.REVIEW: "a person should look at it",
    Action.BLOCK: "stop it, or act on it now",
}
"""What an action asks for."""

_SEVERE: Final = (Severity.HIGH, Severity.CRITICAL)
_STATES: Final[Mapping[str, str]] = {
    Status.FAILED: "failed",
    Status.MISSING_INPUTS: "did not run",
    Status.OUT_OF_SCOPE: "out of scope",
}


@dataclass(frozen=True, slots=True)
class DetectorResult:
    """One detector's result."""

    detector: str  # its name
    action: str | None  # what it asks for; None if it did not decide
    state: str  # "decided", or why it did not
    reason: str  # for people; names the policy's scope where one applies
    is_shadow: bool  # recorded, not counted


@dataclass(frozen=True, slots=True)
class DetectorResults:
    """All detectors' results."""

    # Those that decided and have something to say, the deciding one first.
    decided: list[DetectorResult]
    undecided: list[DetectorResult]  # those that did not run, failed or were out of scope
    # Names of those that ran and found nothing; None where the policy has changed since.
    silent: list[str] | None


def detector_results(decision: StoredDecision, pipeline: Pipeline) -> DetectorResults:
    """The results behind a decision.

    Args:
        decision: of one transaction.
        pipeline: in use now; it knows the detectors that ran if it has made the decision.
    """
    results = [_result(one, is_shadow=False) for one in decision.reasons]
    results += [_result(one, is_shadow=True) for one in decision.shadow]
    silent = None
    had_transfers = decision.score is not None or decision.invalid_reason is not None
    if decision.decider == pipeline.fingerprint and had_transfers:
        named = {one.detector for one in results}
        silent = [name for name, _ in pipeline.suite.detectors if name not in named]
    return DetectorResults(
        decided=[one for one in results if one.action is not None],
        undecided=[one for one in results if one.action is None],
        silent=silent,
    )


def contradiction(decision: StoredDecision, alerts: Sequence[Alert]) -> str | None:
    """Why a transaction with a severe alert is allowed nevertheless; None where it is not."""
    severe = [one for one in alerts if Severity(one.severity) in _SEVERE and not one.orphaned]
    if decision.action != Action.ALLOW or not severe:
        return None
    worst = severe[0]
    said = f"The alert {worst.name} is {worst.severity}, and the decision is ALLOW"
    if worst.model_version != decision.model_version or worst.action != decision.action:
        return f"{said}: an earlier decision raised it, with another model or policy."
    for one in decision.reasons:
        if one["detector"] == IsolationForestDetector.NAME and one["status"] != Status.DECIDED:
            return f"{said}: its detector is {one['status']} ({one['reason']})."
    if any(one["detector"] == IsolationForestDetector.NAME for one in decision.shadow):
        return f"{said}: its detector is in shadow, so the policy does not count it."
    return f"{said}: the score makes the alert, and the policy asks for no action because of it."


def _result(verdict: Mapping[str, Any], *, is_shadow: bool) -> DetectorResult:
    is_decided = verdict["status"] == Status.DECIDED
    return DetectorResult(
        detector=verdict["detector"],
        action=verdict["action"] if is_decided else None,
        state="decided" if is_decided else _STATES.get(verdict["status"], verdict["status"]),
        reason=verdict["reason"],
        is_shadow=is_shadow,
    )
