"""The Forta bot: the handlers that the forta-agent CLI calls.

    initialize           loads the dill-serialised Isolation Forest, the policy and the sources once
  handle_transaction   decodes transfers, looks up facts, computes features, scores, emits findings
  health_check         reports errors that make findings unreliable

The CLI finds the handlers by lines that start with `def NAME`, passes one event at a time and
ends the process if one raises. So a handler never raises: an error becomes an explicit invalid
finding. `initialize` may raise: a bot without a verified model must not start.
"""

import gc
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

from forta_agent import Finding, TransactionEvent
from forta_agent.receipt import Log

from src.chain.facts import Facts
from src.chain.lookups.late_keys import ExplorerKeys, fetch_keys_later
from src.chain.lookups.lookups import Lookups
from src.chain.networks import network
from src.chain.quantities import SECONDS_PER_MINUTE
from src.chain.transactions import TransactionFields
from src.chain.transfers import (
    TRANSFER_TOPIC,
    Transfer,
    decode_logs,
    decode_transfers,
    upgraded_contracts,
)
from src.decision.alerts import NORMAL, UNKNOWN, invalid_alert
from src.decision.deduplication import Deduplicator
from src.decision.pipeline import Pipeline, Result, open_lookups
from src.decision.tokens import shown_tokens
from src.detection.counterparties import CounterpartyBook
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import load_model
from src.detection.records import Decision
from src.monitoring.bot_metrics import BotMetrics
from src.settings import Settings, load_settings
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

_RECURSION_LIMIT = 1_000  # Python's own default


@dataclass(frozen=True)
class Bot:
    """The state that `initialize` creates and every transaction uses."""

    settings: Settings
    pipeline: Pipeline
    lookups: Lookups
    deduplicator: Deduplicator
    metrics: BotMetrics | None

    @cached_property
    def counters(self) -> tuple[str, str]:
        """Names of the counters of scored transactions and of anomalies among them."""
        version = self.pipeline.model.version
        return f"{version}/scored", f"{version}/anomalies"

    def close(self) -> None:
        """Stop background threads and close files and connections."""
        self.pipeline.close()
        self.deduplicator.close()
        self.lookups.close()


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
    # forta-agent's dependencies raise this to 100,000, where deeply nested JSON from a hostile
    # source overflows the C stack and ends the process instead of raising RecursionError.
    sys.setrecursionlimit(_RECURSION_LIMIT)
    settings = load_settings()
    model = load_model(  # isolation_forest.pkl, written with dill, held against its manifest
        settings.model_path, available_inputs=FEATURE_NAMES, public_key=settings.model_public_key
    )
    pipeline = Pipeline.from_settings(settings, model, counterparties=CounterpartyBook())
    _prove_decoding(pipeline)
    lookups = open_lookups(settings)
    if settings.owner_store_failed:
        fetch_keys_later(lookups, _explorer_keys)
    deduplicator = Deduplicator(
        settings.repeat_window_minutes * SECONDS_PER_MINUTE,
        folder=settings.cache_dir,
        chain_id=settings.chain_id,
    )
    data_processing.use(pipeline, lookups)
    metrics = _serve_metrics(settings, pipeline, lookups)
    BOT = Bot(settings, pipeline, lookups, deduplicator, metrics)
    # Exclude the loaded objects from garbage collection. Scanning them takes 60 ms of CPU, which on
    # a scan node is a third of a second in the middle of a transaction.
    gc.collect()
    gc.freeze()
    LOGGER.info(
        "model %s ready: %d trees, %d inputs, threshold %g",
        model.version, model.forest.trees.n_trees, len(model.inputs), pipeline.threshold,
    )  # fmt: skip


