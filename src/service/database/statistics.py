"""Statistics of the overview: counts over a span of block time."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, select

from src.service.database.tables import (
    alerts,
    decisions,
    same_transaction,
    tokens,
    transactions,
    transfers,
)

SCORE_BINS = 50
"""Bins of the score histogram over [0, 1]."""


_TOP = 6


@dataclass(frozen=True, slots=True)
class Count:
    """The number of occurrences of a key, with its display name."""

    key: str
    label: str
    count: int


@dataclass(frozen=True, slots=True)
class Overview:
    """Statistics of a span of block time, without orphaned transactions."""

    transactions: int  # decided transactions
    anomalies: int  # anomalies among them
    invalid: int  # those among them that could not be scored
    # (start of the bucket in Unix seconds, severity, count), by time.
    alerts_over_time: list[tuple[int, str, int]]
    score_histogram: list[int]  # counts in `SCORE_BINS` equal bins over [0, 1]
    actions: dict[int, int]  # action -> decided transactions
    top_tokens: list[Count]  # most often in alerts first
    top_senders: list[Count]  # most alerts first


def block_times(connection: Connection, chain_id: int) -> tuple[int, int] | None:
    """The first and last block time of decided transactions, or None if there are none."""
    row = connection.execute(
        select(func.min(transactions.c.block_timestamp), func.max(transactions.c.block_timestamp))
        .select_from(_decided)
        .where(transactions.c.chain_id == chain_id)
    ).one()
    return None if row[0] is None else (row[0], row[1])


def overview(
    connection: Connection,
    chain_id: int,
    decider: str,
    *,
    since: int,
    until: int,
    bucket_seconds: int,
) -> Overview:
    """The statistics of a span of block time, both ends included, for one decider."""
    decided = _decided_within(chain_id, decider, since, until)
    alerted = and_(
        alerts.c.chain_id == chain_id,
        alerts.c.block_timestamp.between(since, until),
        alerts.c.orphaned.is_(False),
    )
    number, anomalies, invalid = connection.execute(
        select(
            func.count(),
            func.coalesce(func.sum(case((decisions.c.prediction == "ANOMALY", 1), else_=0)), 0),
            func.coalesce(func.sum(case((decisions.c.score.is_(None), 1), else_=0)), 0),
        )
        .select_from(_decided)
        .where(decided)
    ).one()
    return Overview(
        transactions=number,
        anomalies=int(anomalies),
        invalid=int(invalid),
        alerts_over_time=_over_time(connection, alerted, bucket_seconds),
        score_histogram=_histogram(connection, decided),
        actions=_actions(connection, decided),
        top_tokens=_top_tokens(connection, alerted),
        top_senders=_top_senders(connection, alerted),
    )


_decided = decisions.join(transactions, same_transaction(transactions, decisions))


def _decided_within(chain_id: int, decider: str, since: int, until: int) -> ColumnElement[bool]:
    return and_(
        decisions.c.chain_id == chain_id,
        decisions.c.decider == decider,
        transactions.c.orphaned.is_(False),
        transactions.c.block_timestamp.between(since, until),
    )


def _over_time(
    connection: Connection, alerted: ColumnElement[bool], seconds: int
) -> list[tuple[int, str, int]]:
    bucket = alerts.c.block_timestamp - alerts.c.block_timestamp % seconds
    rows = connection.execute(
        select(bucket, alerts.c.severity, func.count())
        .where(alerted)
        .group_by(bucket, alerts.c.severity)
        .order_by(bucket, alerts.c.severity)
    )
    return [(start, severity, count) for start, severity, count in rows]


def _histogram(connection: Connection, decided: ColumnElement[bool]) -> list[int]:
    bins = [0] * SCORE_BINS
    number = func.floor(decisions.c.score * SCORE_BINS)
    rows = connection.execute(
        select(number, func.count())
        .select_from(_decided)
        .where(decided, decisions.c.score.is_not(None))
        .group_by(number)
    )
    for position, count in rows:
        bins[min(int(position), SCORE_BINS - 1)] += count
    return bins


def _actions(connection: Connection, decided: ColumnElement[bool]) -> dict[int, int]:
    rows = connection.execute(
        select(decisions.c.action, func.count())
        .select_from(_decided)
        .where(decided)
        .group_by(decisions.c.action)
    )
    return {action: count for action, count in rows}  # noqa: C416 - rows are no pairs to mypy


def _top_tokens(connection: Connection, alerted: ColumnElement[bool]) -> list[Count]:
    alert_count: Any = func.count(alerts.c.id.distinct()).label("alert_count")
    moved = alerts.join(transfers, same_transaction(transfers, alerts)).outerjoin(
        tokens, (tokens.c.chain_id == alerts.c.chain_id) & (tokens.c.address == transfers.c.token)
    )
    plain = case((tokens.c.impersonates.is_(False), tokens.c.symbol))  # the address says the others
    rows = connection.execute(
        select(transfers.c.token, func.max(plain), alert_count)
        .select_from(moved)
        .where(alerted)
        .group_by(transfers.c.token)
        .order_by(alert_count.desc(), transfers.c.token)
        .limit(_TOP)
    )
    return [Count(token, symbol or token, count) for token, symbol, count in rows]


def _top_senders(connection: Connection, alerted: ColumnElement[bool]) -> list[Count]:
    alert_count: Any = func.count().label("alert_count")
    rows = connection.execute(
        select(alerts.c.from_address, alert_count)
        .where(alerted, alerts.c.from_address.is_not(None))
        .group_by(alerts.c.from_address)
        .order_by(alert_count.desc(), alerts.c.from_address)
        .limit(_TOP)
    )
    return [Count(sender, sender, count) for sender, count in rows]
