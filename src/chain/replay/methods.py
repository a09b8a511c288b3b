"""The JSON-RPC methods of a replayed node.

A method takes its parameters as JSON and returns JSON, or raises `RpcError`. For data that is not
in the recording it raises `Unrecorded`: `null`, `0x` or 0 would claim that it does not exist.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.crypto import keccak

from src.chain.erc20 import MULTICALL3
from src.chain.quantities import as_bytes
from src.chain.recording.rows import Json, RecordedBlock, parse_quantity
from src.chain.replay.chain import RecordedChain, Unrecorded
from src.chain.transfers import normalise_address

INVALID_PARAMS = -32602
REVERTED = 3

CLIENT_VERSION = "anomalous-token-transfers/replay"

_HASH = re.compile(r"0x[0-9a-fA-F]{64}")
_NEWEST = ("latest", "pending", "safe", "finalized")
_AGGREGATE3 = keccak(text="aggregate3((address,bool,bytes)[])")[:4]
_METADATA_OF_SELECTOR = {
    keccak(text=f"{name}()")[:4]: name for name in ("name", "symbol", "decimals")
}
_SELECTOR_BYTES = 4
_MAX_TOPICS = 4

Method = Callable[..., Any]


class RpcError(Exception):
    """A JSON-RPC error response."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ReplayMethods:
    """The methods for one recorded chain. Thread-safe."""

    def __init__(self, chain: RecordedChain) -> None:
        self._chain = chain
        self.methods: dict[str, Method] = {
            "web3_clientVersion": lambda: CLIENT_VERSION,
            "net_version": lambda: str(chain.chain_id),
            "eth_chainId": lambda: hex(chain.chain_id),
            "eth_blockNumber": lambda: hex(chain.head),
            "eth_syncing": lambda: False,
            "eth_getBlockByNumber": self.get_block_by_number,
            "eth_getBlockByHash": self.get_block_by_hash,
            "eth_getTransactionByHash": self.get_transaction,
            "eth_getTransactionReceipt": self.get_receipt,
            "eth_getBlockReceipts": self.get_block_receipts,
            "eth_getLogs": self.get_logs,
            "eth_getTransactionCount": self.get_transaction_count,
            "eth_call": self.call,
        }

    def get_block_by_number(self, block: Any, full: Any = False) -> Json | None:
        """`eth_getBlockByNumber`; null above the newest recorded block, which is "latest"."""
        number = self._number(block)
        return None if number > self._chain.head else _block(self._chain.block(number), full)

    def get_block_by_hash(self, block_hash: Any, full: Any = False) -> Json:
        """`eth_getBlockByHash`."""
        return _block(self._chain.block(self._number_of(block_hash)), full)

    def get_transaction(self, transaction_hash: Any) -> Json:
        """`eth_getTransactionByHash`."""
        return self._transaction(transaction_hash)[0]

    def get_receipt(self, transaction_hash: Any) -> Json:
        """`eth_getTransactionReceipt`."""
        return self._transaction(transaction_hash)[1]

    def get_block_receipts(self, block: Any) -> list[Json] | None:
        """`eth_getBlockReceipts`, by number, tag or hash."""
        is_hash = isinstance(block, str) and _HASH.fullmatch(block)
        number = self._number_of(block) if is_hash else self._number(block)
        return None if number > self._chain.head else self._chain.block(number).receipts

    def get_logs(self, criteria: Any) -> list[Json]:
        """`eth_getLogs`; every block of the range up to the newest must be recorded."""
        if not isinstance(criteria, dict):
            raise RpcError(INVALID_PARAMS, "the filter must be an object")
        addresses = _addresses(criteria.get("address"))
        topics = _topic_filter(criteria.get("topics"))
        if criteria.get("blockHash") is not None:
            if "fromBlock" in criteria or "toBlock" in criteria:
                raise RpcError(INVALID_PARAMS, "blockHash excludes fromBlock and toBlock")
            first = last = self._number_of(criteria["blockHash"])
        else:
            first = self._number(_or_latest(criteria.get("fromBlock")))
            last = self._number(_or_latest(criteria.get("toBlock")))
            if first > last:
                raise RpcError(INVALID_PARAMS, f"fromBlock {first} is after toBlock {last}")
            last = min(last, self._chain.head)
        if first > last:
            return []
        blocks = self._chain.blocks_between(first, last)
        logs = (log for block in blocks for receipt in block.receipts for log in receipt["logs"])
        return [log for log in logs if _matches(log, addresses, topics)]

    def get_transaction_count(self, address: Any, block: Any = "latest") -> str:
        """`eth_getTransactionCount`, if it follows from the recorded nonces."""
        account = _lower_address(address)
        number = min(self._number(block), self._chain.head)
        return hex(self._chain.nonce_after(account, number))

    def call(self, transaction: Any, block: Any = "latest", *_: Any) -> str:
        """`eth_call` of a token's `name()`, `symbol()` and `decimals()`, if recorded, and of
        Multicall3's `aggregate3` with such calls.
        """
        self._number(block)
        if not isinstance(transaction, dict):
            raise RpcError(INVALID_PARAMS, "the call must be an object")
        to = _lower_address(transaction.get("to"))
        data = transaction.get("input", transaction.get("data", "0x"))
        payload = as_bytes(data)
        if payload is None:
            raise RpcError(INVALID_PARAMS, "the call's data must be hexadecimal")
        if to == MULTICALL3 and payload[:_SELECTOR_BYTES] == _AGGREGATE3:
            return "0x" + self._aggregate(payload[_SELECTOR_BYTES:]).hex()
        answer = self._metadata(to, payload)
        if answer is None:
            raise RpcError(REVERTED, "execution reverted")
        return answer

    def _aggregate(self, arguments: bytes) -> bytes:
        try:
            (calls,) = decode(["(address,bool,bytes)[]"], arguments)
        except (DecodingError, OverflowError, ValueError) as error:
            raise RpcError(INVALID_PARAMS, "aggregate3's arguments do not decode") from error
        results = []
        for to, may_fail, payload in calls:
            answer = self._metadata(to.lower(), payload)
            if answer is None and not may_fail:
                raise RpcError(REVERTED, "execution reverted: Multicall3: call failed")
            results.append((answer is not None, bytes.fromhex((answer or "0x")[2:])))
        return encode(["(bool,bytes)[]"], [results])

    def _metadata(self, token: str, payload: bytes) -> str | None:
        """The returned data; None if the call reverts."""
        name = _METADATA_OF_SELECTOR.get(payload[:_SELECTOR_BYTES])
        recorded = self._chain.tokens.get(token)
        if name is None or recorded is None:
            raise Unrecorded(
                f"this call to {token} is not in the recording, which contains name(), symbol() and"
                f" decimals() of {len(self._chain.tokens)} tokens"
            )
        answer: str | None = getattr(recorded, name)
        return answer

    def _transaction(self, transaction_hash: Any) -> tuple[Json, Json]:
        _check_hash(transaction_hash)
        return self._chain.transaction(transaction_hash)

    def _number_of(self, block_hash: Any) -> int:
        _check_hash(block_hash)
        return self._chain.number_of(block_hash)

    def _number(self, block: Any) -> int:
        """The block number of a quantity, a tag, or an EIP-1898 object."""
        if isinstance(block, dict):
            if "blockHash" in block:
                return self._number_of(block["blockHash"])
            block = block.get("blockNumber")
        if block in _NEWEST:
            return self._chain.head
        if block == "earliest":
            return self._chain.numbers[0]
        number = parse_quantity(block)
        if number is None:
            tags = ", ".join(("earliest", *_NEWEST))
            raise RpcError(INVALID_PARAMS, f"a block is a quantity such as 0x1b4, or {tags}")
        return number


