"""Screenings of transactions that are not mined yet, and what became of the transactions."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    Update,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from src.service.database.engine import (
    Page,
    first_record,
    in_chunks,
    insert_missing,
    newest_first,
    record,
    records,
)
from src.service.database.tables import notifications, screenings

Source = Literal["pending", "guard"]
State = Literal["pending", "mined", "dropped"]

KEPT_SECONDS: Final = 30 * 86_400.0
MAX_KEPT: Final = 1_000_000
"""Screenings are kept for so long, and so many of them; the oldest are forgotten beyond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewScreening:
    """A screening to store."""

    uuid: str  # what clients and receivers of notifications know it by
    source: Source = "pending"  # "pending" for watch mode's, "guard"
    # chain_id, tx_hash, from_address, to_address: the transaction; without a hash, several or one
    # that cannot be read.
    chain_id: int
    tx_hash: str | None
    from_address: str | None
    to_address: str | None = None
    screened_at: float  # Unix seconds
    block_number: int | None  # of the block that it was simulated in; None if unknown
    status: str  # success, reverts or unknown
    action: int  # `Action`'s value
    reasons: list[str]  # for people
    summary: str  # who would gain and lose what; may be empty
    problem: str  # why it is unknown or reverts; may be empty
    outcome: str | None = None  # what the guard did, or in observe mode would have done
    is_enforced: bool | None = None  # whether the guard did; False in observe mode
    client: str | None = None  # of the guard, by name
    method: str | None = None  # of JSON-RPC
    seconds: float | None = None  # that the guard's client waited for the screening
    answer: str | None = None  # the node's, to what was held and released


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredScreening(NewScreening):
    """A stored screening."""

    id: int  # ascends with time
    state: State  # of the transaction
    # When each receiver got the notification, Unix seconds, by the receiver's name.
    told: dict[str, float]
    mined_block: int | None  # number of its block, or None
    # Of the decision on the mined transaction; it differs where the chain's state has moved.
    mined_action: int | None
    mined_at: float | None  # when that block was read, Unix seconds
    is_reverted: bool | None  # whether it failed in its block

    @property
    def lead_seconds(self) -> float | None:
        """How long before its block the screening came; None for one that is not mined."""
        return None if self.mined_at is None else max(0.0, self.mined_at - self.screened_at)

    @property
    def is_withheld(self) -> bool:
        """Whether a guard has not passed the transaction on."""
        return bool(self.is_enforced) and self.outcome not in {"passed", "unknown passed"}

    @property
    def differs(self) -> bool:
        """Whether the decision in the block is another one than that before."""
        if self.mined_action is None or self.status == "unknown":
            return False
        return self.mined_action != self.action or self.is_reverted == (self.status == "success")


@dataclass(frozen=True, slots=True)
class ScreeningFilter:
    """Which screenings to list; None for all."""

    state: State | None = None
    source: Source | None = None
    least_action: int = 0
    tx_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Mined:
    """A transaction in its block."""

    block: int  # number
    action: int  # of the decision on it
    is_reverted: bool  # whether it failed


def store_screening(connection: Connection, new: NewScreening) -> None:
    """Store a screening of a pending transaction; a later one of the same replaces it."""
    connection.execute(
        delete(screenings)
        .where(screenings.c.source == new.source)
        .where(screenings.c.chain_id == new.chain_id)
        .where(screenings.c.tx_hash == new.tx_hash)
    )
    add_screenings(connection, [new])


def add_screenings(connection: Connection, new: Iterable[NewScreening]) -> None:
    """Store screenings."""
    rows = [asdict(one) | {"state": "pending", "told": {}} for one in new]
    insert_missing(connection, screenings, rows)


def change_screening(connection: Connection, uuid: str, **values: Any) -> None:
    """Set columns of a screening."""
    connection.execute(update(screenings).where(screenings.c.uuid == uuid).values(values))


def screening_of(connection: Connection, uuid: str) -> StoredScreening | None:
    """A screening by its id, or None."""
    wanted = select(screenings).where(screenings.c.uuid == uuid)
    return first_record(connection, StoredScreening, wanted)


def list_screenings(
    connection: Connection, wanted: ScreeningFilter, page: Page
) -> tuple[list[StoredScreening], int]:
    """A page of screenings, newest first, and the total number."""
    query = select(screenings).where(screenings.c.action >= wanted.least_action)
    for column, value in (
        (screenings.c.state, wanted.state),
        (screenings.c.source, wanted.source),
        (screenings.c.tx_hash, wanted.tx_hash),
    ):
        if value is not None:
            query = query.where(column == value)
    return newest_first(connection, StoredScreening, query, screenings.c.id, page)


