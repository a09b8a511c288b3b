"""The Forta bot: the handlers that the forta-agent CLI calls, and nothing else.

The CLI finds the handlers by lines that start with `def NAME`, hands over one event at a time and
ends the process when one raises. So a handler never raises: whatever goes wrong with a transaction
becomes an explicit invalid finding. `initialize` may raise: a bot without a trustworthy model must
not start.
"""

import gc
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

from forta_agent import Finding, TransactionEvent
from forta_agent.receipt import Log

from src.chain.lookups import Lookups
from src.chain.transactions import TransactionFacts
from src.chain.transfers import TRANSFER_TOPIC, ZERO_ADDRESS, Transfer, decode_transfers
from src.detection.actions import Action, Decision
from src.detection.assessment import Assessor
from src.detection.features import FEATURE_NAMES, TokenProfile, feature_row
from src.detection.model import Model, load_model
from src.monitoring.bot_metrics import BotMetrics
from src.settings import Settings, load_settings
from src.utils.constants import EXPLANATION_FEATURES, MAX_ADDRESSES, PROTOCOLS
from src.utils.data_processing import (
    ACCOUNT_AGE,
    get_features,
    get_first_tx_timestamp,
    get_token_info,
    invalid_reason,
    model_row,
    sources_from,
    use_sources,
)
from src.utils.findings import (
    UNKNOWN,
    AnomalousTransaction,
    FindingContext,
    InvalidModelFeatures,
    NormalTransaction,
    RuleTriggered,
    TokenTransfersFinding,
)
from src.utils.judge import Judge
from src.utils.late_keys import fetch_keys_later
from src.utils.logger import get_logger, log_to_stderr

LOGGER = get_logger(__name__)

_RECURSION_LIMIT = 1_000  # Python's own default


@dataclass(frozen=True)
class Bot:
    """What `initialize` prepares once and every transaction uses."""

    settings: Settings
    model: Model
    assessor: Assessor
    threshold: float
    lookups: Lookups
    judge: Judge
    metrics: BotMetrics | None

    @cached_property
    def counters(self) -> tuple[str, str]:
        """Names of the counters of scored transactions and of anomalies among them."""
        return f"{self.model.version}/scored", f"{self.model.version}/anomalies"


BOT: Bot | None = None


def initialize() -> None:
    """Load and verify the model, the policy and the sources, once.

    Raises:
        ModelError, SettingsError, PolicyError, AddressListError: the bot cannot give trustworthy
            answers; the message says why.
    """
    global BOT  # noqa: PLW0603  the CLI calls plain functions, so the bot is a module global
    if BOT is not None:
        return
    log_to_stderr()
    # forta-agent's dependencies raise this to 100,000, where deeply nested JSON from a hostile
    # source overflows the C stack and ends the process instead of raising RecursionError.
    sys.setrecursionlimit(_RECURSION_LIMIT)
    settings = load_settings()
    model = load_model(
        settings.model_path, available_inputs=FEATURE_NAMES, public_key=settings.model_public_key
    )
    profile = TokenProfile.from_amounts(model.manifest.token_amounts)
    sources = sources_from(settings, model.inputs, profile)
    use_sources(sources)
    if settings.owner_store_failed:
        fetch_keys_later(sources.lookups)
    threshold = settings.anomaly_threshold
    if threshold is None:
        threshold = model.manifest.anomaly_threshold
    assessor = Assessor(model, attributions=EXPLANATION_FEATURES)
    _prove_decoding(assessor, model, profile)
    judge = Judge.from_settings(settings, model, threshold)
    metrics = _metrics(settings, model, threshold, assessor, sources.lookups)
    BOT = Bot(settings, model, assessor, threshold, sources.lookups, judge, metrics)
    # What is there now stays. Looking through it takes the collector 60 ms of CPU, which on a scan
    # node is a third of a second in the middle of a transaction.
    gc.collect()
    gc.freeze()
    LOGGER.info(
        "model %s ready: %d trees, %d inputs, threshold %g",
        model.version, model.forest.n_trees, len(model.inputs), threshold,
    )  # fmt: skip


