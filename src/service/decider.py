"""From a loaded transaction to a decision, its alerts and everything a reader may ask for.

The same features, model, policy and detectors as the bot; what is stored afterwards is the caller's
business.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import _CacheInfo
from pathlib import Path
from threading import Condition
from typing import Any, Final, Self

from src.chain.errors import SourceError
from src.chain.lookups import Lookups
from src.chain.transactions import TransactionFacts
from src.detection.actions import Action, Verdict
from src.detection.assessment import Assessment, Assessor
from src.detection.counterparties import CounterpartyBook
from src.detection.detectors import DETECTORS
from src.detection.detectors.base import SupervisedModel as SupervisedDetectorModel
from src.detection.errors import InvalidInput
from src.detection.features import FEATURE_NAMES, TokenProfile
from src.detection.model import ANOMALY, NORMAL, Model, load_model
from src.monitoring import metrics
from src.monitoring.usage import CacheInfo
from src.service.database.alerts import NewAlert
from src.service.database.decisions import StoredDecision
from src.service.records import LoadedTransaction, Token
from src.settings import Settings
from src.utils.constants import ANOMALOUS_ALERT_ID, EXPLANATION_FEATURES, INVALID_ALERT_ID
from src.utils.data_processing import (
    FeatureSources,
    get_features,
    get_first_tx_timestamp,
    get_token_info,
    invalid_reason,
    model_row,
    sources_from,
    use_sources,
)
from src.utils.judge import Judge, read_policy

_MAX_TOKENS: Final = 50
_SEVERITY: Final = {Action.REVIEW: "Medium", Action.BLOCK: "High"}
FOREST: Final = "isolation_forest"
"""The detector whose words name the score."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was decided about one transaction.

    Attributes:
        decision: to store and to answer.
        features: by name; None stands for what could not be had.
        alerts: what people should hear of; none for an ordinary transaction.
        tokens: what its tokens call themselves, as far as it is known.
    """

    decision: StoredDecision
    features: dict[str, Any]
    alerts: list[NewAlert]
    tokens: list[Token]


@dataclass(frozen=True, slots=True)
class _Equipment:
    """All that one model brings along; replaced as a whole."""

    model: Model
    threshold: float
    assessor: Assessor
    judge: Judge
    policy: str
    fingerprint: str

    @classmethod
    def load(
        cls, settings: Settings, path: Path, supervised: SupervisedDetectorModel | None
    ) -> Self:
        model = load_model(
            path, available_inputs=FEATURE_NAMES, public_key=settings.model_public_key
        )
        threshold = settings.anomaly_threshold
        if threshold is None:
            threshold = model.manifest.anomaly_threshold
        # Each worker would overwrite the others' memory of findings, which only the bot needs.
        alone = replace(settings, cache_dir=None)
        judge = Judge.from_settings(alone, model, threshold, supervised)
        policy = read_policy(settings.policy_path, settings.model_public_key)
        version = supervised.version if supervised else ""
        parts = (model.manifest.sha256, policy, repr(threshold), version, str(settings.chain_id))
        fingerprint = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
        assessor = Assessor(model, attributions=EXPLANATION_FEATURES)
        return cls(model, threshold, assessor, judge, policy, fingerprint)

    def publish(self) -> None:
        """Tell the metrics what is in use."""
        metrics.policy_in_use(hashlib.sha256(self.policy.encode()).hexdigest())
        metrics.model_in_use(
            version=self.model.version,
            sha256=self.model.manifest.sha256,
            sklearn_version=self.model.manifest.sklearn_version,
            threshold=self.threshold,
            expected_anomaly_rate=1 - self.model.percentile(self.threshold) / 100,
        )


class Decider:
    """Decides about transactions. Thread-safe; one a process, as the look-ups are shared.

    Every decision is made with one model from beginning to end, also while another one is taken.

    Args:
        settings: the common settings, with the node to ask.
        supervised: the supervised model for its detector, where there is one.
        book: counterparties seen so far; None to look at each transaction by itself, so that the
            answer does not depend on what was asked before.

    Raises:
        ModelError, PolicyError: the model or the policy cannot be trusted; the message says why.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        supervised: SupervisedDetectorModel | None = None,
        book: CounterpartyBook | None = None,
    ) -> None:
        self.settings = settings
        self._supervised = supervised
        self._book = book
        self._equipment = _Equipment.load(settings, settings.model_path, supervised)
        profile = TokenProfile.from_amounts(self.model.manifest.token_amounts)
        sources = sources_from(settings, self.model.inputs, profile)
        use_sources(sources)
        self.lookups: Lookups = sources.lookups
        self._gate = Condition()
        self._deciding = 0
        self._swapping = False
        self._equipment.publish()

    @property
    def model(self) -> Model:
        """The model in use."""
        return self._equipment.model

    @property
    def threshold(self) -> float:
        """Scores from here on are anomalies."""
        return self._equipment.threshold

    @property
    def fingerprint(self) -> str:
        """Of the model, the policy and what else decides."""
        return self._equipment.fingerprint

    @property
    def detectors(self) -> list[tuple[str, str]]:
        """Name and mode of each detector that runs."""
        return [(name, str(mode)) for name, mode in self._equipment.judge.panel.detectors]

    @property
    def caches(self) -> dict[str, CacheInfo]:
        """How to ask each cache in memory for its hits, misses and size."""
        return {
            "tokens": get_token_info.cache_info,
            "first_transactions": get_first_tx_timestamp.cache_info,
            "assessments": self._assessments,
        }

    def _assessments(self) -> _CacheInfo:
        return self._equipment.assessor.cache_info()

    def take_model(self, path: Path) -> None:
        """Decide with another model from now on; on an error everything stays as it was.

        The model is loaded and proved beside the one in use. Taking it waits for the decisions
        under way, and new ones wait as long: at most the deadline of a transaction's look-ups.

        Raises:
            ModelError, PolicyError, AddressListError: the model, or what else the settings name,
                cannot be used.
        """
        taken = _Equipment.load(self.settings, path, self._supervised)
        profile = TokenProfile.from_amounts(taken.model.manifest.token_amounts)
        with self._gate:
            self._swapping = True
            try:
                self._gate.wait_for(lambda: self._deciding == 0)
                former, self._equipment = self._equipment, taken
                use_sources(FeatureSources(self.lookups, tuple(taken.model.inputs), profile))
            finally:
                self._swapping = False
                self._gate.notify_all()
        taken.publish()
        former.judge.close()

    def decide(self, transaction: LoadedTransaction) -> Outcome:
        """Decide about one transaction. One without ERC-20 transfers is allowed."""
        with self._one_model():
            return self._decide(transaction)

    @contextmanager
    def _one_model(self) -> Iterator[None]:
        with self._gate:
            self._gate.wait_for(lambda: not self._swapping)
            self._deciding += 1
        try:
            yield
        finally:
            with self._gate:
                self._deciding -= 1
                self._gate.notify_all()

    def _decide(self, transaction: LoadedTransaction) -> Outcome:
        if not transaction.transfers:
            metrics.transaction_seen("none")
            return Outcome(self._stored(transaction, Action.ALLOW, (), (), None, None), {}, [], [])
        facts = TransactionFacts(
            tx_hash=transaction.tx_hash,
            sender=transaction.sender,
            to=transaction.to,
            nonce=transaction.nonce,
            timestamp=transaction.block_timestamp,
            block_number=transaction.block_number,
        )
        assessment, problem = None, None
        with self.lookups.transaction():
            with metrics.stage("features"):
                valid, features = get_features(
                    transaction.sender,
                    transaction.block_timestamp,
                    transaction.transfers,
                    block_number=transaction.block_number,
                )
            if valid:
                assessment, problem = self._assess(features)
            else:
                problem = invalid_reason(features) or "unknown"
            tokens = self._tokens(transaction)
            # An empty book is false, so it is compared with None.
            book = CounterpartyBook() if self._book is None else self._book
            judge = replace(self._equipment.judge, counterparties=book)
            decision = judge.decide(facts, transaction.transfers, features, assessment)
        if problem is not None:
            metrics.transaction_invalid("input")
        stored = self._stored(
            transaction, decision.action, decision.reasons, decision.shadow, assessment, problem
        )
        alerts = self._alerts(transaction, stored, decision.reasons)
        for alert in alerts:
            metrics.finding_made(alert.alert_id, Action(alert.action).name)
        return Outcome(stored, features, alerts, tokens)

    def close(self) -> None:
        """Stop asking and close the caches."""
        self._equipment.judge.close()
        self.lookups.close()

    def _assess(self, features: dict[str, Any]) -> tuple[Assessment | None, str | None]:
        """The model's word, or why there is none."""
        started = time.perf_counter()
        try:
            assessment = self._equipment.assessor.assess(model_row(features, self.model.inputs))
        except InvalidInput as error:
            return None, str(error)
        metrics.transaction_scored(
            assessment.score,
            time.perf_counter() - started,
            is_anomaly=assessment.score >= self.threshold,
        )
        return assessment, None

    def _tokens(self, transaction: LoadedTransaction) -> list[Token]:
        found = []
        for address in list(dict.fromkeys(t.token for t in transaction.transfers))[:_MAX_TOKENS]:
            try:
                info = self.lookups.token_info(address)
            except SourceError:
                continue
            impersonates = self.lookups.impersonates_well_known(info.symbol, address)
            found.append(Token(address, info.name, info.symbol, info.decimals, impersonates))
        return found

    def _stored(
        self,
        transaction: LoadedTransaction,
        action: Action,
        reasons: Sequence[Verdict],
        shadow: Sequence[Verdict],
        assessment: Assessment | None,
        problem: str | None,
    ) -> StoredDecision:
        prediction = None
        if assessment is not None:
            prediction = ANOMALY if assessment.score >= self.threshold else NORMAL
        return StoredDecision(
            chain_id=self.settings.chain_id,
            tx_hash=transaction.tx_hash,
            decider=self.fingerprint,
            model_version=self.model.version,
            action=int(action),
            reasons=[_as_json(verdict) for verdict in reasons],
            shadow=[_as_json(verdict) for verdict in shadow],
            score=assessment.score if assessment else None,
            percentile=assessment.percentile if assessment else None,
            threshold=self.threshold,
            prediction=prediction,
            explanation=_explanation(assessment) if assessment else None,
            invalid_reason=problem,
            decided_at=time.time(),
        )

    def _alerts(
        self, transaction: LoadedTransaction, stored: StoredDecision, reasons: Sequence[Verdict]
    ) -> list[NewAlert]:
        sender = transaction.sender or "unknown"
        told: list[tuple[str, str, str, str, Action]] = []
        if stored.invalid_reason is not None:
            text = f"Model input generation failed for tx executed by {sender}"
            told.append((INVALID_ALERT_ID, "Invalid Model Features", text, "Low", Action.ALLOW))
        elif stored.prediction == ANOMALY:
            forest = next((v.action for v in reasons if v.detector == FOREST), Action.ALLOW)
            text = f"{sender} executed anomalous tx with token transfers"
            told.append((ANOMALOUS_ALERT_ID, "Anomalous Transaction", text, "Critical", forest))
        for verdict in reasons:
            alert_id = _alert_id(verdict)
            if alert_id is not None and verdict.action in _SEVERITY:
                name = alert_id.replace("-", " ").title()
                told.append(
                    (alert_id, name, verdict.reason, _SEVERITY[verdict.action], verdict.action)
                )
        return [
            NewAlert(
                chain_id=stored.chain_id,
                tx_hash=transaction.tx_hash,
                alert_id=alert_id,
                name=name,
                description=text,
                severity=severity,
                action=int(action),
                score=stored.score,
                model_version=stored.model_version,
                from_address=transaction.sender,
                block_number=transaction.block_number,
                block_timestamp=transaction.block_timestamp,
            )
            for alert_id, name, text, severity, action in told
        ]


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


def _as_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "detector": verdict.detector,
        "action": verdict.action.name,
        "reason": verdict.reason,
        "status": str(verdict.status),
    }


def _alert_id(verdict: Verdict) -> str | None:
    detector = DETECTORS.get(verdict.detector)
    return detector.ALERT_ID if detector is not None else None
