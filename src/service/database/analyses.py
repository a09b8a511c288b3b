"""Results of the batch analysis; equal analyses are stored once."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    delete,
    distinct,
    exists,
    func,
    select,
    update,
)

from src.service.database.engine import (
    Database,
    first_record,
    in_chunks,
    insert_missing,
    record,
    records,
)
from src.service.database.tables import analyses, analysis_rows, jobs

RowSort = Literal["score", "gas"]


@dataclass(frozen=True, slots=True)
class AnalysisRow:
    """One token of one transaction in an analysis."""

    rank: int  # of the transaction, 0 = most anomalous; its tokens share it
    token: str  # address
    tx_hash: str  # the transaction
    label: str  # the token's display name; unique within the transaction
    value: float  # amount moved, in token units
    gas_cost: float  # ETH
    score: float  # of this transaction and token, in [0, 1], near 1 = anomalous
    tx_score: float  # of the transaction: the highest of its rows
    is_anomaly: bool  # whether the forest classifies this row as an anomaly, and so the transaction


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an analysis: the transactions with a row within these bounds, ends included."""

    # value_from, value_to: of the amount moved.
    value_from: float = 0.0
    value_to: float = sys.float_info.max
    # gas_from, gas_to: of the gas cost.
    gas_from: float = 0.0
    gas_to: float = sys.float_info.max

    def rows(self, identity: str) -> ColumnElement[bool]:
        """Which rows of an analysis are within the bounds."""
        return and_(
            analysis_rows.c.analysis == identity,
            analysis_rows.c.value.between(self.value_from, self.value_to),
            analysis_rows.c.gas_cost.between(self.gas_from, self.gas_to),
        )


@dataclass(frozen=True, slots=True)
class PlacedRow:
    """A row with its place among all of the analysis."""

    row: AnalysisRow
    value_place: float  # share of the other rows whose value is lower
    gas_place: float  # share of the other transactions whose gas cost is lower


@dataclass(frozen=True, slots=True)
class Analysis:
    """A finished analysis without its rows."""

    id: str  # SHA-256 of everything that determines the result
    chain_id: int
    start_block: int
    end_block: int
    end_block_hash: str
    model: int  # id in the registry of the model used
    n_transactions: int
    n_anomalies: int
    analysed_at: float  # when it was last run, Unix seconds


def store_analysis(database: Database, analysis: Analysis, rows: Iterable[AnalysisRow]) -> None:
    """Store an analysis; storing it again only renews its time, so that it is kept for longer.

    Each chunk of rows is a transaction, so that no other writer waits for a million of them; the
    analysis itself is the last one, so that it is complete as soon as it is there.
    """
    renewed = update(analyses).where(analyses.c.id == analysis.id)
    with database.writing() as connection:
        if connection.execute(renewed.values(analysed_at=analysis.analysed_at)).rowcount:
            return
    for chunk in in_chunks(rows):
        own = [{name: getattr(row, name) for name in AnalysisRow.__slots__} for row in chunk]
        with database.writing() as connection:
            insert_missing(
                connection, analysis_rows, [one | {"analysis": analysis.id} for one in own]
            )
    with database.writing() as connection:
        head = {name: getattr(analysis, name) for name in Analysis.__slots__}
        insert_missing(connection, analyses, [head])


def forget_analyses(database: Database, chain_id: int, before: float) -> None:
    """Delete the chain's analyses that were last run before a time, Unix seconds, and have no job.

    Each is a transaction of its own, so that no other writer waits for all of them.
    """
    old = and_(
        analyses.c.chain_id == chain_id,
        analyses.c.analysed_at < before,
        ~exists().where(jobs.c.analysis == analyses.c.id),
    )
    with database.reading() as connection:
        found = connection.scalars(select(analyses.c.id).where(old)).all()
    for identity in found:
        with database.writing() as connection:
            # Unless it was run again meanwhile.
            if connection.execute(delete(analyses).where(analyses.c.id == identity, old)).rowcount:
                connection.execute(
                    delete(analysis_rows).where(analysis_rows.c.analysis == identity)
                )


def find_analysis(connection: Connection, identity: str) -> Analysis | None:
    """One analysis."""
    return first_record(connection, Analysis, select(analyses).where(analyses.c.id == identity))


