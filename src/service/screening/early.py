"""Early alerts: notifications about transactions that are still pending.

They are queued in memory. One that is lost or does not arrive in time is no harm: once the
transaction is mined, whoever was not told early is told as usual.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from src.chain.networks import described
from src.detection.records import Action
from src.monitoring import metrics
from src.monitoring.periodic import Periodic
from src.service.database.engine import Database
from src.service.database.screenings import NewScreening, find_screening, note_told
from src.service.watch.notify import Channel

logger = logging.getLogger(__name__)

_MAX_QUEUED: Final = 1_000
_MAX_ATTEMPTS: Final = 5
_PAUSE_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class EarlyAlert:
    """A notification about a pending transaction; see `service.watch.notify.Notice`."""

    screening: NewScreening

    @property
    def uuid(self) -> str:
        """Of the screening; the alert of the mined transaction is not told again."""
        return self.screening.uuid

    @property
    def title(self) -> str:
        """In a few words."""
        return f"{Action(self.screening.action).name}: pending transaction"

    @property
    def level(self) -> str:
        """The kind of message for chat services."""
        return "failure" if self.screening.action == Action.BLOCK else "warning"

    @property
    def text(self) -> str:
        """For people."""
        one = self.screening
        lines = [line for line in (one.summary, *one.reasons) if line]
        return "\n".join(
            [
                *lines,
                f"Transaction {one.tx_hash} on {described(one.chain_id)}",
                f"Not mined yet: this is what it would do in block {one.block_number}.",
            ]
        )

    def as_json(self) -> dict[str, Any]:
        """In the format of webhooks."""
        one = self.screening
        return {
            "notification_id": one.uuid,
            "event": "pending",
            "action": Action(one.action).name,
            "status": one.status,
            "reasons": one.reasons,
            "summary": one.summary,
            "chain_id": one.chain_id,
            "transaction_hash": one.tx_hash,
            "from_address": one.from_address,
            "block_number": one.block_number,
        }


@dataclass(slots=True)
class _Queued:
    alert: EarlyAlert
    channel: Channel
    due: float = 0.0
    attempts: int = 0


class EarlyAlerts:
    """Sends early alerts in a background thread, as a context manager.

    Args:
        database: keeps who was told.
        channels: the receivers.
        lowest: the lowest action that is told.
        clock: Unix seconds.
    """

    def __init__(
        self,
        database: Database,
        channels: Sequence[Channel],
        lowest: Action,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._channels = channels
        self._lowest = lowest
        self._clock = clock
        self._queue: deque[_Queued] = deque(maxlen=_MAX_QUEUED)
        self._lock = threading.Lock()
        self.sending = Periodic("early alerts", _POLL_SECONDS, self.send_due)

    def add(self, screening: NewScreening) -> None:
        """Queue the alert of a screening whose action is known and to be told."""
        if screening.status != "success" or screening.action < self._lowest:
            return
        alert = EarlyAlert(screening)
        with self._lock:
            self._queue.extend(_Queued(alert, channel) for channel in self._channels)

    def send_due(self) -> None:
        """Send what is due, each to each receiver until it arrives or is given up."""
        with self._lock:
            queued = list(self._queue)
            self._queue.clear()
        for one in queued:
            if one.due > self._clock() or self.sending.stopping.is_set() or not self._send(one):
                with self._lock:
                    self._queue.append(one)

    def _send(self, one: _Queued) -> bool:
        """Whether the alert is done with."""
        screening = one.alert.screening
        with self._database.reading() as connection:
            stored = find_screening(connection, screening.chain_id, screening.tx_hash)
        if stored is None or stored.uuid != screening.uuid or stored.state != "pending":
            return True  # mined meanwhile: the alert of the mined transaction is told
        try:
            failure = one.channel.send(one.alert)
        # A channel's library may raise anything; the queue must continue.
        except Exception as error:  # noqa: BLE001
            failure = type(error).__name__
        if failure is None:
            with self._database.writing() as connection:
                now = find_screening(connection, screening.chain_id, screening.tx_hash)
                if now is not None:
                    told = now.told | {one.channel.name: self._clock()}
                    note_told(connection, now.chain_id, now.tx_hash, told)
            return True
        metrics.error_occurred("NotificationFailed")
        logger.warning("early alert to %s failed: %s", one.channel.name, failure)
        one.attempts += 1
        one.due = self._clock() + _PAUSE_SECONDS
        return one.attempts >= _MAX_ATTEMPTS
