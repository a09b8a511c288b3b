"""Decisions and the features that they are based on."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, func, select

from src.service.database.engine import Database, in_chunks, put
from src.service.database.tables import (
    TransactionKey,
    decisions,
    features,
    is_one_of,
    of_transaction,
    same_transaction,
    transactions,
)

Json = dict[str, Any]

_COLUMNS: Final = [column for column in decisions.c if column.name != "number"]
# Building a query takes longer than the database takes to answer.
_FIND: Final = (
    select(*_COLUMNS)
    .join(transactions, same_transaction(transactions, decisions))
    .where(decisions.c.chain_id == bindparam("chain_id"))
    .where(decisions.c.tx_hash == bindparam("tx_hash"))
    .where(decisions.c.decider == bindparam("decider"))
    .where(transactions.c.orphaned.is_(False))
)


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """The decision on one transaction."""

    # chain_id, tx_hash: the transaction.
    chain_id: int
    tx_hash: str
    decider: str  # fingerprint of the model and the policy that decided
    model_version: str  # creation time of the model, Unix seconds, as in findings
    action: int  # `Action`'s value
    # Verdicts with a reason, the deciding one first, as objects with `detector`, `action`,
    # `reason`, `status`.
    reasons: list[Json]
    shadow: list[Json]  # the same for detectors in shadow
    score: float | None  # unrounded, None if the transaction could not be scored
    percentile: float | None  # share of training transactions with a lower score, percent
    threshold: float | None  # scores at or above it are anomalies
    prediction: str | None  # NORMAL, ANOMALY, or None
    # Objects with `feature`, `value`, `weight`, `factor`, largest weight first.
    explanation: list[Json] | None
    attack_score: float | None  # unrounded, None if there is none
    attack_model_version: str | None  # of the attack model behind it
    # As `explanation`, without factors; None below the score from which the policy requests a
    # review.
    attack_explanation: list[Json] | None
    invalid_reason: str | None  # why it could not be scored, or None
    decided_at: float  # Unix seconds
    # What was gained and lost, see `decision.money.Money.as_json`; None where nothing is reported.
    money: Json | None = None
    summary: str | None = None  # who gained and lost what, in one sentence; None without transfers
    # Whether the contract called was younger than a day; None if unknown.
    called_is_new: bool | None = None


class Decided(NamedTuple):
    """A decision in short; None where there is none."""

    action: int | None = None
    score: float | None = None
    summary: str | None = None


def store_decision(connection: Connection, decision: StoredDecision, named: Json) -> None:
    """Store a decision and its features; the transaction must be stored."""
    row = {name: getattr(decision, name) for name in StoredDecision.__slots__}
    last = select(func.max(decisions.c.number)).where(decisions.c.chain_id == decision.chain_id)
    put(connection, decisions, [row | {"number": (connection.scalar(last) or 0) + 1}])
    put(
        connection,
        features,
        [
            {
                "chain_id": decision.chain_id,
                "tx_hash": decision.tx_hash,
                "model_version": decision.model_version,
                "features": named,
            }
        ],
    )


def find_decision(
    database: Database, chain_id: int, tx_hash: str, decider: str
) -> StoredDecision | None:
    """The decision by this decider; None if there is none or the transaction is orphaned."""
    wanted = {"chain_id": chain_id, "tx_hash": tx_hash, "decider": decider}
    row = database.first(_FIND, wanted)
    return None if row is None else StoredDecision(**row)


def newest_decision(
    connection: Connection, chain_id: int, tx_hash: str, decider: str = ""
) -> StoredDecision | None:
    """The decision on a transaction by a decider, or else the newest by any, for display."""
    row = connection.execute(
        select(*_COLUMNS)
        .where(of_transaction(decisions, chain_id, tx_hash))
        .order_by((decisions.c.decider == decider).desc(), decisions.c.number.desc())
        .limit(1)
    ).first()
    return None if row is None else StoredDecision(**row._mapping)


def newest_decision_time(connection: Connection, chain_id: int) -> float | None:
    """When the newest decision was made, Unix seconds; None if there is none."""
    newest = (
        select(decisions.c.decided_at)
        .where(decisions.c.chain_id == chain_id)
        .order_by(decisions.c.number.desc())
        .limit(1)
    )
    found: float | None = connection.scalar(newest)
    return found


def decided_on(
    connection: Connection, keys: Iterable[TransactionKey]
) -> dict[TransactionKey, Decided]:
    """The newest decisions on these transactions, in short."""
    found: dict[TransactionKey, Decided] = {}
    columns = [decisions.c[name] for name in ("chain_id", "tx_hash", *Decided._fields)]
    for chunk in in_chunks(keys):
        query = select(*columns).where(is_one_of(decisions, chunk)).order_by(decisions.c.number)
        for chain_id, tx_hash, *said in connection.execute(query):
            found[chain_id, tx_hash] = Decided(*said)
    return found


def find_features(
    connection: Connection, chain_id: int, tx_hash: str, model_version: str
) -> Json | None:
    """The features that a decision is based on, by name; None for unavailable ones."""
    found = connection.scalar(
        select(features.c.features)
        .where(of_transaction(features, chain_id, tx_hash))
        .where(features.c.model_version == model_version)
    )
    return None if found is None else dict(found)
