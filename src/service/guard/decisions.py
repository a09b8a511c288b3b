"""The guard's decisions of late: what was decided, what became of it, and what is held for review.

In memory, for the page and for the comparison with the mined outcome. The log has a line for each,
which is what remains after a restart. Raw transactions are kept only while they are held.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from src.detection.records import Action
from src.service.screening.screener import Screening

Outcome = Literal["passed", "blocked", "unknown passed", "unknown refused", "held", "dropped"]
"""What the guard did, or in observe mode would have done."""

KEPT: Final = 2_000
HELD_SECONDS: Final = 3_600.0
MAX_HELD: Final = 500


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision.

    Attributes:
        screening: its result.
        outcome: what the guard did with the transactions, or would have done.
        enforced: whether it did; False in observe mode.
        client: the name of the client's key, or its address.
        method: the JSON-RPC method.
        at: Unix seconds.
        seconds: that screening took.
        mined: the action on the mined transaction; None if it is not mined, or cannot be told.
        reverted: whether it was mined and reverted; None if it is not mined.
        answer: what became of a transaction that was held.
    """

    screening: Screening
    outcome: Outcome
    enforced: bool
    client: str
    method: str
    at: float
    seconds: float
    mined: Action | None = None
    reverted: bool | None = None
    answer: str = ""

    @property
    def id(self) -> str:
        """The decision's id, which the client is told."""
        return self.screening.decision_id

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        screening = self.screening
        return {
            "id": self.id,
            "at": self.at,
            "client": self.client,
            "method": self.method,
            "transaction_hash": screening.tx_hash,
            "from_address": screening.sender,
            "action": screening.action.name,
            "status": screening.status,
            "reasons": list(screening.reasons),
            "sentence": screening.sentence,
            "problem": screening.problem,
            "block": screening.block,
            "outcome": self.outcome,
            "enforced": self.enforced,
            "seconds": self.seconds,
            "mined": None if self.mined is None else self.mined.name,
            "reverted": self.reverted,
        }

    @property
    def passes(self) -> bool:
        """Whether the transactions were passed on."""
        return not self.enforced or self.outcome in {"passed", "unknown passed"}


@dataclass(frozen=True, slots=True)
class Held:
    """A call that waits for a person. `text` holds the raw transaction and appears in no repr."""

    text: str
    until: float

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Decisions:
    """The newest decisions. Thread-safe.

    Args:
        clock: Unix seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._decided: OrderedDict[str, Decided] = OrderedDict()
        self._held: OrderedDict[str, Held] = OrderedDict()

    def add(self, decided: Decided) -> None:
        """Keep a decision."""
        with self._lock:
            self._decided[decided.id] = decided
            while len(self._decided) > KEPT:
                self._decided.popitem(last=False)

    def newest(
        self, limit: int, offset: int = 0, tx_hash: str | None = None
    ) -> tuple[list[Decided], int]:
        """Decisions, of one transaction or all, newest first, and how many there are."""
        with self._lock:
            found = list(reversed(self._decided.values()))
        if tx_hash is not None:
            found = [one for one in found if one.screening.tx_hash == tx_hash]
        return found[offset : offset + limit], len(found)

    def find(self, identity: str) -> Decided | None:
        """A decision by its id."""
        with self._lock:
            return self._decided.get(identity)

    def mined(self, identity: str, action: Action | None, *, reverted: bool) -> None:
        """Record what a transaction did in its block."""
        self._change(identity, mined=action, reverted=reverted)

    def hold(self, decided: Decided, text: str) -> bool:
        """Hold a call for review; False if too many are held. The same text is held once."""
        now = self._clock()
        with self._lock:
            for identity in [one for one, held in self._held.items() if held.until <= now]:
                del self._held[identity]
            if len(self._held) >= MAX_HELD:
                return False
            if all(held.text != text for held in self._held.values()):
                self._held[decided.id] = Held(text, now + HELD_SECONDS)
        return True

    def is_held(self, identity: str) -> bool:
        """Whether a decision's call still waits."""
        with self._lock:
            held = self._held.get(identity)
            return held is not None and held.until > self._clock()

    def take(self, identity: str) -> str | None:
        """The held call, once: nobody gets it a second time. None if it does not wait any more."""
        with self._lock:
            held = self._held.pop(identity, None)
        return held.text if held is not None and held.until > self._clock() else None

    def released(self, identity: str, answer: str) -> None:
        """Record that a held call was passed on, with the node's answer."""
        self._change(identity, outcome="passed", answer=answer)

    def dropped(self, identity: str) -> None:
        """Record that a held call was dropped."""
        self._change(identity, outcome="dropped")

    def _change(self, identity: str, **changes: object) -> None:
        with self._lock:
            found = self._decided.get(identity)
            if found is not None:
                self._decided[identity] = replace(found, **changes)  # type: ignore[arg-type]
