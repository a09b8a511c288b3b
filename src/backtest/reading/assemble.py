"""From a slice's exported rows to transactions with their transfers in log order."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from src.backtest.errors import BacktestError
from src.backtest.kernels import arrow, joins
from src.backtest.reading.columns import (
    SECRET,
    Words,
    hex_texts,
    numbered,
    numbers,
    parsed_amounts,
    parsed_bytes,
    unix_seconds,
)
from src.backtest.reading.reading import SliceTables
from src.chain.transfers import NATIVE_EMITTERS, TRANSFER_TOPIC
from src.detection.features.batch import TransferBatch

_TRANSFER_TOPIC = np.frombuffer(bytes.fromhex(TRANSFER_TOPIC[2:]), ">u8").astype(np.uint64)
_NATIVE_EMITTERS = parsed_bytes(pa.chunked_array([sorted(NATIVE_EMITTERS)]), arrow.ADDRESS_BYTES)[0]
_ERC20 = "erc20"
_UPPER_ADDRESS = np.uint64(0xFFFFFFFF)  # of a 32-byte word, 20 bytes are the address


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
        orphans: number of transfers without a transaction.
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
    orphans: int

    def __len__(self) -> int:
        return len(self.tx_hash)


@dataclass(frozen=True, slots=True)
class _Transfers:
    tx_hash: Words
    log_index: NDArray[np.int64]
    token: Words
    payer: Words
    payee: Words
    amount: Words

    def __getitem__(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "_Transfers":
        return _Transfers(*(getattr(self, name)[rows] for name in self.__slots__))


def assemble(tables: SliceTables) -> TransactionBatch:
    """Join transfers to their transactions; each transaction and each log counts once.

    Of duplicate rows the first one counts. Logs that are not ERC-20 transfers are ignored,
    including malformed ones, as in live handling. In a table of *transfers*, a malformed value is
    an error.

    Raises:
        BacktestError: the data is corrupt, or a column has an unsuitable type.
    """
    transfers = (
        _from_logs(tables.transfers)
        if "topic0" in tables.transfers.column_names
        else _from_transfers(tables.transfers)
    )
    columns = tables.transactions
    tx_hash, good = parsed_bytes(columns["tx_hash"], arrow.WORD_BYTES)
    _require(good, columns["tx_hash"], "transactions", "tx_hash", "a transaction hash")
    n_rows = len(tx_hash)
    owner = joins.find_rows(tx_hash, transfers.tx_hash, SECRET)
    known = owner >= 0
    orphans = int(len(known) - known.sum())
    if orphans:
        transfers, owner = transfers[known], owner[known]
    is_used, earliest = joins.first_positions(owner, transfers.log_index, n_rows)
    rows = np.flatnonzero(is_used)
    keys = np.stack(
        [
            numbers(columns["block_number"], "block_number")[rows],
            _optional(columns, "tx_index")[rows],
            earliest[rows],
        ],
        axis=1,
    )
    hashes = tx_hash[rows]
    sender, has_sender = parsed_bytes(columns["from_address"], arrow.ADDRESS_BYTES, rows)
    to, has_to = _called(columns, rows)
    if not joins.is_sorted(keys, hashes):
        order = np.lexsort((*hashes.T[::-1], *keys.T[::-1]))
        rows, hashes, keys = rows[order], hashes[order], keys[order]
        sender, has_sender, to, has_to = sender[order], has_sender[order], to[order], has_to[order]
    position = np.empty(n_rows, np.int64)
    position[rows] = np.arange(len(rows))
    transfers, offsets = _in_order(transfers, position[owner], len(rows))
    batch, called = _transfer_batch(transfers, offsets, sender, to, has_to)
    return TransactionBatch(
        tx_hash=hashes,
        block_number=np.ascontiguousarray(keys[:, 0]),
        timestamp=_timestamps(tables)[rows],
        tx_index=np.ascontiguousarray(keys[:, 1]),
        nonce=_optional(columns, "nonce")[rows],
        sender=sender,
        has_sender=has_sender,
        to=to,
        has_to=has_to,
        called=called,
        transfers=batch,
        payer=transfers.payer,
        payee=transfers.payee,
        amount=transfers.amount,
        orphans=orphans,
    )


def _transfer_batch(
    transfers: _Transfers,
    offsets: NDArray[np.int64],
    origin: Words,
    to: Words,
    has_to: NDArray[np.bool_],
) -> tuple[TransferBatch, NDArray[np.int32]]:
    """The arrays that the features read, and the account id of each contract called."""
    sender, recipient, origins, called, n_accounts = joins.number_accounts(
        offsets, transfers.payer, transfers.payee, origin, to, has_to, SECRET
    )
    token, first = numbered(transfers.token)
    batch = TransferBatch(
        offsets=offsets,
        token=token,
        sender=sender,
        recipient=recipient,
        amount=arrow.to_floats(transfers.amount),
        origin=origins,
        token_addresses=hex_texts(transfers.token[first], arrow.ADDRESS_BYTES),
        n_accounts=n_accounts,
    )
    return batch, called


def _in_order(
    transfers: _Transfers, place: NDArray[np.int64], n_tx: int
) -> tuple[_Transfers, NDArray[np.int64]]:
    """By transaction, then log, each log once; and where each transaction's begin and end."""
    offsets = joins.group_ends(place, transfers.log_index, n_tx)
    if not len(offsets):
        order = np.lexsort((transfers.log_index, place))
        place, log_index = place[order], transfers.log_index[order]
        again = (np.diff(place) == 0) & (np.diff(log_index) == 0)
        order = order[np.append(True, ~again)]
        transfers = transfers[order]
        counts = np.bincount(place[np.append(True, ~again)], minlength=n_tx)
        offsets = np.append(0, np.cumsum(counts))
    return transfers, offsets


