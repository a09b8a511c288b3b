"""The progress of watch mode, and the queue of notifications."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import Connection, Select, delete, func, insert, select, update

from src.service.database.engine import first_record, in_chunks, put
from src.service.database.tables import alerts, notifications, watched_blocks

_MAX_DUE: Final = 10  # few, so that a grave one that comes meanwhile waits for few


@dataclass(frozen=True, slots=True)
class WatchedBlock:
    """A block that watch mode has processed."""

    block_number: int
    block_hash: str
    parent_hash: str


@dataclass(frozen=True, slots=True)
class DueNotification:
    """A notification to send now."""

    id: int  # of the row
    uuid: str  # the same for each attempt; no other notification ever has it
    alert: int  # the alert's id
    channel: str  # name of the receiver
    is_retraction: bool  # takes back what was sent about the alert
    attempts: int  # so far


def last_watched(connection: Connection, chain_id: int) -> WatchedBlock | None:
    """The highest processed block, or None on the first start."""
    ours = select(watched_blocks).where(watched_blocks.c.chain_id == chain_id)
    highest = ours.order_by(watched_blocks.c.block_number.desc()).limit(1)
    return first_record(connection, WatchedBlock, highest)


def watched_at(connection: Connection, chain_id: int, number: int) -> WatchedBlock | None:
    """The processed block at a height, or None if it is unknown or too far back."""
    ours = select(watched_blocks).where(watched_blocks.c.chain_id == chain_id)
    wanted = ours.where(watched_blocks.c.block_number == number)
    return first_record(connection, WatchedBlock, wanted)


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
    """Queue one notification per alert, unless it is already queued or sent.

    An alert that was retracted and is raised again is told again, also if no attempt to retract it
    is known to have succeeded; a retraction that was never tried is dropped instead.
    """
    for alert in alert_ids:
        last = connection.execute(_last_rows([alert], channel)).first()
        if last is None or (last.is_retraction and last.attempts > 0):
            _queue(connection, alert, channel, now, is_retraction=False)
        elif last.is_retraction:
            drop_notification(connection, last.id)


def retract_notifications(
    connection: Connection, chain_id: int, tx_hashes: Sequence[str], now: float
) -> None:
    """Queue retractions of what was sent about those alerts of transactions that are orphaned.

    What was never tried is not sent at all.
    """
    for chunk in in_chunks(tx_hashes):
        gone = connection.scalars(
            select(alerts.c.id)
            .where(alerts.c.chain_id == chain_id)
            .where(alerts.c.tx_hash.in_(chunk))
            .where(alerts.c.orphaned.is_(True))
        ).all()
        for last in connection.execute(_last_rows(gone)).all() if gone else ():
            if last.is_retraction:
                continue
            if last.attempts == 0:
                drop_notification(connection, last.id)
            else:  # also if no attempt is known to have succeeded: the receiver may have it
                _queue(connection, last.alert, last.channel, now, is_retraction=True)


def due_notifications(
    connection: Connection, chain_id: int, channel: str, now: float, max_attempts: int
) -> list[DueNotification]:
    """At most `_MAX_DUE` unsent ones of the chain that are due, the gravest first, then by age.

    So a flood of cheap alerts, which anybody can raise, does not hold up a grave one.

    One that was noted later than now is due too: the clock was set back, and its time to be sent
    may be far away.
    """
    rows = connection.execute(
        select(*[notifications.c[name] for name in DueNotification.__slots__])
        .join(alerts)
        .where(alerts.c.chain_id == chain_id)  # another chain's watcher sends the others
        .where(notifications.c.channel == channel)
        .where(notifications.c.sent_at.is_(None))
        .where((notifications.c.due_at <= now) | (notifications.c.noted_at > now))
        .where(notifications.c.attempts < max_attempts)
        .order_by(alerts.c.action.desc(), notifications.c.due_at, notifications.c.id)
        .limit(_MAX_DUE)
    )
    return [DueNotification(*row) for row in rows]


def note_attempt(
    connection: Connection,
    notification: DueNotification,
    *,
    now: float,
    failure: str | None,
    pause: float,
) -> None:
    """Record the result of sending: sent, or failed and due again after `pause` seconds."""
    updated = connection.execute(
        update(notifications)
        .where(notifications.c.id == notification.id)
        .values(
            attempts=notification.attempts + 1,
            sent_at=now if failure is None else None,
            failure=failure,
            due_at=now + pause,
            noted_at=now,
        )
    )
    if not updated.rowcount:
        # A reorganisation dropped it while it was on its way: the receiver may have it.
        alert, channel = notification.alert, notification.channel
        _queue(connection, alert, channel, now, is_retraction=not notification.is_retraction)


def drop_notification(connection: Connection, number: int) -> None:
    """Remove a notification that is not to be sent."""
    connection.execute(delete(notifications).where(notifications.c.id == number))


def _last_rows(alert_ids: Sequence[int], channel: str | None = None) -> Select[Any]:
    """The last notification of each alert and channel."""
    newest = select(func.max(notifications.c.id)).where(notifications.c.alert.in_(alert_ids))
    if channel is not None:
        newest = newest.where(notifications.c.channel == channel)
    newest = newest.group_by(notifications.c.alert, notifications.c.channel)
    return select(notifications).where(notifications.c.id.in_(newest))


def _queue(
    connection: Connection, alert: int, channel: str, now: float, *, is_retraction: bool
) -> None:
    connection.execute(
        insert(notifications).values(
            uuid=str(uuid4()),
            alert=alert,
            channel=channel,
            is_retraction=is_retraction,
            attempts=0,
            due_at=now,
            noted_at=now,
        )
    )
