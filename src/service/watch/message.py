"""What a notification says: about an alert, and what is known of its transaction."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection

from src.chain.networks import described, network
from src.decision.alerts import Severity
from src.decision.tokens import TokenView
from src.detection.detectors.base import than_training
from src.detection.records import NATIVE, NATIVE_DECIMALS, Action
from src.service.balances import Net, all_transfers, shown_changes
from src.service.database.alerts import Alert, find_alert
from src.service.database.chain import find_tokens, find_transaction
from src.service.database.decisions import StoredDecision, newest_decision
from src.service.database.watching import DueNotification

_MAX_CHANGES: Final = 20
_LATEST_SHOWN: Final = 2**37
_LEVELS: Final = {
    Severity.MEDIUM: "warning",
    Severity.HIGH: "failure",
    Severity.CRITICAL: "failure",
}


@dataclass(frozen=True, slots=True)
class Message:
    """A notification."""

    uuid: str  # the same for each attempt, and unique
    alert: Alert  # what it is about
    # A reorganisation removed the alert's transaction after it was notified.
    is_retraction: bool = False
    decision: StoredDecision | None = None  # the newest on the transaction, if it is stored
    # What accounts gained and lost, the sender's first.
    changes: list[Net] = field(default_factory=list)
    public_url: str | None = None  # where people see the service's pages, or None

    @property
    def title(self) -> str:
        """In a few words."""
        told = f"{Action(self.alert.action).name}: {self.alert.name}"
        return f"Retracted: {told}" if self.is_retraction else told

    @property
    def level(self) -> str:
        """The kind of message for chat services: info, warning or failure."""
        if self.is_retraction:
            return "info"
        return _LEVELS.get(Severity(self.alert.severity), "info")

    @property
    def links(self) -> dict[str, str]:
        """Pages about the transaction: the chain's explorer, and the service's own."""
        found = {}
        explorer = network(self.alert.chain_id).explorer
        if explorer is not None:
            found["explorer"] = f"{explorer.rstrip('/')}/tx/{self.alert.tx_hash}"
        if self.public_url is not None:
            found["page"] = f"{self.public_url.rstrip('/')}/ui/transactions/{self.alert.tx_hash}"
        return found

    @property
    def text(self) -> str:
        """For people."""
        alert = self.alert
        lines = []
        if self.is_retraction:
            lines.append("A reorganisation of the chain removed this transaction.")
        decision = self.decision
        summary = decision.summary if decision is not None else None
        lines += [line for line in (alert.description, summary, alert.reason) if line]
        if decision is not None and decision.score is not None and decision.percentile is not None:
            lines.append(
                f"Anomaly score {decision.score:.3f}, higher {than_training(decision.percentile)}"
            )
        lines.append(f"Transaction {alert.tx_hash} on {described(alert.chain_id)}")
        if alert.block_timestamp is not None and alert.block_timestamp < _LATEST_SHOWN:
            moment = datetime.fromtimestamp(alert.block_timestamp, UTC)
            lines.append(f"Block {alert.block_number}, {moment:%Y-%m-%d %H:%M:%S} UTC")
        return "\n".join([*lines, *self.links.values()])

    def as_json(self) -> dict[str, Any]:
        """In the format of webhooks."""
        alert, decision = self.alert, self.decision
        return {
            "notification_id": self.uuid,
            "event": "retraction" if self.is_retraction else "alert",
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
            "links": self.links,
            "gained_usd": alert.gained_usd,
            "lost_usd": alert.lost_usd,
            "details": {
                "score": alert.score,
                "percentile": decision.percentile if decision else None,
                "attack_score": alert.attack_score,
                "reasons": decision.reasons if decision else [],
                "changes": [
                    {
                        "account": change.account,
                        "token": None if change.token == NATIVE else change.token,
                        "symbol": change.label,
                        "amount": change.exact.replace(",", ""),
                        "is_gain": change.is_gain,
                    }
                    for change in self.changes[:_MAX_CHANGES]
                ],
            },
        }


def read_message(
    connection: Connection,
    notification: DueNotification,
    public_url: str | None,
) -> Message | None:
    """The notification's contents; None if there is nothing left to say.

    An orphaned alert is not told, and one that is in the chain is not retracted.
    """
    alert = find_alert(connection, notification.alert)
    if alert is None or alert.orphaned != notification.is_retraction:
        return None
    changes: list[Net] = []
    found = find_transaction(connection, alert.chain_id, alert.tx_hash)
    if found is not None:
        transaction, _ = found
        moved = all_transfers(transaction)
        tokens = find_tokens(connection, alert.chain_id, {one.token for one in moved})
        symbol = network(alert.chain_id).native_symbol
        tokens[NATIVE] = TokenView(NATIVE, symbol, symbol, NATIVE_DECIMALS, well_known=True)
        changes = shown_changes(moved, tokens)
        changes.sort(key=lambda change: change.account != transaction.sender)
    return Message(
        uuid=notification.uuid,
        alert=alert,
        is_retraction=notification.is_retraction,
        decision=newest_decision(connection, alert.chain_id, alert.tx_hash),
        changes=changes,
        public_url=public_url,
    )
