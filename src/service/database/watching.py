"""The progress of watch mode, and the queue of notifications."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, select, update

from src.service.database.engine import insert_missing, put
from src.service.database.tables import notifications, watched_blocks

_MAX_DUE: Final = 100


@dataclass(frozen=True, slots=True)
class WatchedBlock:
    """A block that watch mode has processed."""

    block_number: int
    block_hash: str
    parent_hash: str


@dataclass(frozen=True, slots=True)
class DueNotification:
    """A notification to send now."""

    alert: int
    channel: str
    attempts: int


def last_watched(connection: Connection, chain_id: int) -> WatchedBlock | None:
    """The highest processed block, or None on the first start."""
    row = connection.execute(
        select(watched_blocks)
        .where(watched_blocks.c.chain_id == chain_id)
        .order_by(watched_blocks.c.block_number.desc())
        .limit(1)
    ).first()
    return None if row is None else WatchedBlock(row.block_number, row.block_hash, row.parent_hash)


def watched_at(connection: Connection, chain_id: int, number: int) -> WatchedBlock | None:
    """The processed block at a height, or None if it is unknown or too far back."""
    row = connection.execute(
        select(watched_blocks)
        .where(watched_blocks.c.chain_id == chain_id)
        .where(watched_blocks.c.block_number == number)
    ).first()
    return None if row is None else WatchedBlock(row.block_number, row.block_hash, row.parent_hash)


def add_watched(connection: Connection, chain_id: int, block: WatchedBlock, keep: int) -> None:
    """Record a block as processed; only the last `keep` blocks are kept."""
    row = {name: getattr(block, name) for name in WatchedBlock.__slots__}
    put(connection, watched_blocks, [row | {"chain_id": chain_id}])
    connection.execute(
        delete(watched_blocks)
        .where(watched_blocks.c.chain_id == chain_id)
        .where(watched_blocks.c.block_number <= block.block_number - keep)
    )


def forget_watched(connection: Connection, chain_id: int, block: WatchedBlock) -> None:
    """Remove a block that was replaced."""
    connection.execute(
        delete(watched_blocks)
        .where(watched_blocks.c.chain_id == chain_id)
        .where(watched_blocks.c.block_number == block.block_number)
    )


def queue_notifications(
    connection: Connection, alert_ids: Sequence[int], channel: str, now: float
) -> None:
    """Queue one notification per alert, unless it is already queued or sent."""
    rows = [
        {"alert": alert, "channel": channel, "attempts": 0, "due_at": now} for alert in alert_ids
    ]
    insert_missing(connection, notifications, rows)


def due_notifications(
    connection: Connection, channel: str, now: float, max_attempts: int
) -> list[DueNotification]:
    """At most `_MAX_DUE` unsent notifications that are due, oldest first."""
    rows = connection.execute(
        select(notifications.c.alert, notifications.c.channel, notifications.c.attempts)
        .where(notifications.c.channel == channel)
        .where(notifications.c.sent_at.is_(None))
        .where(notifications.c.due_at <= now)
        .where(notifications.c.attempts < max_attempts)
        .order_by(notifications.c.due_at, notifications.c.alert)
        .limit(_MAX_DUE)
    )
    return [DueNotification(row.alert, row.channel, row.attempts) for row in rows]


def note_attempt(
    connection: Connection,
    notification: DueNotification,
    *,
    sent_at: float | None,
    failure: str | None,
    next_at: float,
) -> None:
    """Record the result of sending: sent, or failed and due again at `next_at`."""
    connection.execute(
        update(notifications)
        .where(notifications.c.alert == notification.alert)
        .where(notifications.c.channel == notification.channel)
        .values(
            attempts=notification.attempts + 1, sent_at=sent_at, failure=failure, due_at=next_at
        )
    )
