"""Alerts, their filters, and feedback."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, get_args

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    case,
    false,
    func,
    or_,
    select,
    true,
    tuple_,
)

from src.decision.alerts import Severity
from src.service.database.chain import keys_of_account
from src.service.database.engine import upsert
from src.service.database.tables import alerts, feedback, same_transaction, transfers, triage

SortKey = Literal["time", "score", "severity", "action"]
State = Literal["new", "in_work", "done"]
SEVERITIES: Final = tuple(severity.value for severity in Severity)
STATES: Final[tuple[State, ...]] = get_args(State)
"""What a person has done about a transaction; `new`: nothing yet."""
Place = tuple[float | None, int]
"""An alert's place in a sorted list: what it is sorted by, and its id."""


@dataclass(frozen=True, slots=True)
class NewAlert:
    """An alert to store."""

    # chain_id, tx_hash, block_number, block_timestamp, from_address: the transaction.
    chain_id: int
    tx_hash: str
    # alert_id, name, description, severity: as in Forta findings.
    alert_id: str
    name: str
    description: str
    reason: str  # why it was raised, for people; may be empty
    severity: str
    action: int  # `Action`'s value
    score: float | None  # or None where the transaction could not be scored
    attack_score: float | None
    # gained_usd, lost_usd: of the sender's side, and of the account that lost most; None if
    # unknown.
    gained_usd: float | None
    lost_usd: float | None
    model_version: str
    from_address: str | None
    block_number: int | None
    block_timestamp: int | None


@dataclass(frozen=True, slots=True)
class Feedback:
    """One person's feedback on an alert."""

    author: str
    is_true_positive: bool
    note: str
    given_at: float


@dataclass(frozen=True, slots=True)
class Alert(NewAlert):
    """A stored alert."""

    id: int  # of the row
    orphaned: bool  # the transaction's block was replaced, and it is in no newer one
    created_at: float  # Unix seconds
    feedback: tuple[Feedback, ...] = ()  # oldest first


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """Conditions on alerts; None does not restrict."""

    # since, until: block time, Unix seconds, both included.
    since: int | None = None
    until: int | None = None
    action: int | None = None  # exactly this one
    severity: str | None = None  # exactly this one
    token: str | None = None  # the transaction moves it; address, lowercase
    sender: str | None = None  # the transaction's sender, lowercase
    alert_id: str | None = None  # exactly this one
    tx_hash: str | None = None  # of this transaction
    with_feedback: bool | None = None  # only alerts with feedback, or only those without
    orphaned: bool | None = None  # only orphaned alerts, or none of them
    chain_id: int | None = None  # of this chain
    state: State | None = None  # the transaction is in this state of triage
    # It sends the transaction, is called by it or moves tokens in it; lowercase.
    account: str | None = None


def store_alerts(connection: Connection, new: Sequence[NewAlert], now: float) -> list[int]:
    """Store alerts; an existing alert of the same transaction stays unchanged.

    An orphaned one is replaced, since its transaction is on the chain again.

    Returns:
        The ids of all of them, in order.
    """
    slots = NewAlert.__slots__
    rows = [{name: getattr(one, name) for name in slots} | {"created_at": now} for one in new]
    if rows:
        statement = upsert(connection, alerts)
        revived = {name: statement.excluded[name] for name in slots} | {"orphaned": false()}
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["chain_id", "tx_hash", "alert_id"],
                set_=revived,
                where=alerts.c.orphaned.is_(True),
            ),
            rows,
        )
    return [
        connection.execute(
            select(alerts.c.id)
            .where(alerts.c.chain_id == one.chain_id)
            .where(alerts.c.tx_hash == one.tx_hash)
            .where(alerts.c.alert_id == one.alert_id)
        ).scalar_one()
        for one in new
    ]


def list_alerts(
    connection: Connection,
    wanted: AlertFilter,
    *,
    sort: SortKey = "time",
    descending: bool = True,
    limit: int = 50,
    offset: int = 0,
    after: Place | None = None,
) -> tuple[list[Alert], int]:
    """A page of alerts with their feedback, and the total number.

    The page begins after `offset` alerts, or after the alert at the place `after`.
    """
    condition = condition_of(wanted)
    total = connection.execute(
        select(func.count()).select_from(alerts).where(condition)
    ).scalar_one()
    column = _sort_column(sort)
    order = [column.desc().nulls_last(), alerts.c.id.desc()]
    if not descending:
        order = [column.asc().nulls_last(), alerts.c.id.asc()]
    page = select(alerts).where(condition).order_by(*order).limit(limit).offset(offset)
    if after is not None:
        page = page.where(_follows(column, after, descending=descending))
    return read_alerts(connection, page), total


