"""From a transaction's facts to a decision: gathers the evidence, asks the policy's detectors.

Everything that a decision needs besides the transaction lives here: the list of bad addresses, the
memory of counterparties, the challenger, and which findings were emitted already.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from src.chain.transactions import TransactionFacts
from src.chain.transfers import Transfer
from src.detection.actions import Action, Decision, Status, Verdict
from src.detection.assessment import Assessment
from src.detection.challenger import NAME as CHALLENGER
from src.detection.challenger import Challenger
from src.detection.counterparties import CounterpartyBook
from src.detection.detectors import DETECTORS
from src.detection.detectors.base import Equipment, SupervisedModel
from src.detection.errors import ModelIncompatible
from src.detection.evidence import Evidence
from src.detection.features import FEATURE_NAMES
from src.detection.fraud_model import load_fraud_model
from src.detection.model import Model, load_model
from src.detection.panel import Panel
from src.detection.policy import Policy, PolicyError, parse_policy
from src.detection.signature import problem_with
from src.files import reason
from src.settings import Settings
from src.utils.address_list import AddressList
from src.utils.constants import SECONDS_PER_MINUTE
from src.utils.data_processing import ACCOUNT_AGE, token_facts
from src.utils.repeats import RepeatFilter

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RuleAlert:
    """A rule's verdict that becomes a finding of its own.

    Attributes:
        verdict: `REVIEW` or `BLOCK`.
        alert_id: of the finding.
        count: transactions that the finding stands for.
    """

    verdict: Verdict
    alert_id: str
    count: int


@dataclass(frozen=True, slots=True)
class Judge:
    """Decides about transactions, one after the other. Thread-safe."""

    panel: Panel
    chain_id: int = 1
    addresses: AddressList | None = None
    challenger: Challenger | None = None
    repeats: RepeatFilter = field(default_factory=lambda: RepeatFilter(0))
    counterparties: CounterpartyBook = field(default_factory=CounterpartyBook)

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        model: Model,
        threshold: float,
        supervised: SupervisedModel | None = None,
    ) -> Self:
        """Read the policy, the list and the further models that the settings name.

        `supervised` takes the place of the one that the settings name.

        Raises:
            PolicyError, AddressListError, ModelError: what is named cannot be used. Going on
                without it would be a bot that does something else than it was told.
        """
        policy = load_policy(settings.policy_path, settings.model_public_key)
        supervised = supervised or _load_supervised(
            settings.supervised_model_path, settings.model_public_key
        )
        equipment = Equipment(threshold, model.manifest.token_amounts, supervised)
        challenger = None
        if settings.challenger_model_path is not None:
            second = load_model(
                settings.challenger_model_path,
                FEATURE_NAMES,
                public_key=settings.model_public_key,
            )
            challenger = Challenger(second)
            logger.info("challenger %s scores in shadow", challenger.model.version)
        addresses = None
        if settings.address_list is not None:
            refresh = settings.address_list_refresh_minutes * SECONDS_PER_MINUTE
            addresses = AddressList(settings.address_list, refresh_seconds=refresh)
        repeats = RepeatFilter(
            settings.repeat_window_minutes * SECONDS_PER_MINUTE,
            folder=settings.cache_dir,
            chain_id=settings.chain_id,
        )
        panel = Panel.from_policy(policy, settings.chain_id, equipment)
        logger.info(
            "policy %s: %s",
            settings.policy_path.name,
            ", ".join(f"{name} {mode}" for name, mode in panel.detectors) or "no detector",
        )
        return cls(panel, settings.chain_id, addresses, challenger, repeats)

    def decide(
        self,
        transaction: TransactionFacts,
        transfers: Sequence[Transfer],
        features: Mapping[str, Any],
        assessment: Assessment | None,
    ) -> Decision:
        """Decide about one transaction whose features have been made. Asks nobody."""
        sender, to = transaction.sender, transaction.to
        age = features.get(ACCOUNT_AGE)
        evidence = Evidence(
            transfers=transfers,
            sender=sender,
            to=to,
            chain_id=self.chain_id,
            block_number=transaction.block_number,
            timestamp=transaction.timestamp,
            nonce=transaction.nonce,
            # An age below zero is a source's mistake, which says nothing of the account.
            account_age_minutes=age if age is not None and age >= 0 else None,
            assessment=assessment,
            features=features,
            tokens=token_facts(transfers),
            known_bad=self.addresses.match(sender, to, transfers) if self.addresses else None,
            look_alikes=self.counterparties.enter(transfers, sender),
        )
        if self.challenger is None:
            return self.panel.decide(evidence)
        return self.panel.decide(evidence, also=[_challenge(self.challenger, transfers, sender)])

    def rule_alerts(self, decision: Decision, transaction: TransactionFacts) -> list[RuleAlert]:
        """The rules' verdicts that deserve a finding of their own and were not emitted lately."""
        alerts = []
        for verdict in decision.reasons:
            if verdict.action is Action.ALLOW:
                continue
            alert_id = DETECTORS[verdict.detector].ALERT_ID
            if alert_id is None:
                continue
            sender, contract = transaction.sender or "", transaction.to
            count = self.repeats.count(alert_id, sender, contract, transaction.timestamp)
            if count is not None:
                alerts.append(RuleAlert(verdict, alert_id, count))
        return alerts

    def problems(self) -> list[str]:
        """What is in trouble without making the answers wrong, for people to read."""
        problem = self.addresses.problem() if self.addresses is not None else None
        return [problem] if problem is not None else []

    def close(self) -> None:
        """End what runs in the background and close files."""
        if self.addresses is not None:
            self.addresses.close()
        self.repeats.close()


def _load_supervised(path: Path | None, public_key: str | None) -> SupervisedModel | None:
    """The classifier for the `supervised` detector, which must live on a transaction's features."""
    if path is None:
        return None
    supervised = load_fraud_model(path, public_key=public_key)
    unknown = [name for name in supervised.inputs if name not in FEATURE_NAMES]
    if unknown:
        raise ModelIncompatible(
            f"{path.name} needs inputs that a transaction does not have: {', '.join(unknown[:5])}. "
            "Train it on token transfers: npm run train:fraud:dataset, then npm run train:fraud"
        )
    return supervised


def load_policy(path: Path, public_key: str | None = None) -> Policy:
    """Read a policy file, which must carry a signature by `public_key` where there is one.

    Raises:
        PolicyError: it cannot be read, is not signed, or is not valid.
    """
    return parse_policy(read_policy(path, public_key), path.name)


def read_policy(path: Path, public_key: str | None = None) -> str:
    """The text of a policy file, which must carry a signature by `public_key` where there is one.

    Raises:
        PolicyError: it cannot be read, or is not signed.
    """
    try:
        content = path.read_bytes()
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        kind = "no such file" if isinstance(error, FileNotFoundError) else reason(error)
        raise PolicyError(str(path), None, f"cannot be read: {kind}") from None
    if public_key is not None and (problem := problem_with(path, content, public_key)):
        raise PolicyError(path.name, None, problem)
    return text


def _challenge(
    challenger: Challenger, transfers: Sequence[Transfer], sender: str | None
) -> Verdict:
    if sender is None:
        status, reason = Status.MISSING_INPUTS, "the transaction has no sender"
    else:
        try:
            return challenger.evaluate(transfers, sender)
        # What a challenger does must never cost the champion's answer.
        except Exception as error:
            logger.exception("the challenger failed")
            status, reason = Status.FAILED, type(error).__name__
    return Verdict(CHALLENGER, reason=reason, status=status, shadow=True)
