"""Notifications about transactions that are not mined yet, of guards and of watch mode.

They are queued in memory, so a restart loses those not yet delivered. Of the guard's, the log has
each decision; of watch mode's, whoever was not told early is told once the transaction is mined.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Self

from src.chain.networks import described
from src.detection.records import Action
from src.monitoring.periodic import Periodic
from src.service.database.engine import Database
from src.service.database.screenings import NewScreening, note_told, screening_of
from src.service.watch.message import Notice
from src.service.watch.notify import Channel, deliver

MAX_ATTEMPTS: Final = 5

_MAX_QUEUED: Final = 1_000
_POLL_SECONDS: Final = 0.25
_FIRST_PAUSE: Final = 2.0  # seconds before the second attempt, doubled for each further one


@dataclass(slots=True)
class _Queued:
    notice: Notice
    due: float = 0.0
    attempts: int = 0


class Notices:
    """Sends notices of screenings in the background, until each is delivered or given up.

    Each receiver has a queue and a thread of its own, so that one that hangs does not delay the
    others. As a context manager it starts and stops.

    Args:
        channels: the receivers.
        lowest: the lowest action that is told; unknown ones are told from REVIEW on.
        public_url: where people open the pages, or None.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        channels: Sequence[Channel],
        lowest: Action,
        public_url: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lowest = lowest
        self._public_url = public_url
        self._clock = clock
        self._queues = [(one, deque[_Queued](maxlen=_MAX_QUEUED)) for one in channels]
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._sending = [
            Periodic("notices", _POLL_SECONDS, partial(self._send_due_to, *one))
            for one in self._queues
        ]

    def __enter__(self) -> Self:
        for sending in self._sending:
            sending.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for sending in self._sending:
            sending.stop()

    def add(self, screening: NewScreening) -> None:
        """Queue the notice of a screening for every receiver, if it is to be told."""
        if screening.action >= self._lowest:
            with self._lock:
                for _, queue in self._queues:
                    queue.append(_Queued(_notice(screening, self._public_url)))

    def send_due(self) -> None:
        """Send what is due."""
        for channel, queue in self._queues:
            self._send_due_to(channel, queue)

    def _send_due_to(self, channel: Channel, queue: deque[_Queued]) -> None:
        with self._lock:
            queued, now = list(queue), self._clock()
            queue.clear()
        for one in queued:
            waits = one.due > now or self._stopping.is_set()
            if waits or not self._send(one, channel):
                with self._lock:
                    queue.append(one)

    def _send(self, one: _Queued, channel: Channel) -> bool:
        """Whether the notice is done with."""
        if not self._is_wanted(one.notice):
            return True
        one.attempts += 1
        is_last = one.attempts >= MAX_ATTEMPTS
        if deliver(channel, one.notice, is_last=is_last) is None:
            self._delivered(one.notice, channel)
            return True
        one.due = self._clock() + _FIRST_PAUSE * 2 ** (one.attempts - 1)
        return is_last

    def _is_wanted(self, _notice: Notice) -> bool:
        """Whether a notice is still to be sent."""
        return True

    def _delivered(self, _notice: Notice, _channel: Channel) -> None:
        """Called after a delivery."""


class EarlyAlerts(Notices):
    """Sends those of watch mode, as long as the transaction is pending.

    Args:
        database: keeps who was told, who is not told again of the mined transaction.
        channels, lowest, public_url: see `Notices`.
    """

    def __init__(
        self,
        database: Database,
        channels: Sequence[Channel],
        lowest: Action,
        public_url: str | None = None,
    ) -> None:
        super().__init__(channels, lowest, public_url)
        self._database = database
        self._telling = threading.Lock()  # of what is read, completed and written

    def add(self, screening: NewScreening) -> None:
        """Queue the alert of a screening whose action is known and to be told."""
        if screening.status == "success":
            super().add(screening)

    def _is_wanted(self, notice: Notice) -> bool:
        """Not once it is mined: then the alert of the mined transaction is told."""
        with self._database.reading() as connection:
            stored = screening_of(connection, notice.uuid)
        return stored is not None and stored.state == "pending"

    def _delivered(self, notice: Notice, channel: Channel) -> None:
        with self._telling, self._database.writing() as connection:
            now = screening_of(connection, notice.uuid)
            if now is not None:
                note_told(connection, now.uuid, now.told | {channel.name: time.time()})


def _notice(one: NewScreening, public_url: str | None) -> Notice:
    """What to tell about a screening; with a link to its page if people open the pages there."""
    action = Action(one.action).name
    what = "UNKNOWN" if one.status == "unknown" else action
    observed = "" if one.is_enforced else "observed, would be "
    done = "pending transaction" if one.outcome is None else f"transaction {observed}{one.outcome}"
    link = None if public_url is None else f"{public_url.rstrip('/')}/ui/screenings/{one.uuid}"
    client, block = f" of {one.client}" if one.client else "", one.block_number
    lines = [
        one.summary,
        *one.reasons,
        one.problem,
        f"Transaction {one.tx_hash or 'bundle'}{client} on {described(one.chain_id)}",
        "Not mined yet" + (f": this is what it would do in block {block}." if block else "."),
        link,
    ]
    return Notice(
        uuid=one.uuid,
        title=f"{what}: {done}",
        text="\n".join(line for line in lines if line),
        level="failure" if one.action == Action.BLOCK else "warning",
        content={
            "notification_id": one.uuid,
            "event": "pending" if one.source == "pending" else "screening",
            "decision": one.uuid,
            "outcome": one.outcome,
            "enforced": one.is_enforced,
            "action": action,
            "status": one.status,
            "reasons": one.reasons,
            "summary": one.summary,
            "problem": one.problem,
            "chain_id": one.chain_id,
            "transaction_hash": one.tx_hash,
            "from_address": one.from_address,
            "block_number": one.block_number,
            "client": one.client,
            "link": link,
        },
    )