def handle_transaction(transaction_event: TransactionEvent) -> list[Finding]:
    """Judge one transaction.

    No finding without an ERC-20 transfer; else one primary finding (normal ones as far as
    NORMAL_FINDINGS wants them) and one for each rule that asks for more than it.
    """
    started = time.perf_counter()
    transaction = TransactionFacts.from_event(transaction_event)
    transfers: Sequence[Transfer] = ()
    try:
        transfers = decode_transfers(transaction_event.logs)
        if BOT is not None and BOT.metrics is not None:
            BOT.metrics.decoded(time.perf_counter() - started, transfers=len(transfers))
        if not transfers:
            return []
        if BOT is None:  # a child that the CLI restarted gets transactions before `initialize`
            initialize()
        return [finding.emit_finding() for finding in _assess(transaction, transfers, started)]
    except MemoryError:  # logging needs memory that is only there once the exception has gone
        kind = "MemoryError"
    # An exception ends the process and loses the queue; hostile input must not be able to.
    except Exception as error:
        LOGGER.exception("transaction %s could not be scored", transaction.tx_hash)
        kind = type(error).__name__
    if BOT is not None and BOT.metrics is not None:
        BOT.metrics.failed(kind)
    context = _context(transaction, transfers, {}, time.perf_counter() - started)
    return [InvalidModelFeatures(context, f"internal error: {kind}").emit_finding()]


def health_check() -> list[str]:
    """Errors that make the bot's answers untrustworthy; empty when healthy.

    A source that is down is not one: scores do not depend on it, and findings say what is unknown.
    """
    if BOT is None:
        return ["the model is not loaded"]
    for problem in [*BOT.lookups.health(), *BOT.judge.problems()]:
        LOGGER.warning("source in trouble: %s", problem)
    return []


def _assess(
    transaction: TransactionFacts, transfers: Sequence[Transfer], started: float
) -> Sequence[TokenTransfersFinding]:
    bot = _ready()
    findings, action = _findings(bot, transaction, transfers, started)
    if bot.metrics is not None:
        bot.metrics.emitted([finding.alert_id() for finding in findings], action.name, started)
    return findings


def _findings(
    bot: Bot, transaction: TransactionFacts, transfers: Sequence[Transfer], started: float
) -> tuple[Sequence[TokenTransfersFinding], Action]:
    assessment = None
    valid, features = get_features(
        transaction.sender,
        transaction.timestamp,
        transfers,
        block_number=transaction.block_number,
    )
    features_done = time.perf_counter()
    if valid:
        assessment = bot.assessor.assess(model_row(features, bot.model.inputs))
    prediction_seconds = time.perf_counter() - features_done
    decision = bot.judge.decide(transaction, transfers, features, assessment)
    context = _context(transaction, transfers, features, features_done - started, decision)
    if assessment is None:
        reason = invalid_reason(features) or UNKNOWN
        if bot.metrics is not None:
            bot.metrics.invalid("age" if reason.startswith(ACCOUNT_AGE) else "input")
        invalid = InvalidModelFeatures(context, reason)
        return [invalid, *_rule_findings(bot, context, transaction)], decision.action
    is_anomaly = assessment.score >= bot.threshold
    if bot.metrics is not None:
        bot.metrics.scored(
            assessment.score,
            is_anomaly=is_anomaly,
            feature_seconds=features_done - started,
            prediction_seconds=prediction_seconds,
        )
    alert_rate = _count(bot, is_anomaly)
    if is_anomaly:
        anomalous = AnomalousTransaction(context, assessment, alert_rate, prediction_seconds)
        return [anomalous], decision.action
    rules = _rule_findings(bot, context, transaction)
    if not _is_sampled(transaction.tx_hash, bot.settings.normal_findings):
        return rules, decision.action
    normal = NormalTransaction(context, assessment, alert_rate, prediction_seconds)
    return [normal, *rules], decision.action


