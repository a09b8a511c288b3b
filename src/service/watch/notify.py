"""Alert notifications through Apprise channels and signed webhooks.

Notifications are queued in the database in the same transaction as the alert, and retried until
they are delivered or given up, so that neither a restart nor an unavailable receiver loses one. A
receiver may get the same notification twice, with the same id. If a reorganisation removes the
transaction of an alert that was delivered, a retraction follows.
"""

import hashlib
import hmac
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from src.chain.clients.http import HttpClient
from src.chain.clients.transport import PrivateAddress
from src.chain.errors import SourceUnavailable
from src.monitoring import metrics
from src.monitoring.periodic import Periodic
from src.service.database.engine import Database
from src.service.database.watching import (
    DueNotification,
    drop_notification,
    due_notifications,
    note_attempt,
)
from src.service.settings import ServiceSettings
from src.service.watch.message import Notice, read_message
from src.variables import SettingsError, reveal

logger = logging.getLogger(__name__)

MAX_ATTEMPTS: Final = 12
SIGNATURE_HEADER: Final = "X-Signature"
TIMESTAMP_HEADER: Final = "X-Timestamp"

_FIRST_PAUSE = 5.0
_MAX_BACKOFF = 3_600.0
_TIMEOUT = 10.0
_POLL_SECONDS = 1.0

_OUR_LINK = re.compile(r"https?://\S+/(?:tx|ui/transactions|ui/screenings)/[0-9A-Za-z-]+")
# Of mentions, of Slack's markup, and of links.
_ACTIVE = re.compile(r"[@<]|:(?=//)|\.(?=[^\W\d_])")


class Channel(Protocol):
    """One receiver."""

    @property
    def name(self) -> str:
        """The receiver's name in the database: a fingerprint, since its URL contains secrets."""

    def send(self, message: Notice) -> str | None:
        """Send; returns None, or the reason of the failure, without secrets."""


class Webhook:
    """A URL that receives JSON, signed so that the receiver can verify origin and age.

    `X-Signature` is `sha256=` and the hex HMAC-SHA256, with the shared secret, of the value of
    `X-Timestamp`, a dot, and the body. `allow_private`: the receiver may be in a private network,
    see `chain.clients.transport`.
    """

    def __init__(self, url: str, secret: str, *, allow_private: bool = False) -> None:
        self.name = _fingerprint("webhook", url)
        self._http = HttpClient(
            "webhook", url, timeout=_TIMEOUT, max_bytes=0, public_only=not allow_private
        )
        self._secret = secret.encode()

    def send(self, message: Notice) -> str | None:
        """See `Channel`."""
        body = json.dumps(message.content, separators=(",", ":"), sort_keys=True).encode()
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "X-Notification-Id": message.uuid,
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
        self._types = {
            "info": apprise.NotifyType.INFO,
            "warning": apprise.NotifyType.WARNING,
            "failure": apprise.NotifyType.FAILURE,
        }
        # Not markup: a name in it is anybody's.
        self._text_format = apprise.NotifyFormat.TEXT
        if not self._apprise.add(url):
            raise SettingsError("NOTIFY_URLS", "URLs that Apprise supports")

    def send(self, message: Notice) -> str | None:
        """See `Channel`."""
        sent = self._apprise.notify(
            title=inert(message.title),
            body="\n".join(map(inert, message.text.split("\n"))),
            notify_type=self._types[message.level],
            body_format=self._text_format,
        )
        return None if sent else "Apprise could not deliver the notification"


def deliver(channel: Channel, notice: Notice, *, is_last: bool) -> str | None:
    """Try to send, once more or for the last time; None, or why it failed, counted and logged."""
    try:
        failure = channel.send(notice)
    # A channel's library may raise anything; the queue must continue.
    except Exception as error:
        logger.exception("channel %s failed", channel.name)
        failure = type(error).__name__
    if failure is None:
        metrics.notified("delivered")
        return None
    metrics.notified("given_up" if is_last else "failed")
    metrics.error_occurred("NotificationFailed")
    logger.warning("notification to %s failed: %s", channel.name, failure)
    return failure


class Notifier:
    """Sends the chain's queued notifications in the background.

    Each receiver has a thread of its own, so that one that hangs does not delay the others.
    `first_pause` is seconds before the second attempt, doubled for each further one.
    """

    def __init__(
        self,
        database: Database,
        channels: Sequence[Channel],
        chain_id: int,
        first_pause: float = _FIRST_PAUSE,
        *,
        public_url: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._public_url = public_url
        self._clock = clock
        self._channels = channels
        self._chain_id = chain_id
        self._first_pause = first_pause
        self._stopping = threading.Event()
        self._sending = [
            Periodic(channel.name, _POLL_SECONDS, partial(self._send_due_to, channel))
            for channel in channels
        ]

    @property
    def channel_names(self) -> list[str]:
        """Names of the channels to queue alerts for."""
        return [channel.name for channel in self._channels]

    def start(self) -> None:
        """Begin."""
        for sending in self._sending:
            sending.start()

    def stop(self) -> None:
        """Stop after the current notifications; queued ones stay queued."""
        self._stopping.set()
        for sending in self._sending:
            sending.stop()

    def send_due(self) -> int:
        """Send a few due notifications; returns the number of delivered ones."""
        return sum(map(self._send_due_to, self._channels))

    def _send_due_to(self, channel: Channel) -> int:
        with self._database.reading() as connection:
            due = due_notifications(
                connection, self._chain_id, channel.name, self._clock(), MAX_ATTEMPTS
            )
        arrived = 0
        for notification in due:
            if self._stopping.is_set():
                break
            arrived += self._send(channel, notification)
        return arrived

    def _send(self, channel: Channel, notification: DueNotification) -> bool:
        with self._database.reading() as connection:
            message = read_message(connection, notification, self._public_url)
        if message is None:
            with self._database.writing() as connection:
                drop_notification(connection, notification.id)
            return False
        is_last = notification.attempts + 1 >= MAX_ATTEMPTS
        failure = deliver(channel, message, is_last=is_last)
        pause = min(self._first_pause * 2**notification.attempts, _MAX_BACKOFF)
        with self._database.writing() as connection:
            note_attempt(connection, notification, now=self._clock(), failure=failure, pause=pause)
        return failure is None


def channels_of(settings: ServiceSettings) -> list[Channel]:
    """The configured receivers.

    Raises:
        SettingsError: Apprise does not support a URL; the message does not contain it.
    """
    webhooks: list[Channel] = [
        Webhook(
            url, reveal(settings.webhook_secret) or "", allow_private=settings.webhook_allow_private
        )
        for url in settings.webhook_urls
    ]
    return webhooks + [AppriseChannel(url) for url in settings.notify_urls]


def inert(line: str) -> str:
    """A line in which chat services see no mention and no link, unless it is a link of ours.

    Whoever deploys a token chooses its symbol: `@everyone`, or the address of a phishing site.
    """
    return line if _OUR_LINK.fullmatch(line) else _ACTIVE.sub("\\g<0>\u200b", line)


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """The value of `X-Signature` for a webhook's timestamp and body."""
    digest = hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={digest.hexdigest()}"


def _fingerprint(kind: str, url: str) -> str:
    return f"{kind}-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
