"""Watch mode: what it is put together from, and its life from start to signal."""

import argparse
import os
import signal
import threading
from contextlib import ExitStack
from types import FrameType

from src import cli
from src.chain.errors import SourceError
from src.chain.recording.fetch import UnverifiedBlock
from src.detection.counterparties import CounterpartyBook
from src.monitoring import exposition
from src.service.context import fraud_model_path, open_decider, open_node
from src.service.database.engine import Database
from src.service.model_refresh import FraudModel
from src.service.settings import (
    ServiceSettings,
    database_url,
    load_common_settings,
    load_service_settings,
)
from src.service.watch.notify import Notifier, channels_of
from src.service.watch.watcher import Watcher
from src.settings import Settings, on_the_nodes_chain
from src.utils.logger import log_to_stderr
from src.variables import SettingsError


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
        return watch(settings, on_the_nodes_chain(common), stop, once=options.once)
    except (SourceError, UnverifiedBlock, OSError) as error:
        raise cli.CommandError(cli.described(error), exit_code=1) from error


def watch(
    settings: ServiceSettings, common: Settings, stop: threading.Event, *, once: bool = False
) -> int:
    """Watch until stopped; with `once`, until the head is reached and all notifications are sent.

    Raises:
        SettingsError, DatabaseError, ModelError, PolicyError, AddressListError: the configuration
            is unusable.
        SourceError, UnverifiedBlock: with `once`, the node failed.
        OSError: the metrics port is in use.
    """
    try:
        channels = channels_of(settings)
    except ValueError:
        raise SettingsError("NOTIFY_URLS", "URLs that Apprise supports") from None
    with ExitStack() as opened:
        database = Database(database_url(settings, common))
        opened.callback(database.close)
        database.migrate()
        fraud = FraudModel(fraud_model_path(settings), common.model_public_key)
        decider = open_decider(opened, settings, common, fraud, CounterpartyBook())
        node = open_node(opened, settings, common)
        books = {common.chain_id: decider.pipeline.names}
        notifier = Notifier(database, channels, public_url=settings.public_url, books=books)
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
            notifier.send_due()
            return 0
        notifier.start()
        opened.callback(notifier.stop)
        watcher.run(stop)
    return 0