def waiting_screenings(
    connection: Connection, source: Source, chain_id: int, *, after: float, limit: int
) -> list[StoredScreening]:
    """Those of transactions that are pending, screened after a time, oldest first."""
    waiting = (
        select(screenings)
        .where(screenings.c.state == "pending")
        .where(screenings.c.source == source)
        .where(screenings.c.chain_id == chain_id)
        .where(screenings.c.screened_at > after)
        .order_by(screenings.c.screened_at)
        .limit(limit)
    )
    return records(connection, StoredScreening, waiting)


def known_hashes(
    connection: Connection, source: Source, chain_id: int, hashes: Sequence[str]
) -> set[str]:
    """Those of the transactions that were screened."""
    return {
        str(tx_hash)
        for part in in_chunks(hashes)
        for tx_hash in connection.scalars(
            select(screenings.c.tx_hash).where(_are(source, chain_id, part))
        )
    }


def note_told(connection: Connection, uuid: str, told: Mapping[str, float]) -> None:
    """Record which receivers have the notification about a screening."""
    change_screening(connection, uuid, told=dict(told))


def join_mined(
    connection: Connection,
    source: Source,
    chain_id: int,
    mined: Mapping[str, Mined],
    now: float,
) -> list[StoredScreening]:
    """Mark screened transactions as mined.

    Args:
        connection: of a writing transaction.
        source: whose screenings.
        chain_id: the chain.
        mined: transactions of the chain by hash; those that were not screened are passed over.
        now: Unix seconds.

    Returns:
        The screenings as they are now, without those that another process has marked before.
    """
    found = []
    for part in in_chunks(mined):
        # Locked, so that two guards on one database do not both count it.
        query = select(screenings).where(_are(source, chain_id, part)).order_by(screenings.c.id)
        for row in connection.execute(query.with_for_update()):
            one = record(StoredScreening, row)
            known = mined[one.tx_hash or ""]
            if one.mined_block != known.block:
                joined = replace(
                    one, state="mined", mined_block=known.block, mined_action=known.action,
                    mined_at=now, is_reverted=known.is_reverted,
                )  # fmt: skip
                found.append(joined)
    if found:
        changed = ("state", "mined_block", "mined_action", "mined_at", "is_reverted")
        values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in changed}
        rows = [
            {"row": one.id, **{f"new_{name}": getattr(one, name) for name in changed}}
            for one in found
        ]
        change = update(screenings).where(screenings.c.id == bindparam("row")).values(values)
        connection.execute(change, rows)
    return found


def leave_block(connection: Connection, chain_id: int, number: int) -> None:
    """Mark watch mode's screenings of a block as pending again, since it was replaced."""
    connection.execute(
        update(screenings)
        .where(screenings.c.source == "pending")
        .where(screenings.c.chain_id == chain_id)
        .where(screenings.c.mined_block == number)
        .values(
            state="pending", mined_block=None, mined_action=None, mined_at=None, is_reverted=None
        )
    )


def drop_screenings(connection: Connection, uuids: Collection[str]) -> None:
    """Mark transactions as dropped, unless they are mined meanwhile."""
    connection.execute(_still_pending().where(screenings.c.uuid.in_(uuids)))


def drop_old_screenings(
    connection: Connection, source: Source, chain_id: int, before: float
) -> None:
    """Mark transactions as dropped that were screened before a time and are not mined."""
    connection.execute(
        _still_pending()
        .where(screenings.c.source == source)
        .where(screenings.c.chain_id == chain_id)
        .where(screenings.c.screened_at < before)
    )


def forget_screenings(connection: Connection, before: float) -> None:
    """Delete screenings from before a time, Unix seconds, and beyond `MAX_KEPT`."""
    newest = select(func.max(screenings.c.id)).scalar_subquery()
    connection.execute(
        delete(screenings).where(
            (screenings.c.screened_at < before) | (screenings.c.id <= newest - MAX_KEPT)
        )
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


def _are(source: Source, chain_id: int, hashes: Sequence[str]) -> ColumnElement[bool]:
    return (
        (screenings.c.chain_id == chain_id)
        & screenings.c.tx_hash.in_(hashes)
        & (screenings.c.source == source)
    )


def _still_pending() -> Update:
    return update(screenings).where(screenings.c.state == "pending").values(state="dropped")
