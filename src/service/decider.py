"""Decides on loaded transactions with the bot's pipeline, and raises alerts. Stores nothing."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from src.chain.lookups.lookups import Lookups
from src.chain.transactions import TransactionFields
from src.decision.alerts import NORMAL, Alert
from src.decision.lookups import open_lookups, with_holdings
from src.decision.pipeline import Pipeline
from src.decision.pricing import native_summary, with_prices, with_summary
from src.decision.result import Result
from src.decision.tokens import TokenView, shown_tokens
from src.detection.counterparties import CounterpartyBook
from src.detection.detectors.base import SupervisedModel, than_training
from src.detection.detectors.isolation_forest import IsolationForestDetector
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import Model, load_model
from src.detection.records import Action, Assessment, AttackAssessment, Verdict
from src.monitoring import metrics
from src.monitoring.usage import CacheInfo, pipeline_in_use, transaction_assessed
from src.registry.drift_reference import read_reference
from src.service.database.alerts import NewAlert
from src.service.database.decisions import StoredDecision
from src.service.records import LoadedTransaction
from src.settings import Settings

FOREST: Final = IsolationForestDetector.NAME
"""The detector whose reasons contain the score."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The decision on one transaction, with its features and alerts."""

    decision: StoredDecision  # in the form that is stored
    features: dict[str, Any]  # by name; None for unavailable ones
    alerts: list[NewAlert]  # none for an ordinary transaction
    tokens: list[TokenView]  # names and symbols of its tokens, as far as known


class Decider:
    """Decides on transactions. Thread-safe; one per process, since it shares its lookups.

    Args:
        settings: the common settings, including the node.
        supervised: the supervised model for its detector, if any.
        book: counterparties seen so far; None to decide on each transaction by itself, so that
            decisions do not depend on earlier requests.

    Raises:
        ModelError, PolicyError, AddressListError: the model, the policy or the list is invalid;
            the message says why.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        supervised: SupervisedModel | None = None,
        book: CounterpartyBook | None = None,
    ) -> None:
        self.settings = settings
        model = _load(settings, settings.model_path)
        self.pipeline = Pipeline.from_settings(
            settings, model, supervised=supervised, counterparties=book
        )
        self.drift_reference: bytes | None = None  # the one of a model taken later
        self.lookups: Lookups = open_lookups(settings)
        pipeline_in_use(self.pipeline)

    @property
    def model(self) -> Model:
        """The model in use."""
        return self.pipeline.model

    @property
    def threshold(self) -> float:
        """Scores at or above it are anomalies."""
        return self.pipeline.threshold

    @property
    def fingerprint(self) -> str:
        """Identifies the model, the policy and everything else that affects decisions."""
        return self.pipeline.fingerprint

    @property
    def detectors(self) -> list[tuple[str, str]]:
        """Name and mode of each detector that runs, and why others have no effect."""
        suite = self.pipeline.suite
        lacking = [(name, f"no effect: {why}") for name, why in suite.lacking.items()]
        return [(name, str(mode)) for name, mode in suite.detectors] + lacking

    @property
    def caches(self) -> dict[str, Callable[[], CacheInfo]]:
        """Functions that return the hits, misses and size of each memory cache."""
        return {**self.lookups.caches, "assessments": self._assessments}

    def _assessments(self) -> CacheInfo:
        return self.pipeline.assessor.cache_info()

    def take_model(self, path: Path) -> None:
        """Switch to another model; on an error the current one stays in use.

        Decisions in progress are completed with the old pipeline.

        Raises:
            ModelError, PolicyError: the model or the policy is unusable.
        """
        reference = read_reference(path)
        self.pipeline = self.pipeline.with_model(self.settings, _load(self.settings, path), path)
        self.drift_reference = reference
        pipeline_in_use(self.pipeline)

    def take_supervised(self, model: SupervisedModel | None) -> None:
        """Switch the policy's supervised detector to another classifier; None for none.

        Raises:
            PolicyError: the policy is unusable.
        """
        self.pipeline = self.pipeline.with_supervised(self.settings, model)
        pipeline_in_use(self.pipeline)

    def decide(self, transaction: LoadedTransaction) -> Outcome:
        """Decide on one mined transaction. One without ERC-20 transfers is allowed."""
        pipeline = self.pipeline  # the same one throughout, even if the model changes meanwhile
        result = self._assess(pipeline, transaction, transaction.block_number)
        if result is None:
            metrics.transaction_seen("none")
        else:
            transaction_assessed(result)
            metrics.stage_took("features", result.feature_seconds)
        outcome = _outcome(pipeline, transaction, result)
        for alert in outcome.alerts:
            metrics.finding_made(alert.alert_id, Action(alert.action).name)
        return outcome

    def preview(self, transactions: Sequence[LoadedTransaction]) -> list[Outcome]:
        """Decide on transactions that would be mined in this order; leaves no trace.

        Args:
            transactions: their block is the one that they would be in.
        """
        pipeline = used = self.pipeline
        if pipeline.counterparties is not None:
            used = replace(pipeline, counterparties=pipeline.counterparties.trial())
        return [
            _outcome(pipeline, one, self._assess(used, one, one.block_number - 1))
            for one in transactions
        ]

    def _assess(
        self, pipeline: Pipeline, transaction: LoadedTransaction, block: int
    ) -> Result | None:
        """The pipeline's result, with facts of a block; None without ERC-20 transfers."""
        transfers = transaction.transfers
        if not transfers:
            return None
        fields = _fields_of(transaction)
        with self.lookups.transaction():  # one deadline for all look-ups
            facts = self.lookups.gather(
                shown_tokens(transfers),
                transaction.sender,
                block,
                called=pipeline.contract_to_date(fields, transfers),
                timestamp=fields.timestamp,
            )
            facts = with_holdings(pipeline, self.lookups, fields, transfers, facts)
            result = pipeline.assess(fields, transfers, facts)
            result = with_prices(
                pipeline, self.lookups, fields._replace(block_number=block), result
            )
        return result if result.summary is not None else with_summary(pipeline, result)

    def close(self) -> None:
        """Stop the lookups and close the caches."""
        self.pipeline.close()
        self.lookups.close()


