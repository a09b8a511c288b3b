"""The bot's findings, with a common base class.

Alert ids, names and descriptions are the bot's public interface: people filter the Forta API by
them. The fields that Forta hashes (name, description, alert id, severity, type, addresses) depend
only on the transaction and the score's class, so that every scan node reports the same alert.
"""

import json
from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

from forta_agent import EntityType, Finding, FindingSeverity, FindingType, Label

from src.chain.transactions import TransactionFields
from src.chain.transfers import ZERO_ADDRESS, Transfer
from src.decision.alerts import UNKNOWN, Alert, is_arbitrage
from src.decision.money import Money
from src.decision.result import Result
from src.detection.forest.model import ANOMALY, NORMAL
from src.detection.records import (
    REMEMBERED_ASSESSMENTS,
    Action,
    Assessment,
    AttackAssessment,
    Decision,
    Status,
    Verdict,
)
from src.utils.constants import (
    ARBITRAGE_CONFIDENCE,
    ARBITRAGE_LABEL,
    ATTACKER_LABEL,
    MAX_ADDRESSES,
)

_WITHOUT_ESCAPES = json.JSONEncoder(ensure_ascii=False)


class FindingContext(NamedTuple):
    """The common data of all findings. A tuple, since one is created per transaction."""

    tx_hash: str  # of the transaction
    from_address: str  # its sender, lowercase, or `UNKNOWN`
    timestamp: int | None  # of its block, Unix seconds, or None
    protocol: str  # name of the chain
    addresses: Sequence[str]  # involved addresses, the sender first
    features: Mapping[str, Any]  # by name; None for unavailable ones
    model_version: str  # creation time of the model, Unix seconds
    # Scores at or above it are anomalies; None before the model is loaded.
    anomaly_threshold: float | None
    feature_seconds: float  # time to compute the features, including lookups
    decision: Decision | None = None  # None if no decision was possible
    money: Money | None = None  # what was gained and lost; None where nothing is reported
    summary: str | None = None  # the same in one sentence; None where nothing is reported


@dataclass(frozen=True, slots=True)
class TokenTransfersFinding(ABC):
    """Base of the bot's findings: turns an alert about a transaction into a Forta finding."""

    alert: Alert  # id, name, description and severity
    context: FindingContext  # data for the metadata

    def metadata(self) -> dict[str, str]:
        """The finding's metadata. All values are strings: the bridge corrupts other types."""
        context = self.context
        metadata = {  # most are numbers, and each microsecond counts
            name: _number_as_text(value) if type(value) is float else as_text(value)
            for name, value in context.features.items()
        }
        metadata |= {
            "from": context.from_address,
            "model_version": context.model_version,
            "anomaly_threshold": as_text(context.anomaly_threshold),
            "feature_generation_response_time": f"{context.feature_seconds:.6f}",
            **decision_metadata(context.decision),
            **({} if context.summary is None else {"summary": context.summary}),
            **money_metadata(context.money),
        }
        return metadata

    def labels(self) -> list[Label]:
        """Labels of the finding: `arbitrage` where the transaction is named so."""
        decision = self.context.decision
        if decision is None or not is_arbitrage(decision):
            return []
        return [self._label(ARBITRAGE_LABEL, ARBITRAGE_CONFIDENCE)]

    def _label(self, label: str, confidence: float) -> Label:
        """A label of the transaction."""
        return Label(
            {
                "entity": self.context.tx_hash,
                "entity_type": EntityType.Transaction,
                "label": label,
                "confidence": confidence,
            }
        )

    def emit_finding(self) -> Finding:
        """Build the Forta finding."""
        alert, context = self.alert, self.context
        known = context.timestamp
        moment = datetime.now(UTC) if known is None else datetime.fromtimestamp(known, UTC)
        return Finding(
            {
                "name": alert.spec.title,
                "description": alert.description,
                "alert_id": alert.spec.id,
                "severity": FindingSeverity[alert.severity.value],
                "type": FindingType.Suspicious if alert.is_suspicious else FindingType.Info,
                "protocol": context.protocol,
                "metadata": self.metadata(),
                "addresses": list(context.addresses[:MAX_ADDRESSES]),
                "labels": self.labels(),
                "timestamp": moment,
            }
        )


@dataclass(frozen=True, slots=True)
class ScoredTransaction(TokenTransfersFinding):
    """Base of the findings for scored transactions."""

    PREDICTION: ClassVar[str]

    assessment: Assessment  # the model's result
    attack: AttackAssessment | None  # the attack model's result, or None
    alert_rate: float  # share of anomalies among the transactions scored since the start
    prediction_seconds: float  # time to score and explain

    def metadata(self) -> dict[str, str]:
        """The common metadata and the model's result."""
        metadata = super(ScoredTransaction, self).metadata()
        metadata |= {
            "prediction": self.PREDICTION,
            "anomaly_score": f"{self.assessment.score:.3f}",
            "anomaly_percentile": f"{self.assessment.percentile:.2f}",
            "alert_rate": f"{self.alert_rate:.6f}",
            "model_pred_response_time": f"{self.prediction_seconds:.6f}",
            "model_explanations": self.assessment.explanation_json,
            "model_explanations_base_score": f"{self.assessment.base_score:.4f}",
            **attack_metadata(self.attack),
        }
        return metadata


class NormalTransaction(ScoredTransaction):
    """A transaction with a score below the threshold: the alert `NORMAL`, Info."""

    __slots__ = ()
    PREDICTION = NORMAL


