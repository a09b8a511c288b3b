"""The Forta bot: the handlers that the forta-agent CLI calls.

  initialize           loads the dill-serialised Isolation Forest, the policy and the sources once
  handle_transaction   decodes transfers, looks up facts, computes features, scores, emits findings
  health_check         reports errors that make findings unreliable

The CLI finds the handlers by lines that start with `def NAME`, passes one event at a time and
ends the process if one raises. So a handler never raises: an error becomes an explicit invalid
finding. `initialize` may raise: a bot without a verified model must not start.
"""

import gc
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar

from forta_agent import Finding, Network, TransactionEvent
from forta_agent.receipt import Log

from src.chain.facts import Facts
from src.chain.lookups.late_keys import fetch_keys_later
from src.chain.lookups.lookups import Lookups
from src.chain.networks import described, network
from src.chain.quantities import SECONDS_PER_MINUTE
from src.chain.traces import native_of_traces
from src.chain.transactions import TransactionFields
from src.chain.transfers import (
    TRANSFER_TOPIC,
    Transfer,
    decode_approvals,
    decode_logs,
    decode_transfers,
    upgraded_contracts,
)
from src.decision.alerts import NORMAL, UNKNOWN, invalid_alert
from src.decision.deduplication import Deduplicator
from src.decision.lookups import open_lookups, with_holdings
from src.decision.pipeline import Pipeline
from src.decision.pricing import with_prices
from src.decision.result import Result
from src.decision.tokens import shown_tokens
from src.detection.counterparties import CounterpartyBook
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import load_model
from src.monitoring.bot_metrics import BotMetrics
from src.settings import Settings, load_settings, on_the_nodes_chain
from src.utils import data_processing
from src.utils.findings import (
    FindingContext,
    InvalidModelFeatures,
    TokenTransfersFinding,
    finding_of,
    involved_addresses,
)
from src.utils.logger import get_logger, log_to_stderr
from src.variables import reveal

LOGGER = get_logger(__name__)

F = TypeVar("F")


class AlertRate:
    """The share of anomalies among the transactions scored since the start. Thread-safe."""

    def __init__(self) -> None:
        self._scored = self._anomalies = 0
        self._lock = threading.Lock()

    def count(self, *, is_anomaly: bool) -> float:
        """Count a scored transaction; returns the share, this one included."""
        with self._lock:
            self._scored += 1
            self._anomalies += is_anomaly
            return self._anomalies / self._scored


@dataclass(frozen=True, slots=True)
class Bot:
    """The state that `initialize` creates and every transaction uses."""

    settings: Settings
    pipeline: Pipeline
    lookups: Lookups
    deduplicator: Deduplicator
    metrics: BotMetrics | None
    alert_rate: AlertRate

    def close(self) -> None:
        """Stop background threads and close files and connections."""
        self.pipeline.close()
        self.deduplicator.close()
        self.lookups.close()


class WrongChain(ValueError):
    """An event is of another chain than the bot."""


def _chain_without_a_name(kind: type[Network], chain_id: object) -> Network | None:
    """A member for a chain that the SDK does not list, whose events it could not even build."""
    if not isinstance(chain_id, int):
        return None
    member = int.__new__(kind, chain_id)
    member._name_, member._value_ = f"CHAIN_{chain_id}", chain_id
    return member


Network._missing_ = classmethod(_chain_without_a_name)

BOT: Bot | None = None


def initialize() -> None:
    """Load and verify the model, the policy and the sources, once.

    Raises:
        ModelError, SettingsError, PolicyError, AddressListError: the configuration is invalid; the
            message says why.
    """
    global BOT  # noqa: PLW0603  the CLI calls plain functions, so the bot is a module global
    if BOT is not None:
        return
    log_to_stderr()
    BOT = open_bot(load_settings())
    data_processing.use(BOT.pipeline, BOT.lookups)
    # Exclude the loaded objects from garbage collection. Scanning them takes 60 ms of CPU, which on
    # a scan node is a third of a second in the middle of a transaction.
    gc.collect()
    gc.freeze()