def without_score(reason: dict[str, Any], decision: StoredDecision) -> dict[str, Any]:
    """The forest's reason contains its score: replace it by the percentile."""
    if reason["detector"] != FOREST or decision.percentile is None:
        return reason
    return reason | {"reason": f"more unusual {than_training(decision.percentile)}"}


def _load(settings: Settings, path: Path) -> Model:
    return load_model(path, available_inputs=FEATURE_NAMES, public_key=settings.model_public_key)


def _outcome(pipeline: Pipeline, transaction: LoadedTransaction, result: Result | None) -> Outcome:
    stored = _stored(pipeline, transaction, result)
    if result is None:
        return Outcome(stored, {}, [], [])
    alerts = [
        _new_alert(transaction, stored, alert)
        for alert in result.alerts
        if alert.spec is not NORMAL
    ]
    return Outcome(stored, result.features, alerts, list(result.tokens.values()))


def _fields_of(transaction: LoadedTransaction) -> TransactionFields:
    return TransactionFields(
        tx_hash=transaction.tx_hash,
        sender=transaction.sender,
        to=transaction.to,
        nonce=transaction.nonce,
        timestamp=transaction.block_timestamp,
        block_number=transaction.block_number,
        value=transaction.value,
        native=transaction.native or None,  # none logged: the chain may not log them
        gas_cost=transaction.gas_cost_wei,
        approvals=transaction.approvals,
    )


def _stored(
    pipeline: Pipeline, transaction: LoadedTransaction, result: Result | None
) -> StoredDecision:
    """The decision to store; the result is None for a transaction without transfers."""
    assessment = result.assessment if result else None
    attack = result.attack if result else None
    return StoredDecision(
        chain_id=pipeline.chain_id,
        tx_hash=transaction.tx_hash,
        decider=pipeline.fingerprint,
        model_version=pipeline.model.version,
        action=int(result.decision.action if result else Action.ALLOW),
        reasons=[_as_json(verdict) for verdict in result.decision.reasons] if result else [],
        shadow=[_as_json(verdict) for verdict in result.decision.shadow] if result else [],
        score=assessment.score if assessment else None,
        percentile=assessment.percentile if assessment else None,
        threshold=pipeline.threshold,
        prediction=result.prediction if result else None,
        explanation=_explanation(assessment) if assessment else None,
        attack_score=attack.score if attack else None,
        attack_model_version=attack.version if attack else None,
        attack_explanation=_attack_explanation(attack) if attack else None,
        invalid_reason=result.problem if result else None,
        decided_at=time.time(),
        money=result.money.as_json() if result and result.money else None,
        summary=result.summary if result else _native_summary(pipeline, transaction),
        called_is_new=result.evidence.called_is_new if result else None,
    )


def _native_summary(pipeline: Pipeline, transaction: LoadedTransaction) -> str | None:
    if transaction.status != 1:  # of one that fails, nothing moves
        return None
    return native_summary(pipeline, _fields_of(transaction))


def _new_alert(transaction: LoadedTransaction, stored: StoredDecision, alert: Alert) -> NewAlert:
    return NewAlert(
        chain_id=stored.chain_id,
        tx_hash=transaction.tx_hash,
        alert_id=alert.spec.id,
        name=alert.spec.title,
        description=alert.description,
        reason=alert.reason,
        severity=str(alert.severity),
        action=int(alert.action),
        score=stored.score,
        attack_score=stored.attack_score,
        gained_usd=stored.money["gained_usd"] if stored.money else None,
        lost_usd=stored.money["lost_usd"] if stored.money else None,
        model_version=stored.model_version,
        from_address=transaction.sender,
        block_number=transaction.block_number,
        block_timestamp=transaction.block_timestamp,
    )


def _explanation(assessment: Assessment) -> list[dict[str, Any]]:
    return [
        {
            "feature": one.feature,
            "value": one.value,
            "weight": one.weight,
            "factor": one.factor,
        }
        for one in assessment.attributions
    ]


def _attack_explanation(attack: AttackAssessment) -> list[dict[str, Any]] | None:
    return [one._asdict() for one in attack.attributions] or None


def _as_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "detector": verdict.detector,
        "action": verdict.action.name,
        "reason": verdict.reason,
        "status": str(verdict.status),
    }
