"""What each JSON-RPC method may do past the guard, and the transactions in its parameters."""

import re
from collections.abc import Collection, Iterator
from typing import Any, Final

import rlp

from src.service.guard.messages import Number

SCREENED: Final = frozenset(
    {
        "eth_sendRawTransaction",
        "eth_sendRawTransactionSync",
        "eth_sendRawTransactionConditional",
        "eth_sendRawTransactionWithDetailedOutput",
        "eth_sendPrivateRawTransaction",
        "eth_sendPrivateTransaction",
        "eth_sendBundle",
        "eth_sendEndOfBlockBundle",
        "mev_sendBundle",
        "zks_sendRawTransactionWithDetailedOutput",
    }
)
"""Methods that carry signed transactions to the node, which are screened first."""

UNSCREENED: Final = frozenset(
    {
        "eth_sendTransaction",
        "eth_sendUnsignedTransaction",
        "eth_sendUserOperation",
        "eth_resend",
        "personal_sendTransaction",
        "personal_signAndSendTransaction",
        "parity_postTransaction",
        "wallet_sendCalls",
        "wallet_sendTransaction",
    }
)
"""Methods that make a node or wallet send something that the guard cannot read: never allowed."""

_ETH: Final = """
accounts blobBaseFee blockNumber call callBundle callMany cancelBundle cancelPrivateTransaction
chainId coinbase config createAccessList estimateGas estimateUserOperationGas feeHistory
fillTransaction gasPrice getAccount getAccountInfo getBalance getBlockAccessList getBlockByHash
getBlockByNumber getBlockReceipts getBlockTransactionCountByHash getBlockTransactionCountByNumber
getCode getFilterChanges getFilterLogs getHeaderByHash getHeaderByNumber getLogs getProof
getRawTransactionByBlockHashAndIndex getRawTransactionByBlockNumberAndIndex
getRawTransactionByHash getStorageAt getStorageValues getTransactionByBlockHashAndIndex
getTransactionByBlockNumberAndIndex getTransactionByHash getTransactionBySenderAndNonce
getTransactionCount getTransactionReceipt getUncleByBlockHashAndIndex
getUncleByBlockNumberAndIndex getUncleCountByBlockHash getUncleCountByBlockNumber
getUserOperationByHash getUserOperationReceipt getWork hashrate maxPriorityFeePerGas mining
newBlockFilter newFilter newPendingTransactionFilter pendingTransactions protocolVersion
simulateV1 subscribe supportedEntryPoints syncing uninstallFilter unsubscribe
"""
_OTHER: Final = """
debug_getRawBlock debug_getRawHeader debug_getRawReceipts debug_getRawTransaction
debug_storageRangeAt debug_traceBlock debug_traceBlockByHash debug_traceBlockByNumber
debug_traceCall debug_traceCallMany debug_traceTransaction erigon_getBlockReceiptsByBlockHash
erigon_getHeaderByHash erigon_getHeaderByNumber erigon_getLatestLogs mev_simBundle net_listening
net_peerCount net_version ots_getApiLevel ots_getBlockDetails ots_getBlockTransactions
ots_getContractCreator ots_getInternalOperations ots_getTransactionError ots_hasCode
ots_searchTransactionsAfter ots_searchTransactionsBefore ots_traceTransaction rpc_modules
trace_block trace_call trace_callMany trace_filter trace_get trace_rawTransaction
trace_replayBlockTransactions trace_replayTransaction trace_transaction txpool_content
txpool_contentFrom txpool_inspect txpool_status web3_clientVersion web3_sha3
"""
READING: Final = frozenset({*(f"eth_{name}" for name in _ETH.split()), *_OTHER.split()})
"""Methods that send nothing; all others must be allowed by name."""

_NEVER: Final = SCREENED | UNSCREENED
_SENDS: Final = re.compile(
    "send(?!er)|submit|post|broadcast|publish(?!er)|relay|push|inject|import|newPayload|_tx$",
    re.IGNORECASE,
)
MAX_TRANSACTIONS: Final = 16
"""In one message: what one simulation takes."""

