"""Follows the head of a chain: every block once, in order, and handles reorganisations.

A block's transactions, decisions, alerts and notifications are written in one database transaction,
which also marks the block as processed. So watching resumes exactly where it stopped, after any
interruption, without duplicates.
"""

import logging
import threading
import time
from collections.abc import Mapping

from sqlalchemy import Connection

from src.chain.errors import MalformedAnswer, RequestRefused, SourceError, SourceUnavailable
from src.chain.recording.fetch import UnverifiedBlock
from src.detection.records import Action
from src.monitoring import metrics, screening_metrics
from src.service.database.alerts import store_alerts
from src.service.database.chain import (
    mark_orphaned,
    store_tokens,
    store_transactions,
    transactions_in,
)
from src.service.database.decisions import store_decision
from src.service.database.engine import Database, DatabaseLost
from src.service.database.screenings import (
    Mined,
    StoredScreening,
    join_mined,
    leave_block,
    note_told_early,
)
from src.service.database.watching import (
    WatchedBlock,
    add_watched,
    forget_watched,
    last_watched,
    queue_notifications,
    retract_notifications,
    watched_at,
)
from src.service.decider import Decider
from src.service.node import LoadedBlock, NodeReader
from src.service.settings import ServiceSettings

logger = logging.getLogger(__name__)

REMEMBERED_BLOCKS = 1_000
"""Maximum depth of a reorganisation that can be followed."""

_MAX_BACKOFF = 30.0
_USUAL_BLOCK_SECONDS = 12.0  # of a chain that does not say
_MAX_REORGANISATIONS = 5  # while one block is read


