"""Watch mode: what it is put together from, and its life from start to signal."""

import argparse
import os
import signal
import threading
from contextlib import ExitStack
from types import FrameType

from src import cli
from src.chain.clients.rpc import JsonRpcClient
from src.chain.errors import RequestRefused, SourceError
from src.chain.recording.fetch import UnverifiedBlock
from src.detection.counterparties import CounterpartyBook
from src.monitoring import exposition
from src.monitoring.periodic import Periodic
from src.service.context import fraud_model_path, open_decider, open_node, open_screener
from src.service.database.engine import Database
from src.service.decider import Decider
from src.service.model_refresh import FraudModel
from src.service.screening.notices import EarlyAlerts
from src.service.screening.pending import PendingWatcher
from src.service.settings import (
    ServiceSettings,
    database_url,
    load_common_settings,
    load_service_settings,
)
from src.service.watch.notify import Channel, Notifier, channels_of
from src.service.watch.watcher import Watcher
from src.settings import Settings, on_the_nodes_chain
from src.utils.logger import log_to_stderr
from src.variables import SettingsError

_PENDING_SECONDS = 0.5


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    if options.from_block is not None:
        os.environ["WATCH_FROM_BLOCK"] = str(options.from_block)
    log_to_stderr()
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    try:
        settings, common = load_service_settings(), load_common_settings()
        if common.json_rpc_url is None:
            raise SettingsError("JSON_RPC_URL", "set to the URL of the node to follow")
        return watch(
            settings,
            on_the_nodes_chain(common),
            stop,
            once=options.once,
            pending=options.pending,
        )
    except (SourceError, UnverifiedBlock, OSError) as error:
        raise cli.CommandError(cli.described(error), exit_code=1) from error


def watch(
    settings: ServiceSettings,
    common: Settings,
    stop: threading.Event,
    *,
    once: bool = False,
    pending: bool = False,
) -> int:
    """Watch until stopped; with `once`, until the head is reached and all notifications are sent.

    With `pending`, pending transactions are screened too.

    Raises:
        SettingsError, DatabaseError, ModelError, PolicyError, AddressListError: the configuration
            is unusable.
        SourceError, UnverifiedBlock: with `once`, the node failed.
        OSError: the metrics port is in use.
    """
    channels = channels_of(settings)
    with ExitStack() as opened:
        database = Database(database_url(settings, common))
        opened.callback(database.close)
        database.migrate()
        fraud = FraudModel(fraud_model_path(settings), common.model_public_key)
        decider = open_decider(opened, settings, common, fraud, CounterpartyBook())
        node = open_node(opened, settings, common)
        notifier = Notifier(database, channels, common.chain_id, public_url=settings.public_url)
        watcher = Watcher(
            database, node, decider, settings, common.chain_id, notifier.channel_names
        )
        if settings.metrics_port is not None:
            server, _ = exposition.serve(
                settings.metrics_port, common.metrics_address, watcher.problems
            )
            opened.callback(server.shutdown)
        if once:
            watcher.catch_up(stop)
            while notifier.send_due() and not stop.is_set():  # a few at a time
                continue
            return 0
        notifier.start()
        opened.callback(notifier.stop)
        if pending:
            _follow_pending(opened, settings, common, database, decider, channels)
        watcher.run(stop)
    return 0


def _follow_pending(
    opened: ExitStack,
    settings: ServiceSettings,
    common: Settings,
    database: Database,
    decider: Decider,
    channels: list[Channel],
) -> None:
    """Screen pending transactions in the background until `opened` closes.

    Raises:
        SettingsError: the node does not offer its pending transactions.
        SourceError: it does not answer.
    """
    assert common.json_rpc_url is not None  # noqa: S101
    node = JsonRpcClient(common.json_rpc_url)
    opened.callback(node.close)
    alerts = EarlyAlerts(database, channels, settings.notify_from, settings.public_url)
    follower = PendingWatcher(
        database,
        node,
        open_screener(opened, common, decider),
        decider,
        accounts=frozenset(settings.watch_accounts),
        per_second=settings.watch_pending_per_second,
        on_screening=alerts.add,
    )
    try:
        follower.open()
    except RequestRefused:
        raise SettingsError(
            "JSON_RPC_URL", "a node with eth_newPendingTransactionFilter, for --pending"
        ) from None
    opened.enter_context(alerts)
    opened.enter_context(Periodic("pending", _PENDING_SECONDS, follower.poll))
