"""The transactions of a slice as the arrays that features and detectors read."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from src.backtest.kernels import words as loops
from src.backtest.kernels.accounts import number_accounts
from src.backtest.kernels.columns import SECRET, Words, hex_texts, numbered, words_of
from src.detection.features.batch import TransferBatch


@dataclass(frozen=True, slots=True)
class TransactionBatch:
    """Transactions with at least one ERC-20 transfer, in order of block and position.

    Attributes:
        tx_hash: words, shape (n_tx, 4).
        block_number, timestamp, tx_index, nonce: -1 where unknown.
        sender: words of `tx.from`; `has_sender` where it is known.
        to: words of `tx.to`; `has_to` where there is one and it is known.
        called: account id of `to` in `transfers`; -1 where it has no part in them.
        transfers: what the features read; account ids are those of each transaction by itself.
        payer, payee: address words, shape (n_transfers, 3).
        amount: words, exact, shape (n_transfers, 4).
    """

    tx_hash: Words
    block_number: NDArray[np.int64]
    timestamp: NDArray[np.int64]
    tx_index: NDArray[np.int64]
    nonce: NDArray[np.int64]
    sender: Words
    has_sender: NDArray[np.bool_]
    to: Words
    has_to: NDArray[np.bool_]
    called: NDArray[np.int32]
    transfers: TransferBatch
    payer: Words
    payee: Words
    amount: Words

    def __len__(self) -> int:
        return len(self.tx_hash)


def batch_of(table: pa.Table) -> TransactionBatch:
    """The arrays of a slice of a history store (`history.canonical.SCHEMA`)."""
    table = table.combine_chunks()
    lists = _array(table, "transfers")
    offsets = np.asarray(lists.offsets, np.int64)
    moved = lists.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    offsets -= offsets[0]
    token, payer, payee, amount = (
        words_of(moved.field(name))
        for name in ("token_address", "from_address", "to_address", "amount")
    )
    sender, to = _array(table, "from_address"), _array(table, "to_address")
    origin, called = _known_words(sender), _known_words(to)
    has_to = _is_known(to)
    payers, payees, origins, called_ids, n_accounts = number_accounts(
        offsets, payer, payee, origin, called, has_to, SECRET
    )
    number, first = numbered(token)
    transfers = TransferBatch(
        offsets=offsets,
        token=number,
        sender=payers,
        recipient=payees,
        amount=loops.to_floats(amount),
        origin=origins,
        token_addresses=hex_texts(token[first], loops.ADDRESS_BYTES),
        n_accounts=n_accounts,
    )
    return TransactionBatch(
        tx_hash=words_of(_array(table, "tx_hash")),
        block_number=_numbers(table, "block_number"),
        timestamp=_numbers(table, "block_timestamp"),
        tx_index=_numbers(table, "tx_index"),
        nonce=_numbers(table, "nonce"),
        sender=origin,
        has_sender=_is_known(sender),
        to=called,
        has_to=has_to,
        called=called_ids,
        transfers=transfers,
        payer=payer,
        payee=payee,
        amount=amount,
    )


def _array(table: pa.Table, name: str) -> pa.Array:
    column = table[name]
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _is_known(array: pa.Array) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = pc.is_valid(array).to_numpy(zero_copy_only=False)
    return found


def _known_words(array: pa.Array) -> Words:
    """Words, 0 where null."""
    words = words_of(array)
    if array.null_count:
        words[~_is_known(array)] = 0
    return words


def _numbers(table: pa.Table, name: str) -> NDArray[np.int64]:
    """Whole numbers; -1 for null."""
    column = _array(table, name)
    if column.null_count:
        column = pc.fill_null(column, -1)
    return np.require(column.to_numpy(zero_copy_only=False), np.int64, ["C", "W"])
