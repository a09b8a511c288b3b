"""Blocks with receipts, fetched from a node for a recording.

Unlike the bot, it retries for long: a recording of a million blocks must survive a restart of the
node. A block is accepted only if its receipts hash to the root in its header.
"""

import logging
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from src.chain.clients.rpc import JsonRpcClient
from src.chain.errors import (
    DeadlineExceeded,
    MalformedAnswer,
    PassingError,
    RateLimited,
    RequestRefused,
    SourceUnavailable,
)
from src.chain.recording.rows import BlockRows, Json, RecordedBlock, encode_block, parse_quantity
from src.chain.recording.verification import is_state_sync, verified_block

logger = logging.getLogger(__name__)

DEFAULT_PATIENCE = 120.0

_FIRST_PAUSE = 0.5
_MAX_LAG = 100  # blocks
_LAG_SECONDS = 15.0
_MAX_BACKOFF = 15.0
_TRIES_OF_A_BLOCK = 2
_BLOCK_RECEIPTS = "eth_getBlockReceipts"
_PATIENCE_WITH_BLOCK_RECEIPTS = 2.0
_LIMITED_FACTOR = 10.0
# A node that fails this often in a row is asked for single receipts, and only now and then for a
# whole block's: one failure may come from a lagging backend.
_MAX_FAILURES = 3
_BLOCKS_PER_RETRY = 100


class UnverifiedBlock(ValueError):
    """The node's data for a block is incomplete or inconsistent, in every attempt.

    Args:
        number: the block.
        problem: what is wrong.
        recordable: whether it could be recorded unverified.
    """

    def __init__(self, number: int, problem: str, *, recordable: bool = False) -> None:
        super().__init__(f"block {number}: {problem}")
        self.number = number
        self.problem = problem
        self.recordable = recordable


def _null(result: Any) -> str:
    return "null" if result is None else ""


@dataclass(frozen=True, slots=True)
class Node:
    """A node whose failing requests are retried with exponential backoff."""

    client: JsonRpcClient  # the connection
    patience: float = DEFAULT_PATIENCE  # seconds after which a failing request is given up
    # Once set, a failing request is given up immediately.
    stop: threading.Event = field(default_factory=threading.Event)

    def call(
        self,
        method: str,
        params: list[Any],
        patience: float | None = None,
        *,
        passing_patience: float | None = None,
        fault: Callable[[Any], str] = _null,
    ) -> Any:
        """The result of a request; a faulty one is treated as a lagging node's and retried.

        Args:
            method: what to ask.
            params: its parameters.
            patience: seconds, if other than the node's; ten times as many while it limits the rate.
            passing_patience: likewise, after errors of the node that may be about this call alone.
            fault: what is wrong with a result, "" if nothing is; None is a fault by default.

        Raises:
            SourceError: after `patience` without an answer, or immediately if the node refuses;
                `MalformedAnswer` if all are faulty.
        """
        pause = _FIRST_PAUSE
        began = time.monotonic()
        while True:
            try:
                result = self.client.call(method, params)
                if problem := fault(result):
                    raise MalformedAnswer("node", f"{method}: the node returned {problem}")
                return result
            except (SourceUnavailable, RateLimited, MalformedAnswer, DeadlineExceeded) as error:
                limit = self.patience if patience is None else patience
                if isinstance(error, PassingError) and passing_patience is not None:
                    limit = passing_patience
                is_limited = isinstance(error, RateLimited | DeadlineExceeded)
                give_up = began + min(
                    self.patience, _LIMITED_FACTOR * limit if is_limited else limit
                )
                wait = max(pause, error.retry_after or 0.0)
                if self.stop.is_set() or time.monotonic() + wait > give_up:
                    raise
                logger.info("%s; trying again in %.1f s", error, wait)
            self.stop.wait(wait)
            pause = min(2 * pause, _MAX_BACKOFF)

    def ask(self, method: str, params: list[Any]) -> Any:
        """The result of a request, which may be null. Raises SourceError, as `call`."""
        return self.call(method, params, fault=lambda _: "")

    def quantity(self, method: str) -> int:
        """The number returned by a method without parameters. Raises SourceError, as `call`."""

        def fault(answer: Any) -> str:
            return "no quantity" if parse_quantity(answer) is None else ""

        return int(self.call(method, [], fault=fault), 16)

    def head(self, wanted: int) -> int:
        """Number of the newest block; one that lacks a few is asked again, as its backends differ.

        Raises SourceError, as `call`.
        """
        began = time.monotonic()
        while True:
            head = self.quantity("eth_blockNumber")
            is_behind = head < wanted <= head + _MAX_LAG
            if not is_behind or time.monotonic() - began > min(_LAG_SECONDS, self.patience):
                return head
            if self.stop.wait(_FIRST_PAUSE):
                return head


