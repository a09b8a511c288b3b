"""Screens a node's pending transactions: those of watched accounts, and calls of new contracts.

The node is asked for the hashes of new pending transactions (`eth_newPendingTransactionFilter`).
A budget bounds how many a second are looked at, so that a flood delays no block.
"""

import logging
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from src.chain.clients.rate_limit import Rate, RateLimit
from src.chain.clients.rpc import JsonRpcClient
from src.chain.errors import MalformedAnswer, SourceError
from src.chain.quantities import as_int
from src.chain.simulation.call import SignedTransaction, UnsignedCall
from src.detection.records import Action
from src.monitoring import metrics, screening_metrics
from src.service.database.engine import Database
from src.service.database.screenings import (
    KEPT_SECONDS,
    NewScreening,
    drop_screenings,
    forget_screenings,
    store_screening,
    waiting_screenings,
)
from src.service.decider import Decider
from src.service.node import hash_of
from src.service.screening.screener import Screener

logger = logging.getLogger(__name__)

_MAX_REMEMBERED = 50_000
_MAX_HASHES = 20_000  # of one answer
_LOOK_FOR_DROPPED_SECONDS = 30.0
_MAX_LOOKED_FOR = 50


class PendingWatcher:
    """Follows the pending transactions of one node. Not thread-safe.

    Args:
        database: stores the screenings.
        node: the connection to the node.
        screener: screens on the same chain.
        decider: knows how old contracts are.
        accounts: the watched accounts, lowercase.
        per_second: transactions that are looked at.
        on_screening: is given each stored screening.
        clock: Unix seconds.
    """

    def __init__(
        self,
        database: Database,
        node: JsonRpcClient,
        screener: Screener,
        decider: Decider,
        *,
        accounts: frozenset[str],
        per_second: int,
        on_screening: Callable[[NewScreening], object] = lambda _screening: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._node = node
        self._screener = screener
        self._decider = decider
        self._accounts = accounts
        self._budget = RateLimit(Rate(per_second, 1.0))
        self._on_screening = on_screening
        self._clock = clock
        self._filter: str | None = None
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._new: deque[str] = deque(maxlen=_MAX_HASHES)  # hashes not looked at yet
        self._looked_at, self._last_look = 0.0, -math.inf

    def open(self) -> None:
        """Begin to follow.

        Raises:
            RequestRefused: the node does not offer its pending transactions.
            SourceError: it does not answer.
        """
        answer = self._node.call("eth_newPendingTransactionFilter", [])
        if not isinstance(answer, str) or len(answer) > 128:
            raise MalformedAnswer("node", "a filter without an id")
        self._filter = answer

    def poll(self) -> int:
        """Screen what is new, and look for what was dropped; returns the number of screenings.

        A failure of the node is logged and counted: the next call goes on.
        """
        screened = 0
        try:
            if self._filter is None:
                self.open()
            self._new.extend(self._new_hashes())
            while self._new:
                tx_hash = self._new.popleft()
                if not self._budget.try_acquire():
                    screening_metrics.pending_seen("over budget")
                    continue
                screened += self._look_at(tx_hash)
            now = self._clock()
            if not 0 <= now - self._last_look < _LOOK_FOR_DROPPED_SECONDS:  # or is set back
                self._last_look = now
                self.look_for_dropped()
        except SourceError as error:
            metrics.error_occurred(error)
            logger.warning("pending transactions: %s", error)
        return screened

    def look_for_dropped(self) -> None:
        """Mark those as dropped that the node no longer knows, some at a time.

        Raises:
            SourceError: the node does not answer.
        """
        now, chain_id = self._clock(), self._decider.pipeline.chain_id
        with self._database.reading() as connection:
            waiting = waiting_screenings(
                connection, "pending", chain_id, after=self._looked_at, limit=_MAX_LOOKED_FOR
            )
        self._looked_at = waiting[-1].screened_at if len(waiting) == _MAX_LOOKED_FOR else 0.0
        gone = [
            one.uuid
            for one in waiting
            if self._node.call("eth_getTransactionByHash", [one.tx_hash]) is None
        ]
        with self._database.writing() as connection:
            drop_screenings(connection, gone)
            forget_screenings(connection, now - KEPT_SECONDS)
        screening_metrics.pending_seen("dropped", len(gone))

    def _new_hashes(self) -> list[str]:
        try:
            answer = self._node.call("eth_getFilterChanges", [self._filter])
            if not isinstance(answer, list):
                raise MalformedAnswer("node", "changes of a filter are not a list")
        except SourceError:
            # Nodes forget a filter that nobody asks for, and say so in many ways.
            self._filter = None
            raise
        new = []
        for entry in answer[:_MAX_HASHES]:
            tx_hash = hash_of(entry.get("hash") if isinstance(entry, dict) else entry)
            if tx_hash is None or tx_hash in self._seen:
                continue
            self._seen[tx_hash] = None
            new.append(tx_hash)
            if len(self._seen) > _MAX_REMEMBERED:
                self._seen.popitem(last=False)
        return new

    def _look_at(self, tx_hash: str) -> bool:
        """Whether it was screened."""
        found = self._node.call("eth_getTransactionByHash", [tx_hash])
        if not isinstance(found, dict) or found.get("blockNumber") is not None:
            return False  # replaced, or mined already
        try:
            call = UnsignedCall.from_rpc(_without_gas_price(found))
        except ValueError:
            screening_metrics.pending_seen("unreadable")
            return False
        if not self._is_wanted(call):
            screening_metrics.pending_seen("passed over")
            return False
        chain_id = as_int(found.get("chainId"))
        screening = self._screener.screen([SignedTransaction(tx_hash, chain_id, call)])
        is_known = screening.status != "unknown"
        screening_metrics.pending_seen("screened" if is_known else "unknown")
        own = self._decider.pipeline.chain_id
        new = screening.stored(own, self._clock(), to_address=call.to)
        with self._database.writing() as connection:
            store_screening(connection, new)
        if is_known and screening.action > Action.ALLOW:
            logger.info(
                "pending transaction %s: %s (decision %s)",
                tx_hash,
                screening.action.name,
                screening.decision_id,
            )
        self._on_screening(new)
        return True

    def _is_wanted(self, call: UnsignedCall) -> bool:
        """Whether it touches a watched account, or calls or creates a new contract."""
        if {call.sender, call.to} & self._accounts:
            return True
        digits = call.data.hex()
        if any(account[2:] in digits for account in self._accounts):
            return True
        if call.to is None:
            return True
        if not call.data:
            return False
        head = as_int(self._node.call("eth_blockNumber", []))
        facts = self._decider.lookups.gather((), None, head, called=call.to)
        return facts.called_existed is False


def _without_gas_price(found: dict[str, Any]) -> dict[str, Any]:
    """Nodes state a `gasPrice` of pending transactions that state a maximum fee instead."""
    if found.get("maxFeePerGas") is None:
        return found
    return {name: value for name, value in found.items() if name != "gasPrice"}