def _from_transfers(table: pa.Table) -> _Transfers:
    if "token_std" in table.column_names:
        table = table.filter(pc.equal(table["token_std"], _ERC20))
    amount, good = parsed_amounts(table["amount"])
    _require(good, table["amount"], "transfers", "the amount", "a uint256")
    log_index = numbers(table["log_index"], "log_index")
    _require(log_index >= 0, table["log_index"], "transfers", "log_index", "a position")
    words = {}
    for name in ("token_address", "from_address", "to_address"):
        words[name], good = parsed_bytes(table[name], arrow.ADDRESS_BYTES)
        _require(good, table[name], "transfers", name, "an address")
    return _of_tokens(
        _Transfers(
            _transaction_hashes(table),
            log_index,
            words["token_address"],
            words["from_address"],
            words["to_address"],
            amount,
        )
    )


def _from_logs(table: pa.Table) -> _Transfers:
    """The ERC-20 transfers among the logs, decoded as in `chain.transfers.decode_transfer`."""
    topic0, is_transfer = parsed_bytes(table["topic0"], arrow.WORD_BYTES)
    is_transfer &= (topic0 == _TRANSFER_TOPIC).all(axis=1)
    is_transfer &= pc.is_null(table["topic3"]).to_numpy()
    table = table.filter(pa.array(is_transfer))
    amount, good = parsed_bytes(table["data"], arrow.WORD_BYTES)
    payer, well = parsed_bytes(table["topic1"], arrow.WORD_BYTES)
    payee, formed = parsed_bytes(table["topic2"], arrow.WORD_BYTES)
    token, addressed = parsed_bytes(table["token_address"], arrow.ADDRESS_BYTES)
    kept = good & well & formed & addressed
    transfers = _Transfers(
        _transaction_hashes(table),
        numbers(table["log_index"], "log_index"),
        token,
        _address_in(payer),
        _address_in(payee),
        amount,
    )
    return _of_tokens(transfers if kept.all() else transfers[kept])


def _of_tokens(transfers: _Transfers) -> _Transfers:
    """Without native transfers, see `chain.transfers`."""
    is_native = np.zeros(len(transfers.token), np.bool_)
    for emitter in _NATIVE_EMITTERS:
        is_native |= (transfers.token == emitter).all(axis=1)
    return transfers[~is_native] if is_native.any() else transfers


def _address_in(words: Words) -> Words:
    """The lower 20 of 32 bytes."""
    lower = words[:, 1:].copy()
    lower[:, 0] &= _UPPER_ADDRESS
    return lower


def _transaction_hashes(table: pa.Table) -> Words:
    tx_hash, good = parsed_bytes(table["tx_hash"], arrow.WORD_BYTES)
    _require(good, table["tx_hash"], "transfers", "tx_hash", "a transaction hash")
    return tx_hash


def _timestamps(tables: SliceTables) -> NDArray[np.int64]:
    columns = tables.transactions
    if tables.blocks is None:
        return unix_seconds(columns["block_timestamp"], "block_timestamp")
    wanted = numbers(columns["block_number"], "block_number")
    block = numbers(tables.blocks["block_number"], "block_number")
    time = unix_seconds(tables.blocks["block_timestamp"], "timestamp")
    order = np.argsort(block, kind="stable")
    block, time = np.append(block[order], -1), np.append(time[order], -1)
    at = np.searchsorted(block[:-1], wanted)
    return np.where(block[at] == wanted, time[at], -1)


def _called(table: pa.Table, rows: NDArray[np.int64]) -> tuple[Words, NDArray[np.bool_]]:
    """The addresses that these transactions call, and which of them are known."""
    if "to_address" in table.column_names:
        return parsed_bytes(table["to_address"], arrow.ADDRESS_BYTES, rows)
    return np.zeros((len(rows), 3), np.uint64), np.zeros(len(rows), np.bool_)


def _optional(table: pa.Table, name: str) -> NDArray[np.int64]:
    if name in table.column_names:
        return numbers(table[name], name)
    return np.full(table.num_rows, -1, np.int64)


def _require(
    good: NDArray[np.bool_], column: pa.ChunkedArray, table: str, name: str, what: str
) -> None:
    if not good.all():
        row = int(np.argmin(good))
        found = repr(column[row].as_py())[:100]
        raise BacktestError(
            f"{table}: {name} of {int((~good).sum()):,} rows is not {what}, the first is {found}; "
            "the export is corrupt or uses an unsupported layout"
        )
