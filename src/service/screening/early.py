"""Early alerts: notifications about transactions that are still pending.

They are queued in memory. One that is lost or does not arrive in time is no harm: once the
transaction is mined, whoever was not told early is told as usual.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from src.chain.networks import described
from src.detection.records import Action
from src.service.database.engine import Database
from src.service.database.screenings import NewScreening, note_told, screening_of
from src.service.watch.notify import Channel
from src.service.watch.outbox import Outbox

_FIRST_PAUSE: Final = 2.0
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


class EarlyAlerts(Outbox[EarlyAlert]):
    """Sends early alerts in the background.

    Args:
        database: keeps who was told.
        channels: the receivers.
        lowest: the lowest action that is told.
    """

    def __init__(self, database: Database, channels: Sequence[Channel], lowest: Action) -> None:
        super().__init__(
            "early alerts", channels, poll_seconds=_POLL_SECONDS, first_pause=_FIRST_PAUSE
        )
        self._database = database
        self._lowest = lowest
        self._telling = threading.Lock()  # of what is read, completed and written

    def add(self, screening: NewScreening) -> None:
        """Queue the alert of a screening whose action is known and to be told."""
        if screening.status == "success" and screening.action >= self._lowest:
            self.put(EarlyAlert(screening))

    def _is_wanted(self, notice: EarlyAlert) -> bool:
        """Not once it is mined: then the alert of the mined transaction is told."""
        with self._database.reading() as connection:
            stored = screening_of(connection, notice.uuid)
        return stored is not None and stored.state == "pending"

    def _delivered(self, notice: EarlyAlert, channel: Channel) -> None:
        with self._telling, self._database.writing() as connection:
            now = screening_of(connection, notice.uuid)
            if now is not None:
                note_told(connection, now.uuid, now.told | {channel.name: time.time()})
