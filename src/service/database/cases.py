"""Cases: transactions with alerts, as a person works on them, and their triage."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, Select, func, insert, select

from src.service.database.alerts import (
    SEVERITIES,
    Alert,
    AlertFilter,
    State,
    condition_of,
    give_feedback,
    read_alerts,
    severity_rank,
)
from src.service.database.decisions import Decided, decided_on
from src.service.database.engine import in_chunks, put
from src.service.database.tables import (
    TransactionKey,
    alerts,
    is_one_of,
    same_transaction,
    triage,
    triage_changes,
)

CaseSort = Literal["time", "severity", "action", "score", "gained"]
_MAX_CHANGES: Final = 100


@dataclass(frozen=True, slots=True)
class Triage:
    """What a person has done about a transaction."""

    state: State = "new"  # of the work
    author: str = ""  # who set it; "" where nobody has
    note: str = ""  # theirs; may be empty
    changed_at: float | None = None  # Unix seconds; None where nobody has


@dataclass(frozen=True, slots=True)
class TriageChange:
    """What a person did about a transaction."""

    state: State  # that they set
    is_true_positive: bool | None  # their feedback, given with it; None without
    # author, note: theirs.
    author: str
    note: str
    changed_at: float  # Unix seconds


@dataclass(frozen=True, slots=True)
class Case:
    """A transaction with its alerts."""

    alerts: tuple[Alert, ...]  # all of them, the most severe first
    triage: Triage  # what has been done about it
    verdicts: dict[str, bool]  # author -> whether their newest one says true positive
    sentence: str  # who gained and lost what; the top alert's description where that is unknown

    @property
    def top(self) -> Alert:
        """The most severe alert; what it says of the transaction, the others say too."""
        return self.alerts[0]

    @property
    def action(self) -> int:
        """The most drastic action of its alerts."""
        return max(alert.action for alert in self.alerts)


def list_cases(
    connection: Connection,
    wanted: AlertFilter,
    *,
    sort: CaseSort = "time",
    descending: bool = True,
    limit: int = 50,
    offset: int = 0,
) -> list[Case]:
    """A page of the cases with an alert that matches."""
    page = _ordered(_grouped(wanted), sort, descending=descending).limit(limit).offset(offset)
    keys = [(row.chain_id, row.tx_hash) for row in connection.execute(page)]
    return [case for chunk in in_chunks(keys) for case in _find_cases(connection, chunk)]


def _find_cases(connection: Connection, keys: Collection[TransactionKey]) -> list[Case]:
    """The cases of these transactions, in this order; without those that have no alerts."""
    query = select(alerts).where(is_one_of(alerts, keys))
    found: dict[TransactionKey, list[Alert]] = {}
    for alert in read_alerts(connection, query):
        found.setdefault((alert.chain_id, alert.tx_hash), []).append(alert)
    states = {
        (row.chain_id, row.tx_hash): Triage(row.state, row.author, row.note, row.changed_at)
        for row in connection.execute(select(triage).where(is_one_of(triage, keys)))
    }
    decided = decided_on(connection, keys)
    verdicts = _newest_verdicts(connection, keys)
    made = []
    for key in keys:
        if key in found:
            own = tuple(sorted(found[key], key=_most_severe_first))
            sentence = decided.get(key, Decided()).summary or own[0].description
            given = _verdicts_by_time(own) | verdicts.get(key, {})
            made.append(Case(own, states.get(key, Triage()), given, sentence))
    return made


def _verdicts_by_time(own: Collection[Alert]) -> dict[str, bool]:
    """By author; of feedback from before there was a history of triage, times are all we know."""
    given = sorted((one for alert in own for one in alert.feedback), key=lambda one: one.given_at)
    return {one.author: one.is_true_positive for one in given}


def _newest_verdicts(
    connection: Connection, keys: Collection[TransactionKey]
) -> dict[TransactionKey, dict[str, bool]]:
    """By case and author; the newest is the last one stored, whatever the clock said."""
    key = triage_changes.c.chain_id, triage_changes.c.tx_hash
    newest = (
        select(func.max(triage_changes.c.id))
        .where(is_one_of(triage_changes, keys))
        .where(triage_changes.c.is_true_positive.is_not(None))
        .group_by(*key, triage_changes.c.author)
    )
    found: dict[TransactionKey, dict[str, bool]] = {}
    for row in connection.execute(
        select(*key, triage_changes.c.author, triage_changes.c.is_true_positive)
        .where(triage_changes.c.id.in_(newest))
        .order_by(triage_changes.c.id)
    ):
        found.setdefault((row.chain_id, row.tx_hash), {})[row.author] = row.is_true_positive
    return found


def cases_of(connection: Connection, numbers: Collection[int]) -> list[TransactionKey]:
    """The transactions of these alerts."""
    query = (
        select(alerts.c.chain_id, alerts.c.tx_hash)
        .where(alerts.c.id.in_(list(numbers)))
        .distinct()
        .order_by(alerts.c.chain_id, alerts.c.tx_hash)
    )
    return [(row.chain_id, row.tx_hash) for row in connection.execute(query)]


def set_triage(
    connection: Connection,
    keys: Sequence[TransactionKey],
    state: State,
    *,
    author: str,
    note: str,
    now: float,
    is_true_positive: bool | None = None,
    alert: int | None = None,
) -> None:
    """Set the state of transactions, with feedback where a verdict is given.

    The feedback is on all their alerts, or only on `alert`.
    """
    set_to = {"state": state, "author": author, "note": note, "changed_at": now}
    rows = [{"chain_id": chain_id, "tx_hash": tx_hash, **set_to} for chain_id, tx_hash in keys]
    put(connection, triage, rows)
    if rows:
        verdict = {"is_true_positive": is_true_positive}
        connection.execute(insert(triage_changes), [row | verdict for row in rows])
    if is_true_positive is None:
        return
    wanted = is_one_of(alerts, keys) if alert is None else alerts.c.id == alert
    for number in connection.scalars(select(alerts.c.id).where(wanted)).all():
        give_feedback(
            connection, number, author, is_true_positive=is_true_positive, note=note, now=now
        )


def triage_history(connection: Connection, chain_id: int, tx_hash: str) -> list[TriageChange]:
    """What was done about a transaction, newest first; a hundred changes at most."""
    rows = connection.execute(
        select(*(triage_changes.c[name] for name in TriageChange.__slots__))
        .where(is_one_of(triage_changes, [(chain_id, tx_hash)]))
        .order_by(triage_changes.c.id.desc())
        .limit(_MAX_CHANGES)
    )
    return [TriageChange(*row) for row in rows]


def count_cases(connection: Connection, wanted: AlertFilter) -> Counter[tuple[int, State]]:
    """The number of cases with an alert that matches, by action and state."""
    cases = _grouped(wanted).add_columns(func.max(alerts.c.action).label("action")).subquery()
    state = func.coalesce(triage.c.state, "new")
    rows = connection.execute(
        select(cases.c.action, state, func.count())
        .select_from(cases.outerjoin(triage, same_transaction(triage, cases)))
        .group_by(cases.c.action, state)
    )
    return Counter({(action, state): count for action, state, count in rows})


def _grouped(wanted: AlertFilter) -> Select[Any]:
    """The keys of the cases; action and severity are those of a case, not of any of its alerts."""
    keys = alerts.c.chain_id, alerts.c.tx_hash
    condition = condition_of(replace(wanted, action=None, severity=None))
    groups = select(*keys).where(condition).group_by(*keys)
    if wanted.action is not None:
        groups = groups.having(func.max(alerts.c.action) == wanted.action)
    if wanted.severity is not None:
        rank = SEVERITIES.index(wanted.severity)
        groups = groups.having(func.max(severity_rank()) == rank)
    return groups


def _ordered(groups: Select[Any], sort: CaseSort, *, descending: bool) -> Select[Any]:
    columns: dict[CaseSort, ColumnElement[Any]] = {
        "time": alerts.c.block_timestamp,
        "severity": severity_rank(),
        "action": alerts.c.action,
        "score": alerts.c.score,
        "gained": alerts.c.gained_usd,
    }
    key, newest = func.max(columns[sort]), func.max(alerts.c.id)
    if descending:
        return groups.order_by(key.desc().nulls_last(), newest.desc())
    return groups.order_by(key.asc().nulls_last(), newest.asc())


def _most_severe_first(alert: Alert) -> tuple[int, int, int]:
    rank = SEVERITIES.index(alert.severity) if alert.severity in SEVERITIES else -1
    return -rank, -alert.action, alert.id
