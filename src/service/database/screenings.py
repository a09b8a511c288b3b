"""Screenings of pending transactions, and what became of the transactions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from sqlalchemy import Connection, delete, func, insert, select, update

from src.service.database.engine import put
from src.service.database.tables import notifications, screenings

State = Literal["pending", "mined", "dropped"]

_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class NewScreening:
    """A screening to store.

    Attributes:
        chain_id, tx_hash, from_address, to_address: the transaction.
        uuid: of notifications about it.
        screened_at: Unix seconds.
        block_number: of the block that it was simulated in; None if unknown.
        status: success, reverts or unknown.
        action: `Action`'s value.
        reasons: for people.
        summary: who would gain and lose what; may be empty.
        problem: why it is unknown or reverts; may be empty.
    """

    chain_id: int
    tx_hash: str
    from_address: str | None
    to_address: str | None
    uuid: str
    screened_at: float
    block_number: int | None
    status: str
    action: int
    reasons: list[str]
    summary: str
    problem: str


@dataclass(frozen=True, slots=True)
class StoredScreening(NewScreening):
    """A stored screening.

    Attributes:
        state: of the transaction.
        told: when each receiver got the notification, Unix seconds, by the receiver's name.
        mined_block: number of its block, or None.
        mined_action: of the decision on the mined transaction; it differs where the chain's state
            has moved.
        mined_at: when watch mode read that block, Unix seconds.
    """

    state: State
    told: dict[str, float]
    mined_block: int | None
    mined_action: int | None
    mined_at: float | None

    @property
    def lead_seconds(self) -> float | None:
        """How long before its block the screening came; None for one that is not mined."""
        return None if self.mined_at is None else max(0.0, self.mined_at - self.screened_at)


def store_screening(connection: Connection, new: NewScreening) -> None:
    """Store a screening; a later one of the same transaction replaces it."""
    row = {one.name: getattr(new, one.name) for one in fields(NewScreening)}
    put(connection, screenings, [row | {"state": "pending", "told": {}}])


def find_screening(connection: Connection, chain_id: int, tx_hash: str) -> StoredScreening | None:
    """The screening of a transaction, or None."""
    found = _of_hashes(connection, chain_id, [tx_hash])
    return found[0] if found else None


def list_screenings(
    connection: Connection,
    *,
    state: State | None = None,
    least_action: int = 0,
    limit: int = 50,
    offset: int = 0,
) -> tuple[list[StoredScreening], int]:
    """A page of screenings, newest first, and the total number."""
    condition = screenings.c.action >= least_action
    if state is not None:
        condition &= screenings.c.state == state
    total = connection.execute(select(func.count()).select_from(screenings).where(condition))
    page = connection.execute(
        select(screenings)
        .where(condition)
        .order_by(screenings.c.screened_at.desc(), screenings.c.tx_hash)
        .limit(limit)
        .offset(offset)
    )
    return [_stored(row) for row in page], total.scalar_one()


def waiting_screenings(
    connection: Connection, chain_id: int, *, after: float, limit: int
) -> list[StoredScreening]:
    """Those of transactions that are pending, screened after a time, oldest first."""
    rows = connection.execute(
        select(screenings)
        .where(screenings.c.chain_id == chain_id)
        .where(screenings.c.state == "pending")
        .where(screenings.c.screened_at > after)
        .order_by(screenings.c.screened_at)
        .limit(limit)
    )
    return [_stored(row) for row in rows]


def note_told(
    connection: Connection, chain_id: int, tx_hash: str, told: Mapping[str, float]
) -> None:
    """Record which receivers have the notification about a screening."""
    connection.execute(_update(chain_id, [tx_hash]).values(told=dict(told)))


def join_block(
    connection: Connection,
    chain_id: int,
    number: int,
    hashes: Sequence[str],
    actions: Mapping[str, int],
    now: float,
) -> list[StoredScreening]:
    """Mark the screened transactions of a block as mined.

    Args:
        connection: of a writing transaction.
        chain_id: the chain.
        number: of the block.
        hashes: of all its transactions.
        actions: of the decisions on them; ALLOW for those left out.
        now: Unix seconds.

    Returns:
        The screenings as they are now.
    """
    found = [
        one
        for start in range(0, len(hashes), _CHUNK)
        for one in _of_hashes(connection, chain_id, hashes[start : start + _CHUNK])
    ]
    for one in found:
        connection.execute(
            _update(chain_id, [one.tx_hash]).values(
                state="mined",
                mined_block=number,
                mined_action=actions.get(one.tx_hash, 0),
                mined_at=now,
            )
        )
    return [
        one
        for start in range(0, len(found), _CHUNK)
        for one in _of_hashes(
            connection, chain_id, [one.tx_hash for one in found[start : start + _CHUNK]]
        )
    ]


def leave_block(connection: Connection, chain_id: int, number: int) -> None:
    """Mark the screened transactions of a block as pending again, since it was replaced."""
    connection.execute(
        update(screenings)
        .where(screenings.c.chain_id == chain_id)
        .where(screenings.c.mined_block == number)
        .values(state="pending", mined_block=None, mined_action=None, mined_at=None)
    )


def drop_screenings(connection: Connection, chain_id: int, hashes: Collection[str]) -> None:
    """Mark transactions that the node no longer knows as dropped."""
    connection.execute(
        _update(chain_id, hashes).where(screenings.c.state == "pending").values(state="dropped")
    )


def forget_screenings(connection: Connection, chain_id: int, before: float) -> None:
    """Delete screenings from before a time, Unix seconds."""
    connection.execute(
        delete(screenings)
        .where(screenings.c.chain_id == chain_id)
        .where(screenings.c.screened_at < before)
    )


def note_told_early(connection: Connection, alert: int, channel: str, one: StoredScreening) -> None:
    """Record that a receiver was told about an alert while its transaction was pending.

    So it is not told again, and a reorganisation retracts what was told.
    """
    known = select(notifications.c.id).where(notifications.c.alert == alert)
    if connection.execute(known.where(notifications.c.channel == channel)).first() is None:
        at = one.told[channel]
        connection.execute(
            insert(notifications).values(
                uuid=one.uuid, alert=alert, channel=channel, is_retraction=False, attempts=1,
                due_at=at, noted_at=at, sent_at=at,
            )
        )  # fmt: skip


def _of_hashes(
    connection: Connection, chain_id: int, hashes: Collection[str]
) -> list[StoredScreening]:
    rows = connection.execute(
        select(screenings)
        .where(screenings.c.chain_id == chain_id)
        .where(screenings.c.tx_hash.in_(hashes))
        .order_by(screenings.c.tx_hash)
    )
    return [_stored(row) for row in rows]


def _update(chain_id: int, hashes: Collection[str]) -> Any:
    return (
        update(screenings)
        .where(screenings.c.chain_id == chain_id)
        .where(screenings.c.tx_hash.in_(hashes))
    )


def _stored(row: Any) -> StoredScreening:
    return StoredScreening(**{one.name: getattr(row, one.name) for one in fields(StoredScreening)})