_HASH_CHARACTERS: Final = 66
_HASH_LENGTHS: Final = (64, _HASH_CHARACTERS)  # some nodes do not want the prefix
_LEAST_FIELDS: Final = 9  # of a transaction, in a list of RLP
_FIRST_LIST: Final = 0xC0
_SIGNED: Final = re.compile(r"0x(?:[0-9a-fA-F]{2}){33,}")


class Unreadable(ValueError):
    """The parameters contain something that may be a transaction and cannot be read."""


class AllowList:
    """The methods that may pass.

    Args:
        more: further methods, by name or as a prefix such as `arb_*`, which does not cover names
            that sound like sending.
    """

    def __init__(self, more: Collection[str] = ()) -> None:
        self._names = READING | {name for name in more if not name.endswith("*")}
        self._prefixes = tuple(name[:-1] for name in more if name.endswith("*"))

    def __contains__(self, method: object) -> bool:
        """Whether a method may pass unscreened; by its exact name, in its exact case."""
        if not isinstance(method, str) or method in _NEVER:
            return False
        if method in self._names:
            return True
        return method.startswith(self._prefixes) and not _SENDS.search(method)


def signed_transactions(params: Any) -> tuple[bytes, ...]:
    """Every signed transaction in the parameters of a screened method, in order.

    Wherever a text is longer than a hash it must be hexadecimal and is taken for a transaction,
    whatever the key above it: the methods' forms differ by node and builder. A transaction fits
    into a hash's length only if its signature is made up, for a sender whose key nobody has; none
    of those passes. Nodes that read bytes from arrays of numbers exist too.

    Raises:
        Unreadable: there is none, there are too many, or a text or array could hide one.
    """
    found = [bytes.fromhex(text[2:]) for text in _long_texts(params)]
    if not found:
        raise Unreadable("no signed transaction, as 0x and hex digits")
    if len(found) > MAX_TRANSACTIONS:
        raise Unreadable(f"more than {MAX_TRANSACTIONS} transactions")
    return tuple(found)


def names_by_hash(params: Any) -> bool:
    """Whether the parameters name a transaction by its hash.

    The bundles of MEV-Share may, by the key `hash`; some builders take hashes among the raw
    transactions of a list. The guard cannot see what such a transaction does, so neither what those
    behind it do.
    """
    if isinstance(params, dict):
        return any(
            (key.casefold() == "hash" and one is not None) or names_by_hash(one)
            for key, one in params.items()
        )
    if not isinstance(params, list):
        return False
    lengths = {len(one) for one in params if isinstance(one, str)}
    has_hash = not lengths.isdisjoint(_HASH_LENGTHS)
    has_raw = max(lengths, default=0) > _HASH_CHARACTERS
    return (has_hash and has_raw) or any(map(names_by_hash, params))


def _long_texts(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, Number):
        return
    if isinstance(value, str):
        if len(value) > _HASH_CHARACTERS:
            if not _SIGNED.fullmatch(value):
                raise Unreadable("a text that is neither a transaction nor short")
            yield value
        elif _is_transaction(value):
            raise Unreadable("a transaction as short as a hash")
    elif isinstance(value, dict):
        for key, one in value.items():
            if len(key) > _HASH_CHARACTERS:
                raise Unreadable("a key is too long")
            yield from _long_texts(one, depth + 1)
    elif isinstance(value, list):
        if depth and any(isinstance(one, Number) for one in value):
            raise Unreadable("an array of numbers")
        for one in value:
            yield from _long_texts(one, depth + 1)


def _is_transaction(text: str) -> bool:
    """Whether some node could read a short text as one; not all of them want the prefix."""
    try:
        raw = bytes.fromhex(text.removeprefix("0x").removeprefix("0X"))
        fields = rlp.decode(raw if raw[0] >= _FIRST_LIST else raw[1:])
    except (ValueError, IndexError, rlp.DecodingError):
        return False
    return isinstance(fields, list) and len(fields) >= _LEAST_FIELDS
