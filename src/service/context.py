"""The shared state of a worker process, opened once and used by all requests."""

import functools
import logging
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from src.chain.clients.rate_limit import Rate, RateLimit
from src.chain.clients.rpc import JsonRpcClient
from src.chain.errors import NotFound, SourceError
from src.chain.names.book import AddressBook
from src.chain.networks import network
from src.chain.quantities import SECONDS_PER_MINUTE
from src.chain.simulation.simulator import Simulator
from src.detection.bundle_files import DRIFT_FILE
from src.detection.counterparties import CounterpartyBook
from src.monitoring import metrics
from src.monitoring.periodic import Periodic
from src.monitoring.usage import UsageReporter
from src.service.analysis.batch import Analyst
from src.service.analysis.job_runner import JobRunner
from src.service.analysis.retention import LOOK_SECONDS as RETENTION_LOOK_SECONDS
from src.service.analysis.retention import forget_if_due
from src.service.database.alerts import store_alerts
from src.service.database.chain import store_tokens, store_transactions
from src.service.database.decisions import StoredDecision, find_decision, store_decision
from src.service.database.engine import Database
from src.service.decider import Decider, Outcome
from src.service.drift_check import LOOK_SECONDS, DriftCheck, FraudDriftCheck
from src.service.embedded import DEMO_CHAIN, DEMO_NAMES, STORY_BEGINS, embedded_node
from src.service.http.problems import Problem, problem_of_source
from src.service.model_refresh import FraudModel, model_refresh
from src.service.node import NodeHealth, NodeReader
from src.service.records import LoadedTransaction
from src.service.screening.screener import DEFAULT_SECONDS, Screener
from src.service.settings import (
    DEFAULT_FRAUD_MODEL,
    ServiceSettings,
    database_url,
    load_common_settings,
    load_service_settings,
)
from src.settings import Settings, on_the_nodes_chain
from src.variables import SettingsError

logger = logging.getLogger(__name__)

_CONNECTIONS = 32  # more than threads ask at once; beyond, each request opens one of its own
_MAX_ANSWER_BYTES = 16 * 1024 * 1024  # of a simulation: a block's gas pays for less

# The embedded node has no rate limit to respect, but a busy machine needs more time.
_EMBEDDED_DEADLINE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Service:
    """The shared state of all requests of a worker."""

    settings: ServiceSettings  # of the service
    common: Settings  # the settings shared with the bot
    is_demo: bool  # whether it serves the embedded recording
    database: Database
    node: NodeReader
    node_health: NodeHealth
    decider: Decider
    screener: Screener
    analyst: Analyst
    runner: JobRunner
    fraud: FraudModel
    names: AddressBook  # the chain's address book
    _upkeep: tuple[Periodic, ...]
    _opened: ExitStack

    @classmethod
    def open(cls, settings: ServiceSettings | None = None, common: Settings | None = None) -> Self:
        """Open everything that the settings configure; `start` begins its work in the background.

        Raises:
            SettingsError, DatabaseError, ModelError, PolicyError, AddressListError: the
                configuration is unusable; the message says what to do.
        """
        settings = settings or load_service_settings()
        common = common or load_common_settings()
        is_demo = common.json_rpc_url is None
        with ExitStack() as opening:
            database = Database(database_url(settings, common))
            opening.callback(database.close)
            database.migrate()
            if not is_demo:
                common = on_the_nodes_chain(common)
            else:
                url = opening.enter_context(embedded_node())
                common = replace(
                    common,
                    json_rpc_url=url,
                    chain_id=DEMO_CHAIN,
                    address_book=common.address_book or DEMO_NAMES,
                    json_rpc_requests_per_second=10_000,
                    lookup_deadline_seconds=max(
                        common.lookup_deadline_seconds, _EMBEDDED_DEADLINE_SECONDS
                    ),
                )
            fraud = FraudModel(fraud_model_path(settings), common.model_public_key)
            decider = open_decider(opening, settings, common, fraud)
            node = open_node(opening, settings, common)
            forget = functools.partial(forget_if_due, database, common.chain_id)
            upkeep = [Periodic("retention", RETENTION_LOOK_SECONDS, forget)]
            if settings.drift_interval_minutes:
                seconds = settings.drift_interval_minutes * SECONDS_PER_MINUTE
                reference = drift_reference(settings, common.model_path)
                check = DriftCheck(database, decider, common.chain_id, reference, seconds)
                of_fraud = FraudDriftCheck(database, fraud, seconds)
                upkeep += [
                    Periodic("drift", LOOK_SECONDS, check.check_if_due),
                    Periodic("fraud-drift", LOOK_SECONDS, of_fraud.check_if_due),
                ]
            analyst = Analyst(database, node, decider.lookups, settings, common.chain_id)
            health = NodeHealth(node, common.chain_id)
            opening.callback(health.close)
            return cls(
                settings,
                common,
                is_demo,
                database,
                node,
                health,
                decider,
                open_screener(opening, common, decider),
                analyst,
                JobRunner(database, analyst, common.chain_id),
                fraud,
                decider.pipeline.names,
                tuple(upkeep),
                opening.pop_all(),
            )

    def start(self) -> None:
        """Begin what a worker does beside requests: jobs, upkeep, decisions on the demo."""
        self.runner.start()
        self._opened.callback(self.runner.stop)
        for task in self._upkeep:
            self._opened.enter_context(task)
        if self.is_demo:
            closing = threading.Event()
            thread = threading.Thread(target=self.decide_all, args=(closing,), daemon=True)
            thread.start()
            self._opened.callback(thread.join)
            self._opened.callback(closing.set)

    @property
    def chain_id(self) -> int:
        """The chain served."""
        return self.common.chain_id

    def decision(self, tx_hash: str) -> StoredDecision:
        """The stored decision on a transaction of the chain, or a new one.

        Raises:
            Problem: 404 for an unknown transaction, 502 or 504 when the node does not answer.
        """
        if (known := self.stored_decision(tx_hash)) is not None:
            return known
        try:
            transaction = self.node.transaction(tx_hash)
        except (SourceError, NotFound) as error:
            metrics.error_occurred(error)
            raise problem_of_source(error) from None
        if transaction is None:
            raise Problem(404, f"No block of the chain contains transaction {tx_hash}.")
        outcome = self.decider.decide(transaction)
        store_outcome(self.database, transaction, outcome)
        return outcome.decision

    def stored_decision(self, tx_hash: str) -> StoredDecision | None:
        """The stored decision by the model and policy in use, if there is one."""
        return find_decision(self.database, self.chain_id, tx_hash, self.decider.fingerprint)

    def decide_all(self, closing: threading.Event) -> None:
        """Decide on every transaction of the demo's scenarios, so that there are alerts."""
        try:
            for block in self.node.blocks(range(STORY_BEGINS, self.node.head() + 1)):
                for transaction in block.transactions:
                    if closing.is_set():
                        return
                    self.decision(transaction.tx_hash)
        # Runs in the background, and the pages work without it.
        except Exception:
            logger.exception("could not decide all transactions of the demo")

    def close(self) -> None:
        """Stop what was started and close everything."""
        self._opened.close()