def open_bot(settings: Settings) -> Bot:
    """Load and verify what the settings name, on the chain of their node.

    Raises:
        ModelError, SettingsError, PolicyError, AddressListError: the configuration is invalid.
    """
    model = load_model(  # isolation_forest.pkl, written with dill, held against its manifest
        settings.model_path, available_inputs=FEATURE_NAMES, public_key=settings.model_public_key
    )
    settings = on_the_nodes_chain(settings, is_needed=False)
    pipeline = Pipeline.from_settings(settings, model, counterparties=CounterpartyBook())
    _prove_decoding(pipeline)
    lookups = open_lookups(settings)
    deduplicator = Deduplicator(
        settings.repeat_window_minutes * SECONDS_PER_MINUTE,
        folder=settings.cache_dir,
        chain_id=settings.chain_id,
    )
    metrics = _serve_metrics(settings, pipeline, lookups)
    LOGGER.info(
        "model %s ready on %s: %d trees, %d inputs, threshold %g",
        model.version, described(settings.chain_id), model.forest.trees.n_trees,
        len(model.inputs), pipeline.threshold,
    )  # fmt: skip
    if settings.owner_store_failed:
        fetch_keys_later(lookups, partial(_add_explorers, lookups))
    return Bot(settings, pipeline, lookups, deduplicator, metrics, AlertRate())


def handle_transaction(transaction_event: TransactionEvent) -> list[Finding]:
    """Assess one transaction.

    Without ERC-20 transfers there is no finding; else one primary finding (normal ones according
    to NORMAL_FINDINGS) and one for each rule that requests a more severe action.
    """
    return assess_event(transaction_event, BOT, TokenTransfersFinding.emit_finding)


def assess_event(
    event: Any, bot: Bot | None, emit: Callable[[TokenTransfersFinding], F]
) -> list[F]:
    """The findings for an event of either SDK. Never raises.

    Args:
        event: a `TransactionEvent`.
        bot: None for the one that `initialize` makes.
        emit: makes a finding of the SDK.
    """
    started = time.perf_counter()
    transaction = TransactionFields.from_event(event)
    transfers: Sequence[Transfer] = ()
    reason = ""
    try:
        transfers, native = decode_logs(event.logs)
        if bot is not None and bot.metrics is not None:
            bot.metrics.decoded(time.perf_counter() - started, transfers=len(transfers))
        upgraded = upgraded_contracts(event.logs)
        if upgraded:
            bot = bot or _ready()
            bot.lookups.tokens_changed(upgraded)
        if not transfers:
            return []
        bot = bot or _ready()
        known = native or native_of_traces(getattr(event, "traces", None))
        if known is not None:
            transaction = transaction._replace(native=known)
        findings = _assess(bot, event.logs, transaction, transfers, started)
        return [emit(finding) for finding in findings]
    except WrongChain as error:
        kind, reason = "WrongChain", f"the transaction is of chain {error}"
        LOGGER.error("transaction %s: %s", transaction.tx_hash, reason)
    except MemoryError:  # logging needs memory that is free only once the exception is released
        kind = "MemoryError"
    # An exception would end the process and lose the queue, which hostile input could exploit.
    except Exception as error:
        LOGGER.exception("transaction %s could not be scored", transaction.tx_hash)
        kind = type(error).__name__
    if bot is not None and bot.metrics is not None:
        bot.metrics.failed(kind)
    context = _context(bot, transaction, transfers, time.perf_counter() - started)
    alert = invalid_alert(transaction.sender, reason or f"internal error: {kind}")
    return [emit(InvalidModelFeatures(alert, context))]


def _assess(
    bot: Bot,
    logs: Sequence[Any],
    transaction: TransactionFields,
    transfers: Sequence[Transfer],
    started: float,
) -> list[TokenTransfersFinding]:
    """Look up the facts, compute the features, score and decide.

    Raises:
        WrongChain: see there.
    """
    if transaction.chain_id not in (None, bot.settings.chain_id):
        raise WrongChain(f"{transaction.chain_id}, the bot runs on {bot.settings.chain_id}")
    with bot.lookups.transaction():  # one deadline for all look-ups
        called = bot.pipeline.contract_to_date(transaction, transfers)
        if called is not None:
            approvals = decode_approvals(logs)
            if approvals:  # rarely, and `_replace` takes a microsecond
                transaction = transaction._replace(approvals=approvals)
        facts = bot.lookups.gather(
            shown_tokens(transfers),
            transaction.sender,
            transaction.block_number,
            called=called,
            timestamp=transaction.timestamp,
        )
        facts = with_holdings(bot.pipeline, bot.lookups, transaction, transfers, facts)
        waited = time.perf_counter() - started
        result = bot.pipeline.assess(transaction, transfers, facts)  # features, score, decision
        result = with_prices(bot.pipeline, bot.lookups, transaction, result)
    feature_seconds = waited + result.feature_seconds
    context = _context(bot, transaction, transfers, feature_seconds, result)
    findings = list(_findings(bot, transaction, result, context))
    if bot.metrics is not None:
        bot.metrics.assessed(result, feature_seconds)
        ids = [finding.alert.spec.id for finding in findings]
        bot.metrics.emitted(ids, result.decision.action.name, started)
    return findings


