"""What is known of a transaction besides its transfers: its method, its sender, what it called."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, func, select

from src.chain.names.methods import signature_of
from src.chain.quantities import duration
from src.chain.transactions import creation_nonce
from src.decision.readable_features import ACCOUNT_AGE
from src.service.database.alerts import AlertFilter, condition_of
from src.service.database.chain import Seen, seen_as
from src.service.database.decisions import StoredDecision
from src.service.database.tables import alerts
from src.service.records import LoadedTransaction

_STATUSES: Final[Mapping[int | None, str]] = {1: "succeeded", 0: "reverted"}


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts for display; None is unknown."""

    method: str | None  # a well-known signature with the transaction's selector
    status: str | None  # succeeded or reverted
    sender_age: str | None  # since the sender's first transaction, and which source says so
    # sender_seen, called_seen: stored transactions of the sender, and to the contract called.
    sender_seen: Seen | None
    called_seen: Seen | None
    sender_alerts: int  # alerts of the sender about other transactions of the chain
    created_by: int | None  # nonce of the sender's transaction that created the contract called
    called_is_new: bool | None  # whether that was younger than a day


def read_facts(
    connection: Connection,
    chain_id: int,
    transaction: LoadedTransaction,
    decision: StoredDecision | None,
    features: Mapping[str, Any] | None,
) -> Facts:
    """Read the facts about a stored transaction."""
    sender, called = transaction.sender, transaction.to
    sender_alerts = 0
    if sender is not None:
        own = condition_of(AlertFilter(chain_id=chain_id, sender=sender))
        others = select(func.count()).where(own, alerts.c.tx_hash != transaction.tx_hash)
        sender_alerts = connection.scalar(others) or 0
    return Facts(
        method=signature_of(transaction.selector),
        status=_STATUSES.get(transaction.status),
        sender_age=_age(features or {}),
        sender_seen=seen_as(connection, chain_id, "sender", sender) if sender else None,
        called_seen=seen_as(connection, chain_id, "called", called) if called else None,
        sender_alerts=sender_alerts,
        created_by=creation_nonce(sender, transaction.nonce, called),
        called_is_new=decision.called_is_new if decision is not None else None,
    )


def _age(features: Mapping[str, Any]) -> str | None:
    minutes, source = features.get(ACCOUNT_AGE), features.get(f"{ACCOUNT_AGE}_source")
    if not isinstance(minutes, int | float) or minutes < 0:
        return None
    return f"{duration(minutes)} ({source})" if source else duration(minutes)
