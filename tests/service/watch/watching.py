"""A watcher of a chain, and what it stored."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from src.service.database import alerts, chain, decisions
from src.service.database.engine import Database
from src.service.decider import Decider
from src.service.node import NodeReader
from src.service.watch.watcher import Watcher
from tests.service.chain import common_settings, service_settings


@contextmanager
def watching_chain(
    database: Database,
    url: str,
    *,
    channels: tuple[str, ...] = (),
    block_seconds: float | None = None,
    **changes: Any,
) -> Iterator[Watcher]:
    settings = service_settings("", **changes)
    decider = Decider(common_settings(url, block_seconds=block_seconds))
    node = NodeReader(url, requests_per_second=10_000, verify=True, patience=0.2)
    try:
        yield Watcher(database, node, decider, settings, 1, list(channels))
    finally:
        node.close()
        decider.close()


def stored(database: Database, tx_hash: str) -> tuple[bool, int | None]:
    """Whether a transaction is orphaned, and the action about it."""
    with database.reading() as connection:
        found = chain.find_transaction(connection, 1, tx_hash)
        decision = decisions.newest_decision(connection, 1, tx_hash)
    assert found is not None
    return found[1], None if decision is None else decision.action


def all_alerts(database: Database) -> list[alerts.Alert]:
    with database.reading() as connection:
        return alerts.list_alerts(connection, alerts.AlertFilter(), limit=1000)[0]