def health_check() -> list[str]:
    """Errors that make the bot's findings unreliable; empty when healthy.

    A source that is down is not one: scores do not depend on it, and findings mark unknown values.
    """
    return health_of(BOT)


def health_of(bot: Bot | None) -> list[str]:
    """See `health_check`."""
    if bot is None:
        return ["the model is not loaded"]
    for problem in [*bot.lookups.health(), *bot.pipeline.problems()]:
        LOGGER.warning("source in trouble: %s", problem)
    return []


def _ready() -> Bot:
    """The bot. A child restarted by the CLI gets transactions before `initialize`."""
    if BOT is None:
        initialize()
    assert BOT is not None  # noqa: S101  set by `initialize`
    return BOT


def _findings(
    bot: Bot, transaction: TransactionFields, result: Result, context: FindingContext
) -> Iterator[TokenTransfersFinding]:
    """A finding for each alert, except normal ones dropped by sampling and repeated rule alerts."""
    is_scored = result.assessment is not None
    alert_rate = bot.alert_rate.count(is_anomaly=result.is_anomaly) if is_scored else 0.0
    for alert in result.alerts:
        count: int | None = 1
        if alert.verdict is not None:
            sender, contract = transaction.sender or "", transaction.to
            count = bot.deduplicator.count(
                alert.spec.id, sender, contract, transaction.timestamp,
                action=alert.action, usd=result.money.rough_stake_usd if result.money else 0.0,
            )  # fmt: skip
        elif alert.spec is NORMAL and not _is_sampled(
            transaction.tx_hash, bot.settings.normal_findings
        ):
            continue
        if count is not None:
            yield finding_of(alert, context, result, alert_rate=alert_rate, count=count)


def _is_sampled(tx_hash: str, one_in: int) -> bool:
    """Whether a normal transaction gets a finding; every scan node picks the same ones."""
    if one_in <= 1:
        return one_in == 1
    return int.from_bytes(sha256(tx_hash.encode()).digest()[:8], "big") % one_in == 0


def _context(
    bot: Bot | None,
    transaction: TransactionFields,
    transfers: Sequence[Transfer],
    feature_seconds: float,
    result: Result | None = None,
) -> FindingContext:
    chain_id = transaction.chain_id or (bot and bot.settings.chain_id)
    return FindingContext(
        tx_hash=transaction.tx_hash or UNKNOWN,
        from_address=transaction.sender or UNKNOWN,
        timestamp=transaction.timestamp,
        protocol=network(chain_id).name if chain_id else UNKNOWN,
        addresses=involved_addresses(transaction, transfers),
        features=result.features if result else {},
        model_version=bot.pipeline.model.version if bot else UNKNOWN,
        anomaly_threshold=bot.pipeline.threshold if bot else None,
        feature_seconds=feature_seconds,
        decision=result.decision if result else None,
        money=result.money if result else None,
        summary=result.summary if result else None,
    )


def _add_explorers(lookups: Lookups) -> bool:
    settings = load_settings()
    if not settings.owner_store_failed:
        keys = settings.etherscan_api_key, settings.ethplorer_api_key
        lookups.add_explorers(*map(reveal, keys))
    return not settings.owner_store_failed


def _serve_metrics(settings: Settings, pipeline: Pipeline, lookups: Lookups) -> BotMetrics | None:
    """The metrics server if METRICS_PORT is set. The bot also runs if it cannot start."""
    if settings.metrics_port is None:
        return None
    try:
        return BotMetrics(
            settings.metrics_port, settings.metrics_address, pipeline=pipeline, lookups=lookups
        )
    except OSError as error:
        LOGGER.warning("no metrics at port %d: %s", settings.metrics_port, error)
        return None


def _prove_decoding(pipeline: Pipeline) -> None:
    """Decode and assess a known log, so that a bot that cannot decode does not start.

    This also makes the slow first call of every kernel before the first transaction.
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
    known = TransactionFields("", account, None, None, None, None)
    # Without the counterparty memory, which must not contain these accounts.
    result = replace(pipeline, counterparties=None).assess(known, transfers, Facts())
    if result.assessment is None:
        raise RuntimeError(f"a known transfer could not be scored: {result.problem}")
