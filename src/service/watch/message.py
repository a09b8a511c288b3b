"""What a notification says: about an alert, and what is known of its transaction."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection

from src.chain.networks import described, network
from src.decision.alerts import Severity
from src.decision.tokens import TokenView, decimals_of
from src.detection.detectors.base import than_training
from src.detection.records import NATIVE, NATIVE_DECIMALS, Action, net_changes
from src.service.balances import all_transfers, shown_label
from src.service.database.alerts import Alert, find_alert
from src.service.database.chain import find_tokens, find_transaction
from src.service.database.decisions import StoredDecision, newest_decision
from src.service.database.watching import DueNotification
from src.service.formatting import exact_amount

_MAX_CHANGES: Final = 20
_LATEST_SHOWN: Final = 2**37
_LEVELS: Final = {
    Severity.MEDIUM: "warning",
    Severity.HIGH: "failure",
    Severity.CRITICAL: "failure",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """A notification as its receivers get it."""

    uuid: str  # the same for each attempt, and unique
    title: str  # in a few words
    text: str  # for people
    level: str  # the kind of message for chat services: info, warning or failure
    content: dict[str, Any]  # in the format of webhooks


def read_message(
    connection: Connection, notification: DueNotification, public_url: str | None
) -> Notice | None:
    """What to tell about an alert; None if there is nothing left to say.

    An orphaned alert is not told, and one that is in the chain is not retracted.

    Args:
        connection: of the database that has the alert.
        notification: that is due.
        public_url: where people see the service's pages, or None.
    """
    alert, is_retraction = find_alert(connection, notification.alert), notification.is_retraction
    if alert is None or alert.orphaned != is_retraction:
        return None
    decision = newest_decision(connection, alert.chain_id, alert.tx_hash)
    links = _links(alert, public_url)
    told = f"{Action(alert.action).name}: {alert.name}"
    level = "info" if is_retraction else _LEVELS.get(Severity(alert.severity), "info")
    return Notice(
        uuid=notification.uuid,
        title=f"Retracted: {told}" if is_retraction else told,
        text="\n".join([*_lines(alert, decision, is_retraction=is_retraction), *links.values()]),
        level=level,
        content={
            "notification_id": notification.uuid,
            "event": "retraction" if is_retraction else "alert",
            "id": alert.id,
            "alert_id": alert.alert_id,
            "name": alert.name,
            "description": alert.description,
            "summary": decision.summary if decision else None,
            "reason": alert.reason,
            "severity": alert.severity,
            "action": Action(alert.action).name,
            "chain_id": alert.chain_id,
            "transaction_hash": alert.tx_hash,
            "from_address": alert.from_address,
            "block_number": alert.block_number,
            "block_timestamp": alert.block_timestamp,
            "links": links,
            "gained_usd": alert.gained_usd,
            "lost_usd": alert.lost_usd,
            "details": {
                "score": alert.score,
                "percentile": decision.percentile if decision else None,
                "attack_score": alert.attack_score,
                "reasons": decision.reasons if decision else [],
                "changes": _changes(connection, alert),
            },
        },
    )


def _links(alert: Alert, public_url: str | None) -> dict[str, str]:
    """Pages about the transaction: the chain's explorer, and the service's own."""
    found = {}
    explorer = network(alert.chain_id).explorer
    if explorer is not None:
        found["explorer"] = f"{explorer.rstrip('/')}/tx/{alert.tx_hash}"
    if public_url is not None:
        found["page"] = f"{public_url.rstrip('/')}/ui/transactions/{alert.tx_hash}"
    return found


def _lines(alert: Alert, decision: StoredDecision | None, *, is_retraction: bool) -> Iterator[str]:
    if is_retraction:
        yield "A reorganisation of the chain removed this transaction."
    summary = decision.summary if decision is not None else None
    yield from filter(None, (alert.description, summary, alert.reason))
    if decision is not None and decision.score is not None and decision.percentile is not None:
        yield f"Anomaly score {decision.score:.3f}, higher {than_training(decision.percentile)}"
    yield f"Transaction {alert.tx_hash} on {described(alert.chain_id)}"
    if alert.block_timestamp is not None and alert.block_timestamp < _LATEST_SHOWN:
        moment = datetime.fromtimestamp(alert.block_timestamp, UTC)
        yield f"Block {alert.block_number}, {moment:%Y-%m-%d %H:%M:%S} UTC"


def _changes(connection: Connection, alert: Alert) -> list[dict[str, Any]]:
    """What accounts gained and lost, those of the sender first; a few, balanced ones left out."""
    found = find_transaction(connection, alert.chain_id, alert.tx_hash)
    if found is None:
        return []
    transaction, _ = found
    moved = all_transfers(transaction)
    tokens = find_tokens(connection, alert.chain_id, {one.token for one in moved})
    symbol = network(alert.chain_id).native_symbol
    tokens[NATIVE] = TokenView(NATIVE, symbol, symbol, NATIVE_DECIMALS, well_known=True)
    changes = [
        {
            "account": account,
            "token": None if token == NATIVE else token,
            "symbol": shown_label(token, tokens),
            "amount": exact_amount(abs(net), decimals_of(token, tokens)).replace(",", ""),
            "is_gain": net > 0,
        }
        for account, own in net_changes(moved).items()
        for token, net in own.items()
        if net
    ]
    return sorted(changes, key=lambda change: change["account"] != transaction.sender)[
        :_MAX_CHANGES
    ]
