"""What became of screened transactions: the decision on the mined one beside the earlier one.

State moves between a simulation and its block, and some contracts behave well when they believe
themselves simulated. Both decisions are kept, and how often they differ is a metric.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from src.chain.clients.rpc import JsonRpcClient
from src.chain.errors import NotFound, SourceError
from src.chain.quantities import as_int
from src.detection.records import Action
from src.monitoring import metrics, screening_metrics
from src.service.decider import Decider
from src.service.guard.decisions import Decided, Decisions
from src.service.node import NodeReader

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 3.0
_PATIENCE_SECONDS: Final = 900.0
_MAX_FOLLOWED: Final = 5_000
_AT_ONCE: Final = 60


@dataclass(frozen=True, slots=True)
class _Followed:
    decided: Decided
    until: float


class Follower:
    """Looks for the transactions that passed in new blocks. Thread-safe.

    Args:
        decisions: where the outcome is recorded.
        client: the node's connection, for receipts.
        node: reads mined transactions.
        decider: decides on them.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        decisions: Decisions,
        client: JsonRpcClient,
        node: NodeReader,
        decider: Decider,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._decisions = decisions
        self._client = client
        self._node = node
        self._decider = decider
        self._clock = clock
        self._lock = threading.Lock()
        self._followed: OrderedDict[str, _Followed] = OrderedDict()
        self._head: int | None = None

    def add(self, decided: Decided) -> None:
        """Follow a single transaction that passed; the oldest are forgotten beyond a limit."""
        tx_hash = decided.screening.tx_hash
        if tx_hash is None or not decided.passes:
            return
        with self._lock:
            self._followed[tx_hash] = _Followed(decided, self._clock() + _PATIENCE_SECONDS)
            while len(self._followed) > _MAX_FOLLOWED:
                self._followed.popitem(last=False)

    def look(self) -> None:
        """Look once, if there is a new block."""
        now = self._clock()
        with self._lock:
            for tx_hash in [one for one, held in self._followed.items() if held.until < now]:
                del self._followed[tx_hash]
            waiting = list(self._followed.items())
        if not waiting:
            return
        try:
            head = self._node.head()
            if head == self._head:
                return
            for tx_hash, followed in waiting[:_AT_ONCE]:
                self._look_for(tx_hash, followed.decided)
            if len(waiting) <= _AT_ONCE:
                self._head = head
        except SourceError as error:
            metrics.error_occurred(error)

    def _look_for(self, tx_hash: str, decided: Decided) -> None:
        receipt = self._client.call("eth_getTransactionReceipt", [tx_hash])
        with self._lock:
            if isinstance(receipt, dict):
                self._followed.pop(tx_hash, None)
            elif tx_hash in self._followed:
                self._followed.move_to_end(tx_hash)
        if isinstance(receipt, dict):
            self._compare(tx_hash, decided, receipt)

    def _compare(self, tx_hash: str, decided: Decided, receipt: dict[str, Any]) -> None:
        reverted = as_int(receipt.get("status")) == 0
        action = self._mined_action(tx_hash)
        compared = _compared(decided, action, reverted=reverted)
        screening_metrics.guard_mined(compared)
        self._decisions.mined(decided.id, action, reverted=reverted)
        if compared.startswith("another"):
            logger.warning(
                "decision %s on %s: mined with %s: %s, screened as %s, %s",
                decided.id,
                tx_hash,
                compared,
                "unknown" if action is None else action.name,
                decided.screening.action.name,
                decided.screening.status,
            )

    def _mined_action(self, tx_hash: str) -> Action | None:
        try:
            transaction = self._node.transaction(tx_hash)
        except (SourceError, NotFound) as error:
            metrics.error_occurred(error)
            return None
        if transaction is None:
            return None
        return Action(self._decider.preview([transaction])[0].decision.action)


def _compared(decided: Decided, action: Action | None, *, reverted: bool) -> str:
    screening = decided.screening
    if action is None or screening.status == "unknown":
        return "not comparable"
    if action != screening.action:
        return "another action"
    return "same" if reverted == (screening.status == "reverts") else "another status"