def latest_analyses(connection: Connection, chain_id: int, limit: int) -> list[Analysis]:
    """The chain's newest analyses, newest first."""
    ours = select(analyses).where(analyses.c.chain_id == chain_id)
    return records(connection, Analysis, ours.order_by(analyses.c.number.desc()).limit(limit))


def analysis_rows_of(
    connection: Connection,
    identity: str,
    *,
    anomalies_only: bool,
    limit: int | None = None,
    offset: int = 0,
) -> Sequence[AnalysisRow]:
    """Rows of the transactions ranked `offset` to `offset + limit`, most anomalous first.

    Anomalies have the first ranks, so the rank of an anomaly is the same with and without the
    other transactions.
    """
    query = (
        select(analysis_rows)
        .where(analysis_rows.c.analysis == identity)
        .where(analysis_rows.c.rank >= offset)
        .order_by(analysis_rows.c.rank, analysis_rows.c.token)
    )
    if limit is not None:
        query = query.where(analysis_rows.c.rank < offset + limit)
    if anomalies_only:
        flagged = select(analyses.c.n_anomalies).where(analyses.c.id == identity)
        query = query.where(analysis_rows.c.rank < flagged.scalar_subquery())
    return records(connection, AnalysisRow, query)


def rows_within(connection: Connection, identity: str, part: Part, limit: int) -> list[AnalysisRow]:
    """The first rows of a part, most anomalous first."""
    order = analysis_rows.c.rank, analysis_rows.c.token
    query = select(analysis_rows).where(part.rows(identity)).order_by(*order).limit(limit)
    return records(connection, AnalysisRow, query)


def count_within(connection: Connection, analysis: Analysis, part: Part) -> tuple[int, int]:
    """How many transactions and how many anomalies a part has."""
    rank = analysis_rows.c.rank
    anomalous = case((rank < analysis.n_anomalies, rank))  # anomalies have the first ranks
    counts = select(func.count(distinct(rank)), func.count(distinct(anomalous)))
    transactions, anomalies = connection.execute(counts.where(part.rows(analysis.id))).one()
    return transactions, anomalies


def placed_rows_of(
    connection: Connection,
    identity: str,
    *,
    part: Part,
    sort: RowSort,
    descending: bool,
    anomalies_only: bool,
    limit: int,
    offset: int,
) -> list[PlacedRow]:
    """The rows of a page of a part's transactions, each with its place among all rows."""
    of_it = analysis_rows.c.analysis == identity
    page = select(analysis_rows.c.rank).where(part.rows(identity)).group_by(analysis_rows.c.rank)
    if anomalies_only:
        flagged = select(analyses.c.n_anomalies).where(analyses.c.id == identity)
        page = page.where(analysis_rows.c.rank < flagged.scalar_subquery())
    # The first rank is the most anomalous one.
    key = -analysis_rows.c.rank if sort == "score" else func.max(analysis_rows.c.gas_cost)
    order = (key.desc(), analysis_rows.c.rank) if descending else (key, analysis_rows.c.rank.desc())
    ranks = connection.scalars(page.order_by(*order).limit(limit).offset(offset)).all()
    gas = (
        select(
            analysis_rows.c.rank,
            func.percent_rank()
            .over(order_by=func.max(analysis_rows.c.gas_cost))
            .label("gas_place"),
        )
        .where(of_it)
        .group_by(analysis_rows.c.rank)
        .subquery()
    )
    placed = (
        select(
            analysis_rows,
            func.percent_rank().over(order_by=analysis_rows.c.value).label("value_place"),
        )
        .where(of_it)
        .subquery()
    )
    rows = connection.execute(
        select(placed, gas.c.gas_place)
        .join(gas, gas.c.rank == placed.c.rank)
        .where(placed.c.rank.in_(ranks))
        .order_by(placed.c.rank, placed.c.token)
    )
    found = [PlacedRow(record(AnalysisRow, row), row.value_place, row.gas_place) for row in rows]
    at = {rank: position for position, rank in enumerate(ranks)}
    return sorted(found, key=lambda one: at[one.row.rank])
