"""The one pipeline: from a transaction and the facts about it to a decision and its alerts.

    facts = lookups.gather(shown_tokens(transfers), sender, block_number)   # asks the outside world
    facts = with_holdings(pipeline, lookups, transaction, transfers, facts) # again, in few cases
    result = pipeline.assess(transaction, transfers, facts)                 # computes

The bot, the service, watch mode and replay all decide this way; a backtest runs its table form.
"""

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from src.chain.facts import Facts
from src.chain.names.book import NO_NAMES, AddressBook, open_address_book, published_routers
from src.chain.networks import described, network
from src.chain.transactions import TransactionFields, created_by
from src.chain.transfers import ZERO_ADDRESS, Transfer
from src.chain.well_known import WellKnownTokens, load_well_known_tokens
from src.decision.address_list import AddressList, open_address_list
from src.decision.alerts import alerts_of
from src.decision.policy_file import read_policy
from src.decision.readable_features import (
    ACCOUNT_AGE,
    account_age,
    readable_features,
    reserved_symbols,
)
from src.decision.result import Result
from src.decision.second_opinion import (
    OpenedAttackModel,
    SecondOpinion,
    explained_from,
    open_attack_model,
    open_own_classifier,
)
from src.decision.tokens import TokenView, token_view
from src.detection.assessment import EXPLAINED_INPUTS, Assessor
from src.detection.challenger import Challenger
from src.detection.counterparties import CounterpartyBook
from src.detection.detectors.base import Equipment, SupervisedModel
from src.detection.detectors.fresh_contract_drain import FreshContractDrainDetector
from src.detection.errors import InvalidInput
from src.detection.evidence import Evidence, credible
from src.detection.features.definitions import (
    FEATURE_NAMES,
    Reading,
    TokenProfile,
    columns_of,
    feature_row,
    read_one,
)
from src.detection.forest.model import Model, load_model
from src.detection.policy import parse_policy
from src.detection.records import Action, Assessment, AttackAssessment
from src.detection.suite import DetectorSuite
from src.settings import Settings

