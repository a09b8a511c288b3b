"""Blocks with receipts, fetched from a node for a recording.

Unlike the bot, it retries for long: a recording of a million blocks must survive a restart of the
node. A block is accepted only if its receipts hash to the root in its header.
"""

import logging
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from src.chain.clients.rpc import JsonRpcClient
from src.chain.errors import (
    DeadlineExceeded,
    MalformedAnswer,
    RateLimited,
    RequestRefused,
    SourceUnavailable,
)
from src.chain.recording.receipts_root import receipts_root
from src.chain.recording.rows import BlockRows, Json, RecordedBlock, encode_block, parse_quantity

logger = logging.getLogger(__name__)

DEFAULT_PATIENCE = 120.0

_FIRST_PAUSE = 0.5
_MAX_BACKOFF = 15.0
_TRIES_OF_A_BLOCK = 3
_MAX_REFUSALS = 3  # one failure may come from a lagging node; three mean that the method is missing


class UnverifiedBlock(ValueError):
    """The node's data for a block is incomplete or inconsistent, in every attempt."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node whose failing requests are retried with exponential backoff.

    Attributes:
        client: the connection.
        patience: seconds after which a failing request is given up.
        stop: once set, a failing request is given up immediately.
    """

    client: JsonRpcClient
    patience: float = DEFAULT_PATIENCE
    stop: threading.Event = field(default_factory=threading.Event)

    def call(self, method: str, params: list[Any]) -> Any:
        """The result of a request, never null: a null is treated as a lagging node and retried.

        Raises:
            SourceError: after `patience` without an answer, or immediately if the node refuses.
        """
        pause = _FIRST_PAUSE
        give_up = time.monotonic() + self.patience
        while True:
            try:
                result = self.client.call(method, params)
                if result is None:
                    raise SourceUnavailable("node", f"{method}: the node returned null")
                return result
            except (SourceUnavailable, RateLimited, MalformedAnswer, DeadlineExceeded) as error:
                if self.stop.is_set() or time.monotonic() + pause > give_up:
                    raise
                logger.info("%s; trying again in %.1f s", error, pause)
            self.stop.wait(pause)
            pause = min(2 * pause, _MAX_BACKOFF)

    def quantity(self, method: str) -> int:
        """The number returned by a method without parameters."""
        number = parse_quantity(self.call(method, []))
        if number is None:
            raise MalformedAnswer("node", f"{method} did not return a quantity")
        return number


class BlockFetcher:
    """Fetches blocks and checks that they are complete. Thread-safe.

    Args:
        node: the source.
        verify: reject blocks whose receipts do not hash to their header's root.
    """

    def __init__(self, node: Node, *, verify: bool = True) -> None:
        self._node = node
        self._verify = verify
        self._refusals = 0  # failures of eth_getBlockReceipts in a row

    def fetch(self, number: int) -> BlockRows:
        """Fetch one block.

        Raises:
            SourceError: the node does not answer.
            UnverifiedBlock: its data is incomplete or does not verify.
        """
        problem = ""
        for _ in range(
            _TRIES_OF_A_BLOCK
        ):  # may be temporary: a reorganisation, or a lagging node behind a load balancer
            recorded = self._fetch_once(number)
            verified, problem = _check_receipts(recorded)
            if not problem or not self._verify:
                try:
                    return encode_block(recorded, receipts_root_verified=verified)
                except ValueError as error:
                    problem = str(error)
        raise UnverifiedBlock(f"block {number}: {problem}")

    def fetch_all(
        self, numbers: Sequence[int], pool: Executor, at_once: int
    ) -> Generator[BlockRows, None, None]:
        """Fetch blocks, up to `at_once` in advance, and yield them in order."""
        remaining = iter(numbers)
        ahead: list[Future[BlockRows]] = []
        try:
            for _ in numbers:
                wanted = islice(remaining, at_once - len(ahead))
                ahead.extend(pool.submit(self.fetch, number) for number in wanted)
                yield ahead.pop(0).result()
        finally:
            for future in ahead:
                future.cancel()

    def _fetch_once(self, number: int) -> RecordedBlock:
        block = self._node.call("eth_getBlockByNumber", [hex(number), True])
        transactions = block.get("transactions") if isinstance(block, dict) else None
        if not isinstance(transactions, list) or not all(isinstance(t, dict) for t in transactions):
            raise MalformedAnswer("node", f"block {number} has no list of transactions")
        return RecordedBlock(block, self._receipts(number, transactions))

    def _receipts(self, number: int, transactions: list[Json]) -> list[Json]:
        if self._refusals >= _MAX_REFUSALS:
            return self._receipts_one_by_one(transactions)
        try:
            answer = self._node.call("eth_getBlockReceipts", [hex(number)])
        except RequestRefused as error:
            receipts = self._receipts_one_by_one(transactions)
            logger.info("no eth_getBlockReceipts (%s): requesting each receipt", error)
            self._refusals += 1
            return receipts
        self._refusals = 0
        if not isinstance(answer, list):
            raise MalformedAnswer("node", f"the receipts of block {number} are not a list")
        return answer

    def _receipts_one_by_one(self, transactions: list[Json]) -> list[Json]:
        return [
            self._node.call("eth_getTransactionReceipt", [transaction.get("hash")])
            for transaction in transactions
        ]


def _check_receipts(recorded: RecordedBlock) -> tuple[bool, str]:
    """Whether the receipts hash to the header's root, and a description of the problem if not."""
    receipts = recorded.receipts
    if len(receipts) != len(recorded.block["transactions"]):
        wanted = len(recorded.block["transactions"])
        return False, f"{len(receipts)} receipts for {wanted} transactions"
    try:
        root = receipts_root(receipts)
    except ValueError as error:
        return False, str(error)
    stated = recorded.block.get("receiptsRoot")
    if root == stated:
        return True, ""
    return (
        False,
        f"its receipts hash to {root}, its header says {stated}: logs are missing or wrong",
    )