def place_of(alert: Alert, sort: SortKey) -> Place:
    """An alert's place in a list sorted by this key."""
    values = {
        "time": alert.block_timestamp,
        "score": alert.score,
        "action": alert.action,
        "severity": SEVERITIES.index(alert.severity) if alert.severity in SEVERITIES else -1,
    }
    return values[sort], alert.id


def find_alert(connection: Connection, number: int) -> Alert | None:
    """One alert with its feedback."""
    found = read_alerts(connection, select(alerts).where(alerts.c.id == number))
    return found[0] if found else None


def give_feedback(
    connection: Connection,
    number: int,
    author: str,
    *,
    is_true_positive: bool,
    note: str,
    now: float,
) -> None:
    """Store an author's feedback on an alert; replaces the author's earlier feedback."""
    values = {"is_true_positive": is_true_positive, "note": note, "given_at": now}
    connection.execute(
        upsert(connection, feedback)
        .values(alert=number, author=author, **values)
        .on_conflict_do_update(index_elements=["alert", "author"], set_=values)
    )


def condition_of(wanted: AlertFilter) -> ColumnElement[bool]:
    """The filter as a condition on the alerts' table."""
    equal = {
        alerts.c.chain_id: wanted.chain_id,
        alerts.c.action: wanted.action,
        alerts.c.severity: wanted.severity,
        alerts.c.from_address: wanted.sender,
        alerts.c.alert_id: wanted.alert_id,
        alerts.c.tx_hash: wanted.tx_hash,
        alerts.c.orphaned: wanted.orphaned,
    }
    conditions = [column == value for column, value in equal.items() if value is not None]
    if wanted.since is not None:
        conditions.append(alerts.c.block_timestamp >= wanted.since)
    if wanted.until is not None:
        conditions.append(alerts.c.block_timestamp <= wanted.until)
    if wanted.token is not None:
        moves = (
            select(transfers.c.tx_hash)
            .where(same_transaction(transfers, alerts))
            .where(transfers.c.token == wanted.token)
        )
        conditions.append(moves.exists())
    if wanted.with_feedback is not None:
        judged = select(feedback.c.alert).where(feedback.c.alert == alerts.c.id).exists()
        conditions.append(judged if wanted.with_feedback else ~judged)
    if wanted.account is not None:
        key = tuple_(alerts.c.chain_id, alerts.c.tx_hash)
        conditions.append(key.in_(keys_of_account(wanted.account)))
    if wanted.state is not None:
        touched = select(triage.c.tx_hash).where(same_transaction(triage, alerts))
        is_new = ~touched.where(triage.c.state != "new").exists()
        in_state = touched.where(triage.c.state == wanted.state).exists()
        conditions.append(is_new if wanted.state == "new" else in_state)
    return and_(true(), *conditions)


def _sort_column(sort: SortKey) -> ColumnElement[Any]:
    if sort == "severity":
        return severity_rank()
    columns = {
        "time": alerts.c.block_timestamp,
        "score": alerts.c.score,
        "action": alerts.c.action,
    }
    return columns[sort]


def severity_rank() -> ColumnElement[int]:
    """The severity as a number, higher for a more severe one."""
    ranks = {name: rank for rank, name in enumerate(SEVERITIES)}
    return case(ranks, value=alerts.c.severity, else_=-1)


def _follows(column: ColumnElement[Any], place: Place, *, descending: bool) -> ColumnElement[bool]:
    """Whether an alert comes after a place: unknown values come last in either direction."""
    value, number = place
    by_id = alerts.c.id < number if descending else alerts.c.id > number
    if value is None:
        return and_(column.is_(None), by_id)
    beyond = column < value if descending else column > value
    return or_(beyond, and_(column == value, by_id), column.is_(None))


def read_alerts(connection: Connection, query: Select[Any]) -> list[Alert]:
    """The alerts that a query on their table selects, with their feedback."""
    rows = connection.execute(query).all()
    feedback_of: dict[int, list[Feedback]] = {}
    for row in connection.execute(
        select(feedback)
        .where(feedback.c.alert.in_([row.id for row in rows]))
        .order_by(feedback.c.given_at)
    ):
        given = Feedback(row.author, row.is_true_positive, row.note, row.given_at)
        feedback_of.setdefault(row.alert, []).append(given)
    return [_alert(row, feedback_of.get(row.id, [])) for row in rows]


def _alert(row: Row[Any], given: list[Feedback]) -> Alert:
    own = {one.name: getattr(row, one.name) for one in fields(Alert) if one.name != "feedback"}
    return Alert(**own, feedback=tuple(given))
