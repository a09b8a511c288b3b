"""What became of screened transactions: the decision on the mined one beside the earlier one.

State moves between a simulation and its block, and some contracts behave well when they believe
themselves simulated. Both decisions are kept, and how often they differ is a metric.
"""

import logging
import math
import time
from collections.abc import Callable
from typing import Final

from sqlalchemy import update

from src.chain.errors import SourceError
from src.chain.recording.fetch import UnverifiedBlock
from src.detection.records import Action
from src.monitoring import metrics, screening_metrics
from src.service.database.screenings import (
    KEPT_SECONDS,
    Mined,
    StoredScreening,
    drop_old_screenings,
    forget_screenings,
    join_mined,
    known_hashes,
    waiting_screenings,
)
from src.service.database.tables import screenings
from src.service.decider import Decider
from src.service.guard.decisions import HELD_SECONDS, Decisions
from src.service.node import NodeReader

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 3.0
PATIENCE_SECONDS: Final = 900.0
"""A transaction that is in no block by then counts as dropped."""

_AT_ONCE: Final = 200
_MAX_BEHIND: Final = 20_000
_CLEAN_SECONDS: Final = 600.0


class Follower:
    """Looks for screened transactions in new blocks, refused ones too: there are other ways.

    Not thread-safe.

    Args:
        decisions: of the guard, with their database.
        node: reads blocks.
        decider: decides on their transactions.
        clock: Unix seconds.
    """

    def __init__(
        self,
        decisions: Decisions,
        node: NodeReader,
        decider: Decider,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._decisions = decisions
        self._database = decisions.database
        self._node = node
        self._decider = decider
        self._clock = clock
        self._next: int | None = None
        self._cleaned_at = -math.inf

    @property
    def _chain_id(self) -> int:
        return self._decider.pipeline.chain_id

    def look(self) -> None:
        """Look once, if there is a new block. A failure of the node is counted."""
        try:
            head = self._node.head()
            self._decisions.flush()  # what the blocks up to this one can have is stored now
            numbers = self._new_blocks(head)
            self._join(numbers)
            self._next = numbers.stop if numbers else head + 1
        except (SourceError, UnverifiedBlock) as error:
            metrics.error_occurred(error)
            logger.warning("mined transactions: %s", error)
        now = self._clock()
        if not 0 <= now - self._cleaned_at < _CLEAN_SECONDS:  # also if the clock is set back
            self._cleaned_at = now
            self._clean()

    def _new_blocks(self, head: int) -> range:
        """The blocks that screened transactions may be in; none if no transaction waits."""
        after = self._clock() - PATIENCE_SECONDS
        with self._database.reading() as connection:
            waiting = waiting_screenings(
                connection, "guard", self._chain_id, after=after, limit=_AT_ONCE
            )
        if not waiting and self._decisions.released_at <= after:
            return range(0)
        # After a restart, from the block on that the oldest one could have been in.
        first = self._next
        if first is None:
            simulated = [one.block_number for one in waiting if one.block_number is not None]
            first = min(simulated, default=head)
        first = max(first, head - _MAX_BEHIND)
        return range(first, min(head + 1, first + _AT_ONCE))

    def _join(self, numbers: range) -> None:
        """Only blocks with a screened transaction are read: their receipts are large."""
        hashes = self._node.transaction_hashes(numbers)
        every = [tx_hash for of_block in hashes for tx_hash in of_block]
        with self._database.reading() as connection:
            screened = known_hashes(connection, "guard", self._chain_id, every)
        if not screened:
            return
        wanted = [n for n, own in zip(numbers, hashes, strict=True) if screened.intersection(own)]
        blocks = list(self._node.blocks(wanted))
        actions = {
            one.tx_hash: self._decider.preview([one])[0].decision.action
            for block in blocks
            for one in block.transactions
            if one.tx_hash in screened
        }
        mined = {
            tx_hash: Mined(block.number, actions.get(tx_hash, 0), tx_hash in block.reverted)
            for block in blocks
            for tx_hash in screened.intersection(block.hashes)
        }
        with self._database.writing() as connection:
            joined = join_mined(connection, "guard", self._chain_id, mined, self._clock())
        for one in joined:
            _compare(one)

    def _clean(self) -> None:
        now = self._clock()
        with self._database.writing() as connection:
            drop_old_screenings(connection, "guard", self._chain_id, now - PATIENCE_SECONDS)
            connection.execute(  # a guard that was killed holds nothing any more
                update(screenings)
                .where(screenings.c.outcome == "held", screenings.c.is_enforced)
                .where(screenings.c.screened_at < now - HELD_SECONDS - _CLEAN_SECONDS)
                .values(outcome="dropped")
            )
            forget_screenings(connection, now - KEPT_SECONDS)


def _compare(one: StoredScreening) -> None:
    if one.status == "unknown":
        compared = "not comparable"
    elif one.mined_action != one.action:
        compared = "another action"
    else:
        compared = "another status" if one.differs else "same"
    screening_metrics.guard_mined(compared)
    if one.differs:
        logger.warning(
            "decision %s on %s: mined with %s: %s, screened as %s, %s",
            one.uuid, one.tx_hash, compared, Action(one.mined_action or 0).name,
            Action(one.action).name, one.status,
        )  # fmt: skip