def handle_transaction(transaction_event: TransactionEvent) -> list[Finding]:
    """Assess one transaction.

    Without ERC-20 transfers there is no finding; else one primary finding (normal ones according
    to NORMAL_FINDINGS) and one for each rule that requests a more severe action.
    """
    started = time.perf_counter()
    transaction = TransactionFields.from_event(transaction_event)
    transfers: Sequence[Transfer] = ()
    try:
        transfers, native = decode_logs(transaction_event.logs)
        if native:
            transaction = transaction._replace(native=native)
        if BOT is not None and BOT.metrics is not None:
            BOT.metrics.decoded(time.perf_counter() - started, transfers=len(transfers))
        upgraded = upgraded_contracts(transaction_event.logs)
        if upgraded:
            _ready().lookups.tokens_changed(upgraded)
        if not transfers:
            return []
        bot = _ready()
        tokens = shown_tokens(transfers)
        facts = bot.lookups.gather(tokens, transaction.sender, transaction.block_number)
        waited = time.perf_counter() - started
        result = bot.pipeline.assess(transaction, transfers, facts)  # features, score, decision
        feature_seconds = waited + result.feature_seconds
        context = _context(
            transaction, transfers, result.features, feature_seconds, result.decision
        )
        findings = list(_findings(bot, transaction, result, context))
        if bot.metrics is not None:
            bot.metrics.assessed(result, feature_seconds)
            ids = [finding.alert.spec.id for finding in findings]
            bot.metrics.emitted(ids, result.decision.action.name, started)
        return [finding.emit_finding() for finding in findings]
    except (
        MemoryError
    ):  # logging needs memory that is only available once the exception is released
        kind = "MemoryError"
    # An exception would end the process and lose the queue, which hostile input could exploit.
    except Exception as error:
        LOGGER.exception("transaction %s could not be scored", transaction.tx_hash)
        kind = type(error).__name__
    if BOT is not None and BOT.metrics is not None:
        BOT.metrics.failed(kind)
    context = _context(transaction, transfers, {}, time.perf_counter() - started)
    alert = invalid_alert(transaction.sender, f"internal error: {kind}")
    return [InvalidModelFeatures(alert, context).emit_finding()]


def health_check() -> list[str]:
    """Errors that make the bot's findings unreliable; empty when healthy.

    A source that is down is not one: scores do not depend on it, and findings mark unknown values.
    """
    if BOT is None:
        return ["the model is not loaded"]
    for problem in [*BOT.lookups.health(), *BOT.pipeline.problems()]:
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
    alert_rate = _count(bot, is_anomaly=result.is_anomaly) if result.assessment else 0.0
    for alert in result.alerts:
        count: int | None = 1
        if alert.verdict is not None:
            sender, contract = transaction.sender or "", transaction.to
            count = bot.deduplicator.count(alert.spec.id, sender, contract, transaction.timestamp)
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


def _count(bot: Bot, *, is_anomaly: bool) -> float:
    """Count a scored transaction; the share of anomalies among all that this model has scored."""
    scored, anomalies = bot.counters
    bot.lookups.increment(scored)
    if is_anomaly:
        bot.lookups.increment(anomalies)
    return bot.lookups.counter(anomalies) / bot.lookups.counter(scored)


def _context(
    transaction: TransactionFields,
    transfers: Sequence[Transfer],
    features: Mapping[str, Any],
    feature_seconds: float,
    decision: Decision | None = None,
) -> FindingContext:
    return FindingContext(
        tx_hash=transaction.tx_hash or UNKNOWN,
        from_address=transaction.sender or UNKNOWN,
        timestamp=transaction.timestamp,
        protocol=network(BOT.settings.chain_id if BOT else 1).name,
        addresses=involved_addresses(transaction, transfers),
        features=features,
        model_version=BOT.pipeline.model.version if BOT else UNKNOWN,
        anomaly_threshold=BOT.pipeline.threshold if BOT else None,
        feature_seconds=feature_seconds,
        decision=decision,
    )


def _explorer_keys() -> ExplorerKeys | None:
    settings = load_settings()
    if settings.owner_store_failed:
        return None
    return ExplorerKeys(reveal(settings.etherscan_api_key), reveal(settings.ethplorer_api_key))


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
