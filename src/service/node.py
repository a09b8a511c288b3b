"""Reading blocks and transactions from a node, as `LoadedTransaction`s.

Blocks are read with the recorder's fetcher, which checks that their receipts hash to the root in
the header, and so detects a node that omits a log.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from src.chain.clients.rate_limit import Rate, RateLimit
from src.chain.clients.rpc import JsonRpcClient
from src.chain.clients.rpc_errors import RESOURCE_NOT_FOUND
from src.chain.erc20 import returned_bytes
from src.chain.errors import (
    MalformedAnswer,
    NotFound,
    NotStated,
    RequestRefused,
    SourceError,
)
from src.chain.quantities import as_int
from src.chain.recording.fetch import BlockFetcher, Node, UnverifiedBlock
from src.chain.recording.rows import BlockRows, logs_of
from src.chain.transfers import (
    UPGRADE_TOPICS,
    Approval,
    DecodedLogs,
    Transfer,
    decode_approval,
    decode_event,
    normalise_address,
    separate,
)
from src.service.records import LoadedTransaction, selector_of

_TIMEOUT = 15.0
_AT_ONCE = 4
_FRESH_SECONDS = 10.0
_HEALTH_WAIT_SECONDS = 1.0
_TOTAL_SUPPLY = "0x18160ddd"
_WORD_BYTES = 32
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class LoadedBlock:
    """A block with those of its transactions that have ERC-20 transfers.

    `upgraded` are the proxies that got a new implementation in it, `hashes` all its transactions,
    `reverted` those that failed.
    """

    number: int
    hash: str
    parent_hash: str
    timestamp: int
    transactions: tuple[LoadedTransaction, ...]
    upgraded: tuple[str, ...]
    hashes: tuple[str, ...] = ()
    reverted: tuple[str, ...] = ()


class NodeReader:
    """The service's node. Thread-safe.

    Args:
        url: of the node's JSON-RPC.
        requests_per_second: the node's rate limit.
        verify: reject blocks whose receipts do not hash to their header's root.
        patience: seconds to retry a failing node.
    """

    def __init__(
        self,
        url: str,
        *,
        requests_per_second: int,
        verify: bool,
        patience: float,
    ) -> None:
        limit = RateLimit(Rate(requests_per_second, 1.0))
        self._client = JsonRpcClient(url, timeout=_TIMEOUT, rate_limit=limit)
        self._stop = threading.Event()
        self._node = Node(self._client, patience, self._stop)
        self._fetcher = BlockFetcher(self._node, verify=verify)
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="node")

    def chain_id(self) -> int:
        """The node's chain. Raises SourceError."""
        return self._node.quantity("eth_chainId")

    def head(self) -> int:
        """Number of the newest block. Raises SourceError."""
        return self._node.quantity("eth_blockNumber")

    def blocks(self, numbers: Sequence[int]) -> Iterator[LoadedBlock]:
        """Read blocks in order, with read-ahead.

        Raises:
            SourceError: the node does not answer, or the chain was reorganised meanwhile.
            UnverifiedBlock: the node's response is incomplete or inconsistent.
        """
        previous: LoadedBlock | None = None
        try:
            with closing(self._fetcher.fetch_all(numbers, self._pool, 2 * _AT_ONCE)) as fetched:
                for block in map(_loaded_block, fetched):
                    if (
                        previous is not None
                        and block.number == previous.number + 1
                        and block.parent_hash != previous.hash
                    ):
                        raise MalformedAnswer(
                            "node", f"block {block.number} is not the child of the previous block"
                        )
                    yield block
                    previous = block
        except UnverifiedBlock as error:
            if not error.recordable:
                raise
            problem = f"{error.problem}; VERIFY_BLOCKS=false accepts such blocks unverified"
            raise UnverifiedBlock(error.number, problem, recordable=True) from None

    def transaction_hashes(self, numbers: Sequence[int]) -> list[list[str]]:
        """The hashes of the transactions of blocks, as the node says. Raises SourceError."""

        def of(number: int) -> list[str]:
            block = self._node.call("eth_getBlockByNumber", [hex(number), False])
            found = block.get("transactions") if isinstance(block, dict) else None
            if not isinstance(found, list):
                raise MalformedAnswer("node", f"block {number} has no list of transactions")
            return [tx_hash for one in found if (tx_hash := hash_of(one)) is not None]

        return list(self._pool.map(of, numbers))

    def block_hash(self, number: int) -> str | None:
        """The present hash of the block at a height, or None. Raises SourceError."""
        block = self._node.ask("eth_getBlockByNumber", [hex(number), False])
        return hash_of(block.get("hash")) if isinstance(block, dict) else None

    def block_number(self, block_hash: str) -> int | None:
        """The number of the block with a hash, or None. Raises SourceError."""
        block = self._node.ask("eth_getBlockByHash", [block_hash, False])
        return as_int(block.get("number")) if isinstance(block, dict) else None

    def transaction(self, tx_hash: str) -> LoadedTransaction | None:
        """One transaction of the chain, or None if it is in no block.

        Raises:
            SourceError: the node does not answer, or the response is malformed.
        """
        try:
            receipt = self._node.ask("eth_getTransactionReceipt", [tx_hash])
        except RequestRefused as error:
            if error.code == RESOURCE_NOT_FOUND:
                return None
            raise
        if receipt is None or (isinstance(receipt, dict) and receipt.get("blockNumber", 0) is None):
            return None  # unknown, or pending
        logs = logs_of(receipt) if isinstance(receipt, dict) else None
        if logs is None:
            raise MalformedAnswer("node", "a receipt is not an object with logs")
        number, block_hash = as_int(receipt.get("blockNumber")), hash_of(receipt.get("blockHash"))
        # It has a receipt, so a null is a backend's that lags behind.
        block = self._node.call("eth_getBlockByNumber", [receipt.get("blockNumber"), False])
        timestamp = as_int(block.get("timestamp")) if isinstance(block, dict) else None
        if number is None or block_hash is None or timestamp is None:
            raise MalformedAnswer("node", "a receipt without a block, or a block without a time")
        if hash_of(block.get("hash")) != block_hash:
            raise MalformedAnswer("node", "the chain was reorganised during the request; try again")
        sent = self._node.call("eth_getTransactionByHash", [tx_hash])
        decoded = decoded_logs(logs)
        return LoadedTransaction(
            tx_hash=tx_hash,
            block_number=as_bounded(receipt.get("blockNumber")) or 0,
            block_hash=block_hash,
            block_timestamp=as_bounded(block.get("timestamp")) or 0,
            tx_index=as_bounded(receipt.get("transactionIndex")) or 0,
            sender=normalise_address(receipt.get("from")),
            to=normalise_address(receipt.get("to")),
            nonce=as_bounded(sent.get("nonce")) if isinstance(sent, dict) else None,
            gas_used=as_bounded(receipt.get("gasUsed")),
            gas_price=as_int(receipt.get("effectiveGasPrice")),
            transfers=tuple(decoded.transfers),
            native=tuple(decoded.native),
            value=_wei(sent.get("value")) if isinstance(sent, dict) else None,
            approvals=approvals_of(logs),
            selector=selector_of(sent.get("input")) if isinstance(sent, dict) else None,
            status=_status(receipt.get("status")),
        )

    def total_supply(self, token: str, block: int) -> int:
        """A token's total supply at a block, raw units.

        Raises:
            NotStated, ExecutionFailed: the contract states none.
            SourceError: the node does not answer.
        """
        call = {"to": token, "data": _TOTAL_SUPPLY}
        supply = returned_bytes(self._node.call("eth_call", [call, hex(block)]))
        if len(supply) < _WORD_BYTES:
            raise NotStated("node", "totalSupply() did not return a number")
        return int.from_bytes(supply[:_WORD_BYTES])

    def close(self) -> None:
        """Cancel requests and close the connections."""
        self._stop.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()