def _rule_findings(
    bot: Bot, context: FindingContext, transaction: TransactionFacts
) -> list[TokenTransfersFinding]:
    """What rules have to say of a transaction that the model does not call anomalous."""
    if context.decision is None or context.decision.action is Action.ALLOW:
        return []
    return [
        RuleTriggered(context, alert.verdict, alert.alert_id, alert.count)
        for alert in bot.judge.rule_alerts(context.decision, transaction)
    ]


def _is_sampled(tx_hash: str, one_in: int) -> bool:
    """Whether a normal transaction gets a finding; every scan node picks the same ones."""
    if one_in <= 1:
        return one_in == 1
    return int.from_bytes(sha256(tx_hash.encode()).digest()[:8], "big") % one_in == 0


def _count(bot: Bot, is_anomaly: bool) -> float:
    """Count a scored transaction; the share of anomalies among all that this model has scored."""
    scored, anomalies = bot.counters
    bot.lookups.increment(scored)
    if is_anomaly:
        bot.lookups.increment(anomalies)
    return bot.lookups.counter(anomalies) / bot.lookups.counter(scored)


def _context(
    transaction: TransactionFacts,
    transfers: Sequence[Transfer],
    features: Mapping[str, Any],
    feature_seconds: float,
    decision: Decision | None = None,
) -> FindingContext:
    return FindingContext(
        tx_hash=transaction.tx_hash or UNKNOWN,
        from_address=transaction.sender or UNKNOWN,
        timestamp=transaction.timestamp,
        protocol=PROTOCOLS.get(BOT.settings.chain_id, UNKNOWN) if BOT else PROTOCOLS[1],
        addresses=_involved_addresses(transaction, transfers),
        features=features,
        model_version=BOT.model.version if BOT else UNKNOWN,
        anomaly_threshold=BOT.threshold if BOT else None,
        feature_seconds=feature_seconds,
        decision=decision,
    )


def _involved_addresses(transaction: TransactionFacts, transfers: Sequence[Transfer]) -> list[str]:
    """The sender, then tokens and accounts in the order of the logs, each once."""
    involved: dict[str, None] = {transaction.sender: None} if transaction.sender else {}
    for transfer in transfers:
        involved[transfer.token] = involved[transfer.sender] = involved[transfer.recipient] = None
        if len(involved) > MAX_ADDRESSES:
            break
    involved.pop(ZERO_ADDRESS, None)
    return list(involved)[:MAX_ADDRESSES]


def _ready() -> Bot:
    if BOT is None:
        raise RuntimeError("the bot is not initialised")
    return BOT


def _metrics(
    settings: Settings, model: Model, threshold: float, assessor: Assessor, lookups: Lookups
) -> BotMetrics | None:
    """The metrics, where METRICS_PORT asks for them. A bot does its work without them too."""
    if settings.metrics_port is None:
        return None
    caches = {
        "tokens": get_token_info.cache_info,
        "first_transactions": get_first_tx_timestamp.cache_info,
        "assessments": assessor.cache_info,
    }
    try:
        return BotMetrics(
            settings.metrics_port,
            settings.metrics_address,
            model=model,
            threshold=threshold,
            policy=settings.policy_path,
            lookups=lookups,
            caches=caches,
        )
    except OSError as error:
        LOGGER.warning("no metrics at port %d: %s", settings.metrics_port, error)
        return None


def _prove_decoding(assessor: Assessor, model: Model, profile: TokenProfile) -> None:
    """Decode, score and explain a known log, so that a blind bot does not start.

    It also pays for the first call of every kernel here rather than on the first transaction.
    """
    account = "0x" + "1" * 40
    log = Log(
        {
            "address": "0x" + "2" * 40,
            "topics": [TRANSFER_TOPIC, "0x" + "0" * 24 + "1" * 40, "0x" + "0" * 24 + "3" * 40],
            "data": "0x" + "0" * 63 + "7",
            "logIndex": 0,
        }
    )
    transfers = decode_transfers([log])
    if [transfer.amount for transfer in transfers] != [7]:
        raise RuntimeError("decoding a known Transfer log failed: the bot would be blind")
    row = feature_row(transfers, account, profile)
    features = dict(zip(FEATURE_NAMES, row.tolist(), strict=True))
    assessor.assess(model_row(features, model.inputs))
