"""From a loaded transaction to a decision, its alerts and everything a reader may ask for.

The same features, model, policy and detectors as the bot; what is stored afterwards is the caller's
business.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

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
from src.service.database.alerts import NewAlert
from src.service.database.decisions import StoredDecision
from src.service.records import LoadedTransaction, Token
from src.settings import Settings
from src.utils.constants import ANOMALOUS_ALERT_ID, EXPLANATION_FEATURES, INVALID_ALERT_ID
from src.utils.data_processing import (
    get_features,
    invalid_reason,
    model_row,
    sources_from,
    use_sources,
)
from src.utils.judge import Judge

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


class Decider:
    """Decides about transactions. Thread-safe; one a process, as the look-ups are shared.

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
        self.model: Model = load_model(settings.model_path, available_inputs=FEATURE_NAMES)
        manifest = self.model.manifest
        profile = TokenProfile.from_amounts(manifest.token_amounts)
        sources = sources_from(settings, self.model.inputs, profile)
        use_sources(sources)
        self.lookups: Lookups = sources.lookups
        threshold = settings.anomaly_threshold
        self.threshold = manifest.anomaly_threshold if threshold is None else threshold
        self._assessor = Assessor(self.model, attributions=EXPLANATION_FEATURES)
        # Each worker would overwrite the others' memory of findings, which only the bot needs.
        alone = replace(settings, cache_dir=None)
        self._judge = Judge.from_settings(alone, self.model, self.threshold, supervised)
        self._book = book
        policy = settings.policy_path.read_text(encoding="utf-8")
        version = supervised.version if supervised else ""
        parts = (manifest.sha256, policy, repr(self.threshold), version, str(settings.chain_id))
        self.fingerprint = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
        metrics.policy_in_use(hashlib.sha256(policy.encode()).hexdigest())
        metrics.model_in_use(
            version=self.model.version,
            sha256=manifest.sha256,
            sklearn_version=manifest.sklearn_version,
            threshold=self.threshold,
            expected_anomaly_rate=1 - self.model.percentile(self.threshold) / 100,
        )

    @property
    def detectors(self) -> list[tuple[str, str]]:
        """Name and mode of each detector that runs."""
        return [(name, str(mode)) for name, mode in self._judge.panel.detectors]

    def decide(self, transaction: LoadedTransaction) -> Outcome:
        """Decide about one transaction. One without ERC-20 transfers is allowed."""
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
            judge = replace(self._judge, counterparties=book)
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
        self._judge.close()
        self.lookups.close()

    def _assess(self, features: dict[str, Any]) -> tuple[Assessment | None, str | None]:
        """The model's word, or why there is none."""
        started = time.perf_counter()
        try:
            assessment = self._assessor.assess(model_row(features, self.model.inputs))
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