@dataclass(frozen=True, slots=True)
class NodeState:
    """What the node has last answered."""

    head: int | None  # the newest block; None if it did not answer
    asked_at: float  # Unix seconds
    problem: str = ""  # what is wrong with it, in words that follow "the node"; "" if nothing is


class NodeHealth:
    """Asks the node for its chain and newest block when somebody wants to know. Thread-safe.

    Args:
        node: to ask.
        chain_id: that it should serve.
        clock: Unix seconds.
    """

    def __init__(
        self, node: NodeReader, chain_id: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._node = node
        self._chain_id = chain_id
        self._clock = clock
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="node-health")
        self._lock = threading.Lock()
        self._asking: Future[None] | None = None
        self._last: NodeState | None = None

    def state(self) -> NodeState | None:
        """What the node last answered, at most some seconds ago; None: no answer so far."""
        with self._lock:
            # A time to come means that the clock has been set back.
            is_fresh = self._last is not None and (
                0 <= self._clock() - self._last.asked_at < _FRESH_SECONDS
            )
            if not is_fresh and (self._asking is None or self._asking.done()):
                self._asking = self._pool.submit(self._ask)
            asking = self._asking
        if not is_fresh and asking is not None:
            wait([asking], timeout=_HEALTH_WAIT_SECONDS)
        return self._last

    def close(self) -> None:
        """Stop asking."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self) -> None:
        now = self._clock()
        try:
            served = self._node.chain_id()
            problem = (
                "" if served == self._chain_id else f"serves chain {served}, not {self._chain_id}"
            )
            self._last = NodeState(self._node.head(), now, problem)
        except (SourceError, NotFound):
            self._last = NodeState(None, now, "does not answer")


def decoded_logs(logs: Sequence[dict[str, Any]]) -> DecodedLogs:
    """The transfers among raw JSON-RPC logs, in log order."""
    found = []
    for position, log in enumerate(logs):
        index = as_bounded(log.get("logIndex"))
        event = decode_event(
            log.get("address"),
            log.get("topics"),
            log.get("data"),
            position if index is None else index,
        )
        if event is not None and log.get("removed") is not True:
            found.append(event)
    return separate(found)


def approvals_of(logs: Sequence[dict[str, Any]]) -> tuple[Approval, ...]:
    """The ERC-20 approvals among raw JSON-RPC logs."""
    found = (
        decode_approval(log.get("address"), log.get("topics"), log.get("data"))
        for log in logs
        if log.get("removed") is not True
    )
    return tuple(approval for approval in found if approval is not None)


def _loaded_block(rows: BlockRows) -> LoadedBlock:
    logs: dict[int, list[Transfer]] = {}
    approvals: dict[int, list[Approval]] = {}
    for row in rows.logs:
        topics = [row[name] for name in ("topic0", "topic1", "topic2", "topic3")]
        given = [topic for topic in topics if topic is not None]
        event = decode_event(row["address"], given, row["data"], row["log_index"])
        if event is not None:
            logs.setdefault(row["tx_index"], []).append(event)
        elif (approval := decode_approval(row["address"], given, row["data"])) is not None:
            approvals.setdefault(row["tx_index"], []).append(approval)
    moved = {index: separate(events) for index, events in logs.items()}
    block = rows.block
    return LoadedBlock(
        number=block["block_number"],
        hash=block["block_hash"],
        parent_hash=block["parent_hash"],
        timestamp=block["block_timestamp"],
        transactions=tuple(
            LoadedTransaction.from_row(
                row, *moved[row["tx_index"]], approvals.get(row["tx_index"], ())
            )
            for row in rows.transactions
            if row["tx_index"] in moved and moved[row["tx_index"]].transfers
        ),
        upgraded=tuple(
            row["address"].lower() for row in rows.logs if row["topic0"] in UPGRADE_TOPICS
        ),
        hashes=tuple(row["tx_hash"] for row in rows.transactions),
        reverted=tuple(row["tx_hash"] for row in rows.transactions if row["status"] == 0),
    )


def hash_of(value: Any) -> str | None:
    """A hash of 32 bytes, lowercase; None for anything else."""
    if isinstance(value, str) and len(value) == 66 and as_int(value) is not None:
        return value.lower()
    return None


def _wei(value: Any) -> int | None:
    number = as_int(value)
    return number if number is not None and number < 2**256 else None


def _status(value: Any) -> int | None:
    number = as_int(value)
    return number if number in (0, 1) else None


def as_bounded(value: Any) -> int | None:
    """A quantity that fits into a database integer, else None."""
    number = as_int(value)
    return number if number is not None and number <= _INT64_MAX else None
