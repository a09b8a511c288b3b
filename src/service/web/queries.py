"""Database queries of the web pages."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, and_, select

from src.service.database.decisions import find_features
from src.service.database.tables import (
    TransactionKey,
    alerts,
    decisions,
    features,
    is_one_of,
    same_transaction,
    tokens,
    transactions,
    transfers,
)

COMPARED: Final = 2_000
"""Number of newest transactions to compare with."""

_MAX_TOKENS_SHOWN: Final = 4
_MAX_SIMILAR: Final = 8


@dataclass(frozen=True, slots=True)
class Company:
    """A transaction compared with the newest ones."""

    compared: int  # number of transactions compared with
    below: dict[str, float]  # input -> share of them with a lower value; equal values count half
    # The nearest ones with their distance: the root mean square difference of the model's inputs,
    # in standard deviations among the compared transactions; 0 for the very same features.
    similar: list[tuple[float, Row[Any]]]


def known_alert_ids(connection: Connection) -> Sequence[str]:
    """The alert ids in the database."""
    query = select(alerts.c.alert_id).distinct().order_by(alerts.c.alert_id)
    return connection.scalars(query).all()


def known_chains(connection: Connection) -> Sequence[int]:
    """The chains with alerts in the database."""
    query = select(alerts.c.chain_id).distinct().order_by(alerts.c.chain_id)
    return connection.scalars(query).all()


def tokens_moved(
    connection: Connection, keys: Collection[TransactionKey]
) -> dict[TransactionKey, list[tuple[str, str]]]:
    """(address, label) of a few tokens that each transaction moves."""
    rows = connection.execute(
        select(
            transfers.c.chain_id,
            transfers.c.tx_hash,
            transfers.c.token,
            tokens.c.symbol,
            tokens.c.impersonates,
        )
        .distinct()
        .outerjoin(
            tokens,
            and_(tokens.c.chain_id == transfers.c.chain_id, tokens.c.address == transfers.c.token),
        )
        .where(is_one_of(transfers, keys))
        .order_by(transfers.c.tx_hash, transfers.c.token)
    )
    found: dict[TransactionKey, list[tuple[str, str]]] = {}
    for row in rows:
        own = found.setdefault((row.chain_id, row.tx_hash), [])
        if len(own) < _MAX_TOKENS_SHOWN:
            # A list of alerts has no room for symbol and address: a dubious symbol is left out.
            plain = row.symbol and not row.impersonates
            own.append((row.token, row.symbol if plain else row.token))
    return found


def company_of(
    connection: Connection,
    chain_id: int,
    tx_hash: str,
    decider: str,
    model_version: str,
    inputs: Sequence[str],
) -> Company | None:
    """Compares a transaction with the newest ones; None if it or all others lack features."""
    rows = connection.execute(
        select(
            features.c.tx_hash,
            features.c.features,
            transactions.c.block_timestamp,
            transactions.c.from_address,
            decisions.c.action,
            decisions.c.score,
        )
        .join(transactions, same_transaction(transactions, features))
        .join(decisions, same_transaction(decisions, features))
        .where(
            features.c.chain_id == chain_id,
            features.c.model_version == model_version,
            features.c.tx_hash != tx_hash,
            decisions.c.decider == decider,
            transactions.c.orphaned.is_(False),
        )
        .order_by(transactions.c.block_number.desc(), features.c.tx_hash)
        .limit(COMPARED)
    ).all()
    own = find_features(connection, chain_id, tx_hash, model_version)
    row = None if own is None else _row(own, inputs)
    others = [(one, values) for one in rows if (values := _row(one.features, inputs)) is not None]
    if row is None or not others:
        return None
    table = np.array([values for _, values in others])
    spread = table.std(axis=0)
    distances = np.sqrt((((table - row) / np.where(spread > 0, spread, 1.0)) ** 2).mean(axis=1))
    nearest = np.argsort(distances, kind="stable")[:_MAX_SIMILAR]
    below = ((table < row).sum(axis=0) + (table == row).sum(axis=0) / 2) / len(table)
    return Company(
        compared=len(table),
        below=dict(zip(inputs, below.tolist(), strict=True)),
        similar=[
            (float(distances[position]), others[position][0]) for position in nearest.tolist()
        ],
    )


def _row(named: dict[str, object], inputs: Sequence[str]) -> NDArray[np.float64] | None:
    """The model's inputs, or None if one is missing."""
    values = [named.get(name) for name in inputs]
    if not all(isinstance(value, int | float) for value in values):
        return None
    return np.array(values, dtype=np.float64)