class BlockFetcher:
    """Fetches blocks and checks that they are complete. Thread-safe.

    A block's receipts are requested together; if they are refused or do not verify, one by one.

    Args:
        node: the source.
        verify: reject blocks whose receipts do not hash to their header's root.
    """

    def __init__(self, node: Node, *, verify: bool = True) -> None:
        self._node = node
        self._verify = verify
        self._failures = 0  # of eth_getBlockReceipts in a row
        self._passed_over = 0  # blocks since it was asked last

    def fetch(self, number: int) -> BlockRows:
        """Fetch one block.

        Raises:
            SourceError: the node does not answer.
            UnverifiedBlock: its data is incomplete or does not verify.
        """
        began, pause, tries = time.monotonic(), _FIRST_PAUSE, 0
        while True:
            block = self._block(number)
            together = self._receipts_together(number)
            if together is not None:
                rows, problem, _ = self._rows(RecordedBlock(block, together))
                if rows is not None:
                    self._failures = 0
                    return rows
                logger.info("block %d: %s; requesting each receipt", number, problem)
            recorded = self._one_by_one(number, block)
            rows, problem, recordable = self._rows(recorded)
            if rows is not None:
                self._failures += 1
                return rows
            tries += 1
            if _is_of_one_block(recorded):
                if tries >= _TRIES_OF_A_BLOCK:
                    raise UnverifiedBlock(number, problem, recordable=recordable)
                continue
            # A reorganisation, or backends behind a load balancer.
            is_late = time.monotonic() + pause > began + self._node.patience
            if is_late or self._node.stop.wait(pause):
                raise UnverifiedBlock(number, problem, recordable=recordable)
            pause = min(2 * pause, _MAX_BACKOFF)

    def fetch_all(
        self,
        numbers: Sequence[int],
        pool: Executor,
        at_once: int,
        on_unverified: Callable[[UnverifiedBlock], object] | None = None,
    ) -> Generator[BlockRows, None, None]:
        """Fetch blocks, up to `at_once` in advance, and yield them in order.

        `on_unverified` is called in place of a block that does not verify; without it, the error
        is raised.
        """
        remaining = iter(numbers)
        ahead: list[Future[BlockRows]] = []
        try:
            for _ in numbers:
                wanted = islice(remaining, at_once - len(ahead))
                ahead.extend(pool.submit(self.fetch, number) for number in wanted)
                try:
                    rows = ahead.pop(0).result()
                except UnverifiedBlock as error:
                    if on_unverified is None:
                        raise
                    on_unverified(error)
                else:
                    yield rows
        finally:
            for future in ahead:
                future.cancel()

    def _block(self, number: int) -> Json:
        def fault(block: Any) -> str:
            if not isinstance(block, dict) or parse_quantity(block.get("number")) != number:
                return f"another block than {number}" if block else "null"
            transactions = block.get("transactions")
            if not isinstance(transactions, list) or not all(
                isinstance(one, dict) for one in transactions
            ):
                return "a block without a list of transactions"
            return ""

        found: Json = self._node.call("eth_getBlockByNumber", [hex(number), True], fault=fault)
        return found

    def _receipts_together(self, number: int) -> list[Json] | None:
        """The block's receipts by one request; None if they cannot be had in this way."""
        if self._failures >= _MAX_FAILURES:
            self._passed_over += 1
            if self._passed_over % _BLOCKS_PER_RETRY:
                return None
        try:
            answer = self._node.call(
                _BLOCK_RECEIPTS, [hex(number)], patience=_PATIENCE_WITH_BLOCK_RECEIPTS
            )
        except (
            RequestRefused, SourceUnavailable, MalformedAnswer, RateLimited, DeadlineExceeded,
        ) as error:  # fmt: skip
            logger.info("%s: requesting each receipt", error)
            return None
        return answer if isinstance(answer, list) else None

    def _one_by_one(self, number: int, block: Json) -> RecordedBlock:
        """The block without Bor's state sync: it is not under the root, and has no receipt in
        some nodes.
        """
        transactions = [
            one
            for one in block["transactions"]
            if one.get("type", "0x0") != "0x0" or not is_state_sync(one, "gas")
        ]
        try:
            receipts = [
                self._node.call("eth_getTransactionReceipt", [transaction.get("hash")])
                for transaction in transactions
            ]
        except (RequestRefused, MalformedAnswer, PassingError) as error:
            raise UnverifiedBlock(number, f"its receipts are not available: {error}") from None
        return RecordedBlock(block | {"transactions": transactions}, receipts)

    def _rows(self, recorded: RecordedBlock) -> tuple[BlockRows | None, str, bool]:
        """The rows if the block is acceptable; otherwise what is wrong, and if it is recordable."""
        verified, problem = verified_block(recorded)
        try:
            rows = encode_block(verified or recorded, receipts_root_verified=verified is not None)
        except ValueError as error:
            return None, problem or str(error), False
        if verified is None and self._verify:
            return None, problem, True
        return rows, problem, True


def _is_of_one_block(recorded: RecordedBlock) -> bool:
    return all(
        isinstance(receipt, dict) and receipt.get("blockHash") == recorded.block.get("hash")
        for receipt in recorded.receipts
    )