class Watcher:
    """Follows one chain. Run one watcher per chain and database."""

    def __init__(
        self,
        database: Database,
        node: NodeReader,
        decider: Decider,
        settings: ServiceSettings,
        chain_id: int,
        channels: list[str],
    ) -> None:
        self._database = database
        self._node = node
        self._decider = decider
        self._settings = settings
        self._chain_id = chain_id
        self._channels = channels
        seconds = decider.lookups.seconds_per_block or _USUAL_BLOCK_SECONDS
        self._pause = min(max(seconds / 4, 0.25), 5.0)
        self._waits = seconds * settings.confirmations  # before a block may be watched
        self._newest = time.time()  # the time of the last block, or the start
        self._problem: str | None = "the head of the chain was not reached so far"

    def problems(self) -> list[str]:
        """Why watching is not in step with the chain, for the readiness probe."""
        return [] if self._problem is None else [self._problem]

    def run(self, stop: threading.Event) -> None:
        """Follow the head until stopped; retries after failures of the node."""
        pause = self._pause
        metrics.watch_started()
        while not stop.is_set():
            try:
                self.catch_up(stop)
                pause = self._pause
                self._problem = None
            except UnverifiedBlock as error:
                self._failed(error)
                metrics.watch_stuck(error.number)
                pause = min(2 * pause, _MAX_BACKOFF)
                logger.error("stuck: %s; trying again in %.0f s", error, pause)
            except SourceError as error:
                self._failed(error)
                pause = min(2 * pause, _MAX_BACKOFF)
                logger.warning("%s; trying again in %.0f s", error, pause)
            except DatabaseLost:
                raise
            # For example, the database is unavailable: nothing is lost, the block is not done.
            except Exception as error:
                self._failed(error)
                pause = min(2 * pause, _MAX_BACKOFF)
                logger.exception("watching failed; trying again in %.0f s", pause)
            stop.wait(pause)

    def catch_up(self, stop: threading.Event | None = None) -> int:
        """Process all blocks up to the head; returns their number.

        Raises:
            SourceError, UnverifiedBlock: the node does not answer, or its data is inconsistent.
        """
        done = moved = 0
        while not (stop is not None and stop.is_set()):
            head = self._node.head()
            last = self._rewind(head)
            number = self._first(head) if last is None else last.block_number + 1
            if number > head - self._settings.confirmations:
                metrics.watch_stuck(None)
                return done
            (block,) = self._node.blocks([number])
            if last is not None and block.parent_hash != last.block_hash:
                moved += 1
                if moved > _MAX_REORGANISATIONS:
                    raise MalformedAnswer(
                        "node", f"block {number} does not follow block {number - 1}"
                    )
                continue  # reorganised in the meantime: start again
            self._work(block)
            done += 1
            moved = 0
            self._newest = block.timestamp
            metrics.block_watched(self._lag())
        return done

    def _first(self, head: int) -> int:
        wanted = self._settings.watch_from
        if wanted is None and head == 0:
            # Geth's head until it is synchronised: beginning here would be the whole chain.
            raise SourceUnavailable("node", "it has no block yet: it is still synchronising")
        newest = max(0, head - self._settings.confirmations)
        return newest if wanted is None else wanted

    def _failed(self, error: Exception) -> None:
        """Show a failure in the metrics: without it, a watcher that never worked looks healthy."""
        metrics.error_occurred(error)
        known = isinstance(error, SourceError | UnverifiedBlock)
        self._problem = str(error) if known else type(error).__name__
        metrics.watch_lags(self._lag())

    def _lag(self) -> float:
        """Seconds since the last watched block, or the start, without what confirmations take."""
        return max(0.0, time.time() - self._newest - self._waits)

    def _rewind(self, head: int) -> WatchedBlock | None:
        """The last processed block that is still in the chain; later ones are removed.

        A block is removed when another one is at its height, never because a node that lags behind
        has none there.

        Raises:
            SourceError: the node has no block where there was one, or is on another chain.
        """
        is_checked = False
        while True:
            with self._database.reading() as connection:
                last = last_watched(connection, self._chain_id)
                at = None if last is None else min(head, last.block_number)
                known = None if at is None else watched_at(connection, self._chain_id, at)
            if last is None or at is None:
                return None
            seen = None if known is None else self._node.block_hash(at)
            if known is not None and seen == known.block_hash:
                return last
            if not is_checked:
                self._check_chain()
                is_checked = True
            if known is None or seen is None:
                raise SourceUnavailable(
                    "node",
                    f"it lags behind: its newest block is {head}, and block {last.block_number}"
                    " was processed already",
                )
            self._take_back(last)

    def _check_chain(self) -> None:
        """Raise SourceUnavailable if the node is on another chain than at the start.

        Another chain looks like a reorganisation of all that is remembered.
        """
        try:
            chain_id = self._node.chain_id()
        except RequestRefused:  # it never said, and FORTA_CHAIN_ID does
            return
        if chain_id != self._chain_id:
            raise SourceUnavailable(
                "node", f"it is on chain {chain_id}, and chain {self._chain_id} is watched"
            )

    def _take_back(self, block: WatchedBlock) -> None:
        with self._database.writing() as connection:
            gone = transactions_in(connection, self._chain_id, block.block_hash)
            mark_orphaned(connection, self._chain_id, [block.block_hash])
            forget_watched(connection, self._chain_id, block)
            leave_block(connection, self._chain_id, block.block_number)
            retract_notifications(connection, self._chain_id, gone, time.time())
        logger.warning(
            "block %d was replaced: %d transactions are no longer in the chain",
            block.block_number,
            len(gone),
        )

    def _work(self, block: LoadedBlock) -> None:
        self._decider.lookups.tokens_changed(block.upgraded)
        outcomes = [(one, self._decider.decide(one)) for one in block.transactions]
        now = time.time()
        with self._database.writing() as connection:
            store_transactions(connection, self._chain_id, block.transactions, now)
            actions = {one.decision.tx_hash: one.decision.action for _, one in outcomes}
            mined = {
                one: Mined(block.number, actions.get(one, 0), one in block.reverted)
                for one in block.hashes
            }
            joined = join_mined(connection, "pending", self._chain_id, mined, now)
            early = {one.tx_hash: one for one in joined}
            for _, outcome in outcomes:
                store_tokens(connection, self._chain_id, outcome.tokens)
                store_decision(connection, outcome.decision, outcome.features)
                ids = store_alerts(connection, outcome.alerts, now)
                notified = {
                    number: alert.action
                    for number, alert in zip(ids, outcome.alerts, strict=True)
                    if alert.action >= self._settings.notify_from
                }
                self._notify(connection, notified, early.get(outcome.decision.tx_hash), now)
            # Those of transactions that moved here, and do not deserve their alerts any more.
            hashes = [one.tx_hash for one in block.transactions]
            retract_notifications(connection, self._chain_id, hashes, now)
            watched = WatchedBlock(block.number, block.hash, block.parent_hash)
            add_watched(connection, self._chain_id, watched, REMEMBERED_BLOCKS)
        for one in joined:
            _compare(one)
        alerts = sum(len(outcome.alerts) for _, outcome in outcomes)
        logger.info(
            "block %d: %d transactions with transfers, %d alerts",
            block.number,
            len(outcomes),
            alerts,
        )

    def _notify(
        self,
        connection: Connection,
        notified: Mapping[int, int],
        early: StoredScreening | None,
        now: float,
    ) -> None:
        """Queue notifications of a transaction's alerts, by id, with their actions.

        Who was told while it was pending is told again only of a more severe action.
        """
        for channel in self._channels:
            told = early is not None and channel in early.told
            for number, action in notified.items():
                if early is not None and told and action <= early.action:
                    note_told_early(connection, number, channel, early)
                else:
                    queue_notifications(connection, [number], channel, now)


def _compare(one: StoredScreening) -> None:
    """Report how the decision on a mined transaction compares with the one before."""
    if one.status == "unknown" or one.mined_action is None:
        return
    before, mined = Action(one.action), Action(one.mined_action)
    lead = one.lead_seconds or 0.0
    screening_metrics.included(before.name, mined.name, lead)
    if before != mined:
        logger.warning(
            "%s was mined as %s, and screened as %s %.1f s before",
            one.tx_hash, mined.name, before.name, lead,
        )  # fmt: skip
