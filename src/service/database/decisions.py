"""Decisions and the features that they stand on."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from src.service.database.engine import put
from src.service.database.tables import decisions, features, transactions

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """What was decided about one transaction.

    Attributes:
        chain_id, tx_hash: the transaction.
        decider: fingerprint of the model and the policy that decided.
        model_version: creation time of the model, Unix seconds, as findings carry it.
        action: `Action`'s value.
        reasons: verdicts that say something, the deciding one first, as objects with `detector`,
            `action`, `reason`, `status`.
        shadow: the same of detectors in shadow.
        score: unrounded, None where the transaction could not be scored.
        percentile: share of training transactions with a lower score, percent.
        threshold: scores from here on are anomalies.
        prediction: NORMAL, ANOMALY, or None.
        explanation: objects with `feature`, `value`, `weight`, `factor`, most weighty first.
        invalid_reason: why it could not be scored, or None.
        decided_at: Unix seconds.
    """

    chain_id: int
    tx_hash: str
    decider: str
    model_version: str
    action: int
    reasons: list[Json]
    shadow: list[Json]
    score: float | None
    percentile: float | None
    threshold: float | None
    prediction: str | None
    explanation: list[Json] | None
    invalid_reason: str | None
    decided_at: float


def store_decision(connection: Connection, decision: StoredDecision, named: Json) -> None:
    """Store a decision and its features; the transaction must be stored."""
    row = {name: getattr(decision, name) for name in StoredDecision.__slots__}
    put(connection, decisions, [row])
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
    connection: Connection, chain_id: int, tx_hash: str, decider: str
) -> StoredDecision | None:
    """The decision of this decider, unless the transaction is orphaned or was not decided."""
    row = connection.execute(
        select(decisions)
        .join(
            transactions,
            (transactions.c.chain_id == decisions.c.chain_id)
            & (transactions.c.tx_hash == decisions.c.tx_hash),
        )
        .where(decisions.c.chain_id == chain_id)
        .where(decisions.c.tx_hash == tx_hash)
        .where(decisions.c.decider == decider)
        .where(transactions.c.orphaned.is_(False))
    ).first()
    return None if row is None else _decision(row)


def newest_decision(connection: Connection, chain_id: int, tx_hash: str) -> StoredDecision | None:
    """The newest decision about a transaction, whoever decided; for people to look at."""
    row = connection.execute(
        select(decisions)
        .where(decisions.c.chain_id == chain_id)
        .where(decisions.c.tx_hash == tx_hash)
        .order_by(decisions.c.decided_at.desc())
        .limit(1)
    ).first()
    return None if row is None else _decision(row)


def find_features(
    connection: Connection, chain_id: int, tx_hash: str, model_version: str
) -> Json | None:
    """The features that a decision stands on, by name; None stands for what could not be had."""
    found = connection.scalar(
        select(features.c.features)
        .where(features.c.chain_id == chain_id)
        .where(features.c.tx_hash == tx_hash)
        .where(features.c.model_version == model_version)
    )
    return None if found is None else dict(found)


def _decision(row: Row[Any]) -> StoredDecision:
    return StoredDecision(**{name: getattr(row, name) for name in StoredDecision.__slots__})