class AnomalousTransaction(ScoredTransaction):
    """A transaction whose score reaches the threshold: the alert `ANOMALOUS`, Critical or High.

    Only Info, and without a label, if the policy scoped the model out.
    """

    __slots__ = ()
    PREDICTION = ANOMALY

    def labels(self) -> list[Label]:
        """Label the transaction as an attacker's, with the score as confidence."""
        others = super().labels()
        if not self.alert.is_suspicious:
            return others
        return [self._label(ATTACKER_LABEL, round(self.assessment.score, 3)), *others]


class InvalidModelFeatures(TokenTransfersFinding):
    """A transaction that could not be scored: the alert `INVALID`, Low."""

    __slots__ = ()

    def metadata(self) -> dict[str, str]:
        """The common metadata and the reason; no score."""
        return {**super().metadata(), "reason": self.alert.reason}


@dataclass(frozen=True, slots=True)
class RuleTriggered(TokenTransfersFinding):
    """A rule's alert, for a transaction that is not reported as anomalous."""

    verdict: Verdict  # the rule's, `REVIEW` or `BLOCK`
    # Number of transactions represented by the finding: this one, and similar ones that were
    # suppressed since the last finding.
    count: int = 1

    def metadata(self) -> dict[str, str]:
        """The common metadata, the rule's reason and the number of transactions."""
        return {
            **super(RuleTriggered, self).metadata(),
            "detector": self.verdict.detector,
            "detector_action": self.verdict.action.name,
            "reason": self.alert.reason,
            "count": str(self.count),
        }


def finding_of(
    alert: Alert, context: FindingContext, result: Result, *, alert_rate: float, count: int = 1
) -> TokenTransfersFinding:
    """The finding that reports an alert.

    Args:
        alert: one of the result's.
        context: what its metadata say.
        result: the pipeline's.
        alert_rate: see `ScoredTransaction`.
        count: see `RuleTriggered`.
    """
    if alert.verdict is not None:
        return RuleTriggered(alert, context, alert.verdict, count)
    if result.assessment is None:
        return InvalidModelFeatures(alert, context)
    kind = AnomalousTransaction if result.is_anomaly else NormalTransaction
    return kind(
        alert,
        context,
        result.assessment,
        result.attack,
        alert_rate,
        result.scoring_seconds,
    )


def involved_addresses(transaction: TransactionFields, transfers: Sequence[Transfer]) -> list[str]:
    """The sender, then tokens and accounts in the order of the logs, each once."""
    involved: dict[str, None] = {transaction.sender: None} if transaction.sender else {}
    for transfer in transfers:
        involved[transfer.token] = involved[transfer.sender] = involved[transfer.recipient] = None
        if len(involved) > MAX_ADDRESSES:
            break
    involved.pop(ZERO_ADDRESS, None)
    return list(involved)[:MAX_ADDRESSES]


def attack_metadata(attack: AttackAssessment | None) -> dict[str, str]:
    """The attack score with enough digits for the tail; explained where it asks for attention."""
    if attack is None:  # the reasons of the decision say why
        return {}
    metadata = {
        "attack_score": f"{attack.score:.6f}",
        "attack_percentile": f"{attack.percentile:.4f}",
        "attack_model_version": attack.version,
    }
    if attack.attributions:
        metadata["attack_explanations"] = attack.explanation_json
    return metadata


def money_metadata(money: Money | None) -> dict[str, str]:
    """What the sender's side gained and who lost most, in USD, and how each part was priced."""
    if money is None:
        return {}
    values = money.as_json()
    unknown = [] if money.native_is_known else ["internal native transfers"]
    return {
        "gained_usd": as_text(values["gained_usd"]),
        "lost_usd": as_text(values["lost_usd"]),
        "lost_by": money.lost_by or "none",
        "gained": _WITHOUT_ESCAPES.encode(values["gained"]),
        "lost": _WITHOUT_ESCAPES.encode(values["lost"]),
        "not_counted": _WITHOUT_ESCAPES.encode(unknown + ([] if money.gas_is_known else ["gas"])),
    }


def decision_metadata(decision: Decision | None) -> dict[str, str]:
    """The action, its reasons, deciding one first, and the results of detectors in shadow."""
    if decision is None:  # an error, which is no reason to allow anything
        return {"action": Action.REVIEW.name}
    metadata = {"action": decision.action.name, "reasons": _as_json(decision.reasons)}
    if decision.shadow:
        metadata["shadow_actions"] = _as_json(decision.shadow)
    return metadata


@lru_cache(maxsize=REMEMBERED_ASSESSMENTS)
def _as_json(verdicts: tuple[Verdict, ...]) -> str:
    return _WITHOUT_ESCAPES.encode(
        [
            {
                "detector": verdict.detector,
                **(
                    {"action": verdict.action.name}
                    if verdict.status is Status.DECIDED
                    else {"status": verdict.status.value}
                ),
                "reason": verdict.reason,
            }
            for verdict in verdicts
        ]
    )


def as_text(value: Any) -> str:
    """A metadata value as text that consumers can parse; None (unknown) becomes `UNKNOWN`."""
    if isinstance(value, float):  # first, as most are
        return _number_as_text(value)
    if isinstance(value, str):
        return value
    if value is None:
        return UNKNOWN
    if isinstance(value, (list, tuple)):
        return _WITHOUT_ESCAPES.encode(value)
    return str(value)


@lru_cache(maxsize=REMEMBERED_ASSESSMENTS)  # features take the same few values again and again
def _number_as_text(value: float) -> str:
    # repr() is exact; a whole number reads better without ".0".
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
