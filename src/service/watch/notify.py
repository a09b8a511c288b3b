"""Alert notifications through Apprise channels and signed webhooks.

Notifications are queued in the database in the same transaction as the alert, and retried until
they are delivered or given up, so that neither a restart nor an unavailable receiver loses one. A
receiver may get the same notification twice, with the same id.
"""

import hashlib
import hmac
import json
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from src.chain.clients.http import HttpClient
from src.chain.clients.transport import PrivateAddress
from src.chain.errors import SourceUnavailable
from src.detection.records import Action
from src.monitoring import metrics
from src.monitoring.periodic import Periodic
from src.service.database.alerts import Alert, find_alert
from src.service.database.engine import Database
from src.service.database.watching import DueNotification, due_notifications, note_attempt
from src.service.settings import ServiceSettings
from src.variables import reveal

logger = logging.getLogger(__name__)

MAX_ATTEMPTS: Final = 12
SIGNATURE_HEADER: Final = "X-Signature"
TIMESTAMP_HEADER: Final = "X-Timestamp"

_FIRST_PAUSE = 5.0
_MAX_BACKOFF = 3_600.0
_TIMEOUT = 10.0
_POLL_SECONDS = 1.0


class Channel(Protocol):
    """One receiver."""

    @property
    def name(self) -> str:
        """The receiver's name in the database: a fingerprint, since its URL contains secrets."""

    def send(self, alert: Alert) -> str | None:
        """Send; returns None, or the reason of the failure, without secrets."""


class Webhook:
    """A URL that receives JSON, signed so that the receiver can verify origin and age.

    `X-Signature` is `sha256=` and the hex HMAC-SHA256, with the shared secret, of the value of
    `X-Timestamp`, a dot, and the body.

    Args:
        url: of the receiver.
        secret: shared with the receiver.
        allow_private: whether the receiver may be in a private network, see
            `chain.clients.transport`.
    """

    def __init__(self, url: str, secret: str, *, allow_private: bool = False) -> None:
        self.name = _fingerprint("webhook", url)
        self._http = HttpClient(
            "webhook", url, timeout=_TIMEOUT, max_bytes=0, public_only=not allow_private
        )
        self._secret = secret.encode()

    def send(self, alert: Alert) -> str | None:
        """See `Channel`."""
        body = json.dumps(as_json(alert), separators=(",", ":"), sort_keys=True).encode()
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "X-Notification-Id": str(alert.id),
            TIMESTAMP_HEADER: timestamp,
            SIGNATURE_HEADER: signature(self._secret, timestamp, body),
        }
        try:
            status = self._http.deliver(body, headers)
        except PrivateAddress:
            return "private address, see WEBHOOK_ALLOW_PRIVATE"
        except SourceUnavailable as error:
            return error.problem
        return None if 200 <= status < 300 else f"HTTP {status}"


class AppriseChannel:
    """Slack, Telegram, Discord, e-mail or another Apprise service, by its URL."""

    def __init__(self, url: str) -> None:
        import apprise  # noqa: PLC0415 - heavy, and rarely configured

        self.name = _fingerprint("apprise", url)
        self._apprise = apprise.Apprise()
        if not self._apprise.add(url):
            raise ValueError("NOTIFY_URLS: Apprise does not support one of the URLs")

    def send(self, alert: Alert) -> str | None:
        """See `Channel`."""
        action = Action(alert.action).name
        sent = self._apprise.notify(title=f"{action}: {alert.name}", body=_text(alert))
        return None if sent else "Apprise could not deliver the notification"


class Notifier:
    """Sends queued notifications in a background thread.

    Args:
        database: holds the queue.
        channels: the receivers.
        first_pause: seconds before the second attempt; doubled for each further attempt.
    """

    def __init__(
        self, database: Database, channels: Sequence[Channel], first_pause: float = _FIRST_PAUSE
    ) -> None:
        self._database = database
        self._channels = channels
        self._first_pause = first_pause
        self._sending = Periodic("notify", _POLL_SECONDS, self.send_due)

    @property
    def channel_names(self) -> list[str]:
        """Names of the channels to queue alerts for."""
        return [channel.name for channel in self._channels]

    def start(self) -> None:
        """Begin."""
        if self._channels:
            self._sending.start()

    def stop(self) -> None:
        """Stop after the current notification; queued ones stay queued."""
        self._sending.stop()

    def send_due(self) -> int:
        """Send due notifications; returns the number of delivered ones."""
        arrived = 0
        for channel in self._channels:
            with self._database.reading() as connection:
                due = due_notifications(connection, channel.name, time.time(), MAX_ATTEMPTS)
            for notification in due:
                if self._sending.stopping.is_set():
                    return arrived
                arrived += self._send(channel, notification)
        return arrived

    def _send(self, channel: Channel, notification: DueNotification) -> bool:
        with self._database.reading() as connection:
            alert = find_alert(connection, notification.alert)
        failure = None
        if alert is not None and not alert.orphaned:  # orphaned alerts are not sent
            try:
                failure = channel.send(alert)
            # A channel's library may raise anything; the queue must continue.
            except Exception as error:
                logger.exception("channel %s failed", channel.name)
                failure = type(error).__name__
        now = time.time()
        if failure is not None:
            metrics.error_occurred("NotificationFailed")
            logger.warning("notification to %s failed: %s", channel.name, failure)
        pause = min(self._first_pause * 2**notification.attempts, _MAX_BACKOFF)
        with self._database.writing() as connection:
            note_attempt(
                connection,
                notification,
                sent_at=now if failure is None else None,
                failure=failure,
                next_at=now + pause,
            )
        return failure is None


def channels_of(settings: ServiceSettings) -> list[Channel]:
    """The configured receivers.

    Raises:
        ValueError: Apprise does not support a URL; the message does not contain it.
    """
    webhooks: list[Channel] = [
        Webhook(
            url, reveal(settings.webhook_secret) or "", allow_private=settings.webhook_allow_private
        )
        for url in settings.webhook_urls
    ]
    return webhooks + [AppriseChannel(url) for url in settings.notify_urls]


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """The value of `X-Signature` for a webhook's timestamp and body."""
    digest = hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={digest.hexdigest()}"


def as_json(alert: Alert) -> dict[str, Any]:
    """An alert in the format of webhooks."""
    return {
        "id": alert.id,
        "alert_id": alert.alert_id,
        "name": alert.name,
        "description": alert.description,
        "reason": alert.reason,
        "severity": alert.severity,
        "action": Action(alert.action).name,
        "chain_id": alert.chain_id,
        "transaction_hash": alert.tx_hash,
        "from_address": alert.from_address,
        "block_number": alert.block_number,
        "block_timestamp": alert.block_timestamp,
    }


def _text(alert: Alert) -> str:
    lines = [alert.description, *([alert.reason] if alert.reason else [])]
    lines.append(f"Transaction {alert.tx_hash} on chain {alert.chain_id}")
    if alert.block_timestamp is not None and alert.block_timestamp < 2**37:
        moment = datetime.fromtimestamp(alert.block_timestamp, UTC)
        lines.append(f"Block {alert.block_number}, {moment:%Y-%m-%d %H:%M:%S} UTC")
    return "\n".join(lines)


def _fingerprint(kind: str, url: str) -> str:
    return f"{kind}-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
