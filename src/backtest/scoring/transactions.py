"""The transactions of a slice as the arrays that features and detectors read."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from src.datasets.fixed_bytes import floats_of, hex_column, numbered
from src.datasets.store import ADDRESS
from src.detection.features.batch import TransferBatch

_ZERO_ADDRESS: Final = bytes(20)
_NOBODY: Final = -1


@dataclass(frozen=True, slots=True)
class TransactionBatch:
    """Transactions with at least one ERC-20 transfer, in order of block and position."""

    # tx_hash, sender, to: bytes; null where unknown or, of `to`, absent.
    tx_hash: pa.Array
    # block_number, timestamp, tx_index, nonce: -1 where unknown.
    block_number: NDArray[np.int64]
    timestamp: NDArray[np.int64]
    tx_index: NDArray[np.int64]
    nonce: NDArray[np.int64]
    sender: pa.Array
    to: pa.Array
    has_sender: NDArray[np.bool_]  # where `sender` is known
    called: NDArray[np.int32]  # account id of `to`; -1 where there is none
    transfers: TransferBatch  # what the features read
    accounts: pa.Array  # the address of each account id
    amount: pa.Array  # of each transfer, bytes

    def __len__(self) -> int:
        return len(self.tx_hash)


def batch_of(table: pa.Table) -> TransactionBatch:
    """The arrays of a slice of a history store (`datasets.store.SCHEMA`)."""
    lists = _array(table, "transfers")
    offsets = np.array(lists.offsets, np.int64)
    moved = lists.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    offsets -= offsets[0]
    sender, to = _array(table, "from_address"), _array(table, "to_address")
    zero = pa.array([_ZERO_ADDRESS], ADDRESS)  # has number 0
    sides = [moved.field("from_address"), moved.field("to_address")]
    known = [sender.fill_null(_ZERO_ADDRESS), to.fill_null(_ZERO_ADDRESS)]
    number, accounts = numbered(pa.concat_arrays([zero, *sides, *known]))
    payer, payee, origin, called = np.split(number[1:], np.cumsum([*map(len, sides), len(sender)]))
    token, tokens = numbered(moved.field("token_address"))
    amount = moved.field("amount")
    transfers = TransferBatch(
        offsets=offsets,
        token=token,
        sender=payer,
        recipient=payee,
        amount=floats_of(amount),
        origin=origin,
        token_addresses=hex_column(tokens).to_pylist(),
        n_accounts=len(accounts),
    )
    return TransactionBatch(
        tx_hash=_array(table, "tx_hash"),
        block_number=_numbers(table, "block_number"),
        timestamp=_numbers(table, "block_timestamp"),
        tx_index=_numbers(table, "tx_index"),
        nonce=_numbers(table, "nonce"),
        sender=sender,
        to=to,
        has_sender=_is_known(sender),
        called=np.where(_is_known(to), called, np.int32(_NOBODY)),
        transfers=transfers,
        accounts=accounts,
        amount=amount,
    )


def _array(table: pa.Table, name: str) -> pa.Array:
    return table[name].combine_chunks()


def _is_known(array: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(array.is_valid())


def _numbers(table: pa.Table, name: str) -> NDArray[np.int64]:
    """Whole numbers; -1 for null."""
    return np.array(pc.fill_null(_array(table, name), -1), np.int64)