NO_SENDER: Final = "the sender is not an address"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pipeline:
    """Everything that a decision needs besides the transaction and the facts about it.

    Thread-safe. It never changes: another model is another pipeline, see `with_model`. What
    outlives it (the list of addresses, the memory of counterparties) is shared with the next one.
    """

    model: Model  # what scores
    assessor: Assessor  # asks it, and remembers its answers
    attack: SecondOpinion  # what gives attack scores, or says why there are none
    threshold: float  # score from which a transaction is an anomaly
    profile: TokenProfile  # what the model knows of tokens' amounts
    suite: DetectorSuite  # the policy's detectors
    policy: str  # the text that they come from
    chain_id: int
    well_known: WellKnownTokens  # tokens of the chain
    reserved: frozenset[str]  # symbols that would take other features' names
    # The operator's own classifier for the `supervised` detector, or None.
    supervised: SupervisedModel | None = None
    challenger: Challenger | None = None  # a second model, which scores in shadow, or None
    addresses: AddressList | None = None  # the list of known bad addresses, or None
    # Those seen so far; None to look at each transaction by itself.
    counterparties: CounterpartyBook | None = None
    # What the policy asks for if it is unknown what a transaction would do.
    on_unknown: Action = Action.REVIEW
    names: AddressBook = NO_NAMES  # of addresses, for people

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        model: Model,
        *,
        supervised: SupervisedModel | None = None,
        counterparties: CounterpartyBook | None = None,
    ) -> Self:
        """Read the policy, the list and the further models that the settings name.

        Args:
            settings: name them.
            model: what scores.
            supervised: takes the place of the one that the settings name.
            counterparties: see the attribute.

        Raises:
            PolicyError, AddressListError, ModelError: what is named cannot be used. Going on
                without it would be a bot that does something else than its operator wants.
        """
        key = settings.model_public_key
        challenger = None
        if settings.challenger_model_path is not None:
            challenger = Challenger(
                load_model(settings.challenger_model_path, FEATURE_NAMES, public_key=key)
            )
            logger.info("challenger %s scores in shadow", challenger.model.version)
        supervised = supervised or open_own_classifier(settings.supervised_model_path, key)
        attack = open_attack_model(settings.attack_model_path, settings.model_path, model, key)
        pipeline = cls._build(settings, model, attack, supervised, challenger, counterparties)
        # Last, as from here on they read in the background.
        names = open_address_book(settings.chain_id, settings.address_book)
        return replace(pipeline, addresses=open_address_list(settings), names=names)

    def with_model(self, settings: Settings, model: Model, path: Path) -> "Pipeline":
        """The same pipeline around another model; the policy file is read again.

        Args:
            settings: name the policy.
            model: what scores from now on.
            path: its file; the attack model for it lies beside.

        Raises:
            PolicyError, ModelError: the policy or the attack model cannot be used.
        """
        attack = open_attack_model(None, path, model, settings.model_public_key)
        built = self._build(
            settings, model, attack, self.supervised, self.challenger, self.counterparties
        )
        return replace(built, addresses=self.addresses, names=self.names)

    def with_supervised(self, settings: Settings, supervised: SupervisedModel | None) -> "Pipeline":
        """The same pipeline with another own classifier; the policy file is read again.

        Raises:
            PolicyError, ModelError: the policy or the settings' classifier cannot be used.
        """
        built = self._build(
            settings,
            self.model,
            OpenedAttackModel(self.attack.model, self.attack.problem),
            supervised
            or open_own_classifier(settings.supervised_model_path, settings.model_public_key),
            self.challenger,
            self.counterparties,
        )
        return replace(built, addresses=self.addresses, names=self.names)

    @classmethod
    def _build(
        cls,
        settings: Settings,
        model: Model,
        attack: OpenedAttackModel,
        supervised: SupervisedModel | None,
        challenger: Challenger | None,
        counterparties: CounterpartyBook | None,
    ) -> Self:
        threshold = settings.anomaly_threshold
        if threshold is None:
            threshold = model.manifest.anomaly_threshold
        chain_id, well_known = settings.chain_id, load_well_known_tokens(settings.chain_id)
        text = read_policy(settings.policy_path, settings.model_public_key)
        policy = parse_policy(text, settings.policy_path.name)
        equipment = Equipment(
            threshold,
            model.manifest.token_amounts_on(chain_id),
            supervised,
            attack.problem,
            has_reference_values=model.manifest.reference_values.has_chain(chain_id),
            has_token_list=len(well_known) > 0,
        )
        suite = DetectorSuite.from_policy(policy, chain_id, equipment)
        detectors = [f"{name} {mode}" for name, mode in suite.detectors]
        # In the same line: of several warnings the log would keep one a minute.
        detectors += [f"{name} without effect ({why})" for name, why in suite.lacking.items()]
        logger.info(
            "policy %s on %s: %s",
            settings.policy_path.name,
            described(chain_id),
            ", ".join(detectors) or "no detector",
        )
        assessor = Assessor(model, attributions=EXPLAINED_INPUTS)
        profile = TokenProfile.from_manifest(model.manifest)
        return cls(
            model=model,
            assessor=assessor,
            attack=SecondOpinion(
                attack,
                model,
                profile,
                explain_from=explained_from(policy, chain_id, supervised),
            ),
            threshold=threshold,
            profile=profile,
            suite=suite,
            policy=text,
            chain_id=chain_id,
            well_known=well_known,
            reserved=reserved_symbols(FEATURE_NAMES),
            supervised=supervised,
            challenger=challenger,
            counterparties=counterparties,
            on_unknown=policy.on_unknown,
        )

    @cached_property
    def _columns(self) -> NDArray[np.intp]:
        """Positions of the model's inputs among the features."""
        return np.array(columns_of(self.model.inputs), dtype=np.intp)

    @cached_property
    def fingerprint(self) -> str:
        """Of everything that a decision depends on besides the transaction and the facts."""
        version = self.supervised.version if self.supervised is not None else ""
        digest, chain = self.model.manifest.sha256, str(self.chain_id)
        attack = repr(self.attack.model and self.attack.model.manifest.identity)
        parts = (digest, attack, self.policy, repr(self.threshold), version, chain)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]

    def assess(
        self, transaction: TransactionFields, transfers: Sequence[Transfer], facts: Facts
    ) -> Result:
        """Make the features of one transaction, score them and decide. Makes no network call.

        Args:
            transaction: without its logs.
            transfers: its ERC-20 transfers in log order, at least one.
            facts: see `Lookups.gather`.
        """
        started = time.perf_counter()
        sender = transaction.sender
        reading = read_one(transfers, sender or "", self.profile)
        tokens = self.tokens(facts)
        row = reading.features()[0]
        features = self._features(transaction, transfers, facts, tokens, row)
        problem = NO_SENDER if sender is None else None
        made = time.perf_counter()
        assessment = None
        if problem is None:
            try:
                assessment = self.assessor.assess(row[self._columns])
            except InvalidInput as error:
                problem = str(error)
        unknown = facts.tokens_without_reputation
        attack = self.attack.assess(transfers, sender, row, assessment, unknown)
        scored = time.perf_counter()
        is_anomaly = assessment is not None and assessment.score >= self.threshold
        evidence = self._evidence(
            transaction, transfers, facts, reading, features, assessment, attack, tokens, unknown
        )
        also = [self.challenger.verdict(transfers, sender)] if self.challenger else []
        decision = self.suite.decide(evidence, also=also, with_names=self.names.with_names)
        alerts = alerts_of(decision, sender, is_anomaly=is_anomaly, problem=problem)
        is_reported = is_anomaly or decision.action is not Action.ALLOW
        return Result(
            features, tokens, assessment, attack, problem, is_anomaly, decision, alerts,
            feature_seconds=made - started, scoring_seconds=scored - made,
            evidence=evidence,
            gains=evidence.gains if is_reported else None,
        )  # fmt: skip

    def contract_to_date(
        self, transaction: TransactionFields, transfers: Sequence[Transfer]
    ) -> str | None:
        """The contract whose age a detector wants to know, for `Lookups.gather`, or None.

        Only where somebody pays who neither signed nor was called.
        """
        called = transaction.to
        if called is None or not self.suite.runs(FreshContractDrainDetector.NAME):
            return None
        ours = (transaction.sender, called, ZERO_ADDRESS)
        return None if all(moved.sender in ours for moved in transfers) else called

    def holdings_to_ask(
        self, transaction: TransactionFields, transfers: Sequence[Transfer], facts: Facts
    ) -> list[tuple[str, str]]:
        """The accounts and tokens whose balance a block before a detector wants to know.

        Args:
            transaction: see `assess`, as are the others.
            transfers: of any number.
            facts: without these balances.
        """
        evidence = Evidence(
            transfers,
            sender=transaction.sender,
            to=transaction.to,
            nonce=transaction.nonce,
            unknown_tokens=facts.tokens_without_reputation,
            values=self.profile.values,
            value=transaction.value,
            native=transaction.native,
            wrapped_native=network(self.chain_id).wrapped_native,
            routers=published_routers(self.chain_id),
        )
        return self.suite.holdings(evidence)

    def features(
        self, transaction: TransactionFields, transfers: Sequence[Transfer], facts: Facts
    ) -> dict[str, Any]:
        """The features of one transaction, by name: for models, then for people."""
        row = feature_row(transfers, transaction.sender or "", self.profile)
        return self._features(transaction, transfers, facts, self.tokens(facts), row)

    def _features(
        self,
        transaction: TransactionFields,
        transfers: Sequence[Transfer],
        facts: Facts,
        tokens: Mapping[str, TokenView],
        row: NDArray[np.float64],
    ) -> dict[str, Any]:
        sender = transaction.sender
        features: dict[str, Any] = {}
        if sender is not None:
            features.update(zip(FEATURE_NAMES, row.tolist(), strict=True))
        features |= readable_features(transfers, tokens, self.reserved)
        features |= account_age(
            sender, transaction.timestamp, facts.first_transaction, transaction.nonce
        )
        return features

    def tokens(self, facts: Facts) -> dict[str, TokenView]:
        """What is known of the tokens, by address."""
        known = self.well_known
        return {token: token_view(token, info, known) for token, info in facts.tokens.items()}

    def problems(self) -> list[str]:
        """What is in trouble without making the answers wrong, for people to read."""
        listed = self.addresses.problem() if self.addresses is not None else None
        scored = f"no attack scores: {self.attack.problem}" if self.attack.problem else None
        return [one for one in (listed, scored, self.names.problem()) if one is not None]

    def close(self) -> None:
        """End what runs in the background."""
        if self.addresses is not None:
            self.addresses.close()
        self.names.close()

    def _evidence(
        self,
        transaction: TransactionFields,
        transfers: Sequence[Transfer],
        facts: Facts,
        reading: Reading,
        features: Mapping[str, Any],
        assessment: Assessment | None,
        attack: AttackAssessment | None,
        tokens: Mapping[str, TokenView],
        unknown: frozenset[str],
    ) -> Evidence:
        sender, to = transaction.sender, transaction.to
        # An empty book or list is false, so they are compared with None.
        book = CounterpartyBook() if self.counterparties is None else self.counterparties
        listed, seen = self.addresses, credible(transfers, unknown)
        chain = network(self.chain_id)
        return Evidence(
            transfers=transfers,
            sender=sender,
            to=to,
            chain_id=self.chain_id,
            block_number=transaction.block_number,
            timestamp=transaction.timestamp,
            nonce=transaction.nonce,
            account_age_minutes=features[ACCOUNT_AGE],
            assessment=assessment,
            attack=attack,
            features=features,
            tokens=tokens,
            unknown_tokens=unknown,
            values=self.profile.values,
            known_bad=None if listed is None else listed.match(sender, to, seen, unknown),
            look_alikes=book.enter(transfers, sender),
            value=transaction.value,
            native=transaction.native,
            created=created_by(transaction),
            called_is_new=None if facts.called_existed is None else not facts.called_existed,
            held=facts.held,
            approvals=transaction.approvals,
            native_symbol=chain.native_symbol,
            wrapped_native=chain.wrapped_native,
            routers=published_routers(self.chain_id),
            reading=reading,
        )
