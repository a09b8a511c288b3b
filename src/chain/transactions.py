"""The fields of a transaction that detection needs, from an event with unreliable fields."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Self

import rlp
from eth_utils.crypto import keccak

from src.chain.quantities import as_int
from src.chain.text import sanitise_text
from src.chain.transfers import Approval, NativeTransfer, normalise_address

_LATEST_TIMESTAMP = 253_402_300_799  # 9999-12-31 23:59:59 UTC: what calendars can show
_MAX_BLOCK = 2**63 - 1  # what databases store
_HASH_LENGTH = 66
_ADDRESS_BYTES = 20
_MAX_CREATIONS = 32
_RLP_BYTE = 0x80  # smaller numbers are one byte that is the number; this one stands for 0


class TransactionFields(NamedTuple):
    """A transaction without its ERC-20 transfers. A tuple, since one is created per transaction."""

    tx_hash: str  # lowercase; "" if the event has none
    sender: str | None  # `tx.from`, lowercase, or None if the event has no valid address
    to: str | None  # `tx.to`, lowercase; None for a contract creation or an invalid one
    nonce: int | None  # number of earlier transactions of the sender, or None
    timestamp: int | None  # of the block, Unix seconds, or None
    block_number: int | None
    value: int | None = None  # wei sent with it, or None if unknown
    # All its native transfers, internal ones and `value` included, where the chain logs them
    # (EIP-7708) or there are traces; else None.
    native: Sequence[NativeTransfer] | None = None
    gas_cost: int | None = None  # wei paid for gas, or None if unknown: an event has no receipt
    chain_id: int | None = None  # of the event, or None if it does not say
    approvals: Sequence[Approval] = ()  # of ERC-20 tokens, that it logs

    @classmethod
    def from_event(cls, event: Any) -> Self:
        """Read a `forta_agent.TransactionEvent` (or anything of its shape). Never raises."""
        transaction = getattr(event, "transaction", None)
        block = getattr(event, "block", None)
        return cls(
            tx_hash=sanitise_text(getattr(transaction, "hash", None), _HASH_LENGTH).lower(),
            sender=normalise_address(getattr(transaction, "from_", None)),
            to=normalise_address(getattr(transaction, "to", None)),
            nonce=as_int(getattr(transaction, "nonce", None)),
            timestamp=_at_most(_LATEST_TIMESTAMP, getattr(block, "timestamp", None)),
            block_number=_at_most(_MAX_BLOCK, getattr(block, "number", None)),
            value=as_int(getattr(transaction, "value", None)),
            chain_id=as_int(getattr(event, "network", None)),
        )


def _at_most(limit: int, value: Any) -> int | None:
    number = as_int(value)
    return number if number is not None and number <= limit else None


@lru_cache(maxsize=4_096)
def created_contract(creator: str, nonce: int) -> str:
    """The address of the contract that an account creates with its transaction of this nonce.

    `nonce` is the number of its earlier transactions.
    """
    address = bytes.fromhex(creator[2:])
    if (
        0 <= nonce < _RLP_BYTE
    ):  # as below; a sentence tries dozens, and the library takes half of it
        content = b"\xd6\x94" + address + bytes([nonce or _RLP_BYTE])
    else:
        content = rlp.encode([address, nonce])
    return f"0x{keccak(content)[-_ADDRESS_BYTES:].hex()}"


def created_by(transaction: TransactionFields) -> str | None:
    """The contract that a transaction creates, or None; one that creates it has no recipient."""
    if transaction.to is not None or transaction.sender is None or transaction.nonce is None:
        return None
    return created_contract(transaction.sender, transaction.nonce)


def creation_nonce(creator: str | None, nonce: int | None, contract: str | None) -> int | None:
    """Which of an account's earlier transactions created a contract.

    `nonce` is the number of the account's earlier transactions.

    Returns:
        That transaction's nonce; None if none of the first few dozen did.
    """
    if creator is None or nonce is None or contract is None:
        return None
    tried = range(min(nonce, _MAX_CREATIONS))
    return next((one for one in tried if created_contract(creator, one) == contract), None)
