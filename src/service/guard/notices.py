"""Notifications of the guard: of transactions that are blocked, held, reviewed or unknown.

They are queued in memory, so a restart loses those not yet delivered; the log has each decision.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from src.chain.networks import described
from src.detection.records import Action
from src.service.guard.decisions import Decided
from src.service.watch.notify import Channel
from src.service.watch.outbox import Outbox

_FIRST_PAUSE: Final = 5.0
_POLL_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Notice:
    """A notification about a decision; see `service.watch.notify.Notice`."""

    decided: Decided
    chain_id: int
    public_url: str | None

    @property
    def uuid(self) -> str:
        """The decision's id."""
        return self.decided.id

    @property
    def title(self) -> str:
        """In a few words."""
        screening = self.decided.screening
        what = "UNKNOWN" if screening.status == "unknown" else screening.action.name
        return f"{what}: transaction {self._what_happened}"

    @property
    def level(self) -> str:
        """The kind of message for chat services."""
        return "failure" if self.decided.screening.action == Action.BLOCK else "warning"

    @property
    def text(self) -> str:
        """For people."""
        screening = self.decided.screening
        lines = [screening.sentence, *screening.reasons, screening.problem]
        lines.append(
            f"Transaction {screening.tx_hash or 'bundle'} of {self.decided.client} on "
            f"{described(self.chain_id)}, not mined yet"
        )
        return "\n".join([line for line in lines if line] + ([self.link] if self.link else []))

    @property
    def link(self) -> str | None:
        """The decision's page."""
        if self.public_url is None:
            return None
        return f"{self.public_url.rstrip('/')}/ui/screenings/{self.decided.id}"

    def as_json(self) -> dict[str, Any]:
        """In the format of webhooks."""
        screening = self.decided.screening
        return {
            "notification_id": self.uuid,
            "event": "screening",
            "decision": self.decided.id,
            "outcome": self.decided.outcome,
            "enforced": self.decided.enforced,
            "action": screening.action.name,
            "status": screening.status,
            "reasons": list(screening.reasons),
            "sentence": screening.sentence,
            "problem": screening.problem,
            "chain_id": self.chain_id,
            "transaction_hash": screening.tx_hash,
            "from_address": screening.sender,
            "block_number": screening.block,
            "client": self.decided.client,
            "link": self.link,
        }

    @property
    def _what_happened(self) -> str:
        outcome = self.decided.outcome
        return outcome if self.decided.enforced else f"observed, would be {outcome}"


class Notices(Outbox[Notice]):
    """Sends notices of decisions in the background.

    Args:
        channels: the receivers.
        chain_id: of the node.
        lowest: the lowest action that is told; unknown ones are told from REVIEW on.
        public_url: where people open the guard's pages, or None.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        channels: Sequence[Channel],
        chain_id: int,
        lowest: Action,
        public_url: str | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            "notices", channels, poll_seconds=_POLL_SECONDS, first_pause=_FIRST_PAUSE, clock=clock
        )
        self._chain_id = chain_id
        self._lowest = lowest
        self._public_url = public_url

    def add(self, decided: Decided) -> None:
        """Queue a decision's notice, if it is to be told."""
        if decided.screening.action >= self._lowest:
            self.put(Notice(decided, self._chain_id, self._public_url))