def open_decider(
    opening: ExitStack,
    settings: ServiceSettings,
    common: Settings,
    fraud: FraudModel,
    book: CounterpartyBook | None = None,
) -> Decider:
    """The decider, kept up to date and reported until `opening` closes.

    Raises:
        SettingsError, ModelError, PolicyError, AddressListError, RegistryError: what is configured
            cannot be used.
    """
    decider = Decider(common, supervised=fraud.detector, book=book)
    opening.callback(decider.close)
    fraud.serve(decider)
    usage = UsageReporter(decider.lookups, decider.caches)
    usage.start()
    opening.callback(usage.stop)
    if (refresh := model_refresh(settings, decider, fraud)) is not None:
        opening.enter_context(refresh)
    return decider


def open_node(opening: ExitStack, settings: ServiceSettings, common: Settings) -> NodeReader:
    """The node that JSON_RPC_URL names, which must be set, until `opening` closes."""
    assert common.json_rpc_url is not None  # noqa: S101
    verify = settings.verify_blocks
    node = NodeReader(
        common.json_rpc_url,
        requests_per_second=common.json_rpc_requests_per_second,
        verify=network(common.chain_id).hashed_receipts if verify is None else verify,
        patience=settings.node_patience,
    )
    opening.callback(node.close)
    return node


def open_screener(
    opening: ExitStack, common: Settings, decider: Decider, seconds: float = DEFAULT_SECONDS
) -> Screener:
    """Screens on the node that JSON_RPC_URL names, which must be set, until `opening` closes.

    A simulation may take this many seconds.
    """
    assert common.json_rpc_url is not None  # noqa: S101
    limit = RateLimit(Rate(common.json_rpc_requests_per_second, 1.0))
    client = JsonRpcClient(
        common.json_rpc_url, timeout=seconds, max_bytes=_MAX_ANSWER_BYTES,
        rate_limit=limit, connections=_CONNECTIONS,
    )  # fmt: skip
    simulator = Simulator(client, common.chain_id)
    opening.callback(simulator.close)
    return Screener(decider, simulator, seconds=seconds)


def store_outcome(
    database: Database, transaction: LoadedTransaction, outcome: Outcome
) -> list[int]:
    """Store a transaction with its decision; returns the ids of its alerts."""
    chain_id, now = outcome.decision.chain_id, time.time()
    with database.writing() as connection:
        store_transactions(connection, chain_id, [transaction], now)
        store_tokens(connection, chain_id, outcome.tokens)
        store_decision(connection, outcome.decision, outcome.features)
        return store_alerts(connection, outcome.alerts, now)


def fraud_model_path(settings: ServiceSettings) -> Path | None:
    """The supervised model to start with; None if none is named and none was trained.

    Raises:
        SettingsError: FRAUD_MODEL_PATH is not a file.
    """
    named = settings.fraud_model_path
    if named is not None and not named.is_file():
        raise SettingsError("FRAUD_MODEL_PATH", f"a model; {named} does not exist")
    if named is None and not DEFAULT_FRAUD_MODEL.is_file():
        logger.info("no supervised model at %s", DEFAULT_FRAUD_MODEL)
        return None
    return named or DEFAULT_FRAUD_MODEL


def drift_reference(settings: ServiceSettings, model: Path) -> Path:
    """The reference of drift checks: a configured one, or that beside the model, if it is there.

    Raises:
        SettingsError: DRIFT_REFERENCE is not a file.
    """
    named = settings.drift_reference
    if named is not None and not named.is_file():
        raise SettingsError("DRIFT_REFERENCE", f"a file; {named} does not exist")
    return named or model.with_name(DRIFT_FILE)