def _lower_address(given: Any) -> str:
    address = normalise_address(given)
    if address is None:
        raise RpcError(INVALID_PARAMS, "an address must be 0x and 40 hex digits")
    return address


def _check_hash(value: Any) -> None:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise RpcError(INVALID_PARAMS, "a hash must be 0x and 64 hex digits")


def _block(recorded: RecordedBlock, full: Any) -> Json:
    if not isinstance(full, bool):
        raise RpcError(INVALID_PARAMS, "the second parameter must be true or false")
    if full:
        return recorded.block
    return recorded.block | {"transactions": [tx["hash"] for tx in recorded.block["transactions"]]}


def _or_latest(block: Any) -> Any:
    return "latest" if block is None else block


def _addresses(given: Any) -> frozenset[str] | None:
    """The addresses of a filter in lowercase, or None for any."""
    if given is None:
        return None
    addresses = given if isinstance(given, list) else [given]
    return frozenset(_lower_address(address) for address in addresses) or None


def _topic_filter(given: Any) -> list[frozenset[str] | None]:
    """For each position the topics that match, or None for any."""
    if given is None:
        return []
    if not isinstance(given, list) or len(given) > _MAX_TOPICS:
        raise RpcError(INVALID_PARAMS, "topics must be a list of at most four")
    wanted: list[frozenset[str] | None] = []
    for position in given:
        choices = position if isinstance(position, list) else [position]
        if any(choice is None for choice in choices) or not choices:
            wanted.append(None)
            continue
        for choice in choices:
            _check_hash(choice)
        wanted.append(frozenset(choice.lower() for choice in choices))
    return wanted


def _matches(
    log: Json, addresses: frozenset[str] | None, topics: Sequence[frozenset[str] | None]
) -> bool:
    if addresses is not None and log["address"].lower() not in addresses:
        return False
    if len(topics) > len(log["topics"]):
        return False
    pairs = zip(topics, log["topics"], strict=False)
    return all(wanted is None or topic.lower() in wanted for wanted, topic in pairs)
