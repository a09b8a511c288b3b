"""Transactions, transfers and tokens in their present state on the chain."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import (
    CompoundSelect,
    Connection,
    Row,
    delete,
    exists,
    select,
    union,
    update,
)

from src.chain.transfers import NativeTransfer, Transfer
from src.decision.tokens import TokenView
from src.service.database.engine import in_chunks, insert_missing, put
from src.service.database.tables import (
    alerts,
    decisions,
    features,
    native_transfers,
    of_transaction,
    same_transaction,
    tokens,
    transactions,
    transfers,
)
from src.service.records import LoadedTransaction

MAX_SEEN: Final = 1_000

Role = Literal["sender", "called"]


def store_transactions(
    connection: Connection, chain_id: int, loaded: Iterable[LoadedTransaction], now: float
) -> None:
    """Store transactions and their transfers; existing rows are kept.

    A transaction that a reorganisation moved to another block has to be decided again.
    """
    for chunk in in_chunks(loaded):
        known = _block_hashes(connection, chain_id, [one.tx_hash for one in chunk])
        # First, for its locks: writers of other rows of a transaction wait here, for no deadlock.
        put(connection, transactions, [_transaction_row(chain_id, one, now) for one in chunk])
        for one in chunk:
            if known.get(one.tx_hash, one.block_hash) != one.block_hash:
                _move(connection, chain_id, one)
        rows = [_moved_row(chain_id, one, moved) for one in chunk for moved in one.transfers]
        insert_missing(connection, transfers, rows)
        native = [_moved_row(chain_id, one, moved) for one in chunk for moved in one.native]
        insert_missing(connection, native_transfers, native)


def store_tokens(connection: Connection, chain_id: int, known: Iterable[TokenView]) -> None:
    """Store names and symbols of tokens; replaces earlier ones.

    Only what has changed is written, in a fixed order: most transactions move the same few tokens,
    and would wait for each other on PostgreSQL, or for ever.
    """
    wanted = {token.address: token for token in known}
    stored = find_tokens(connection, chain_id, wanted)
    names = tokens.c.keys()[1:]
    rows = [
        {"chain_id": chain_id} | {name: getattr(token, name) for name in names}
        for address, token in sorted(wanted.items())
        if any(getattr(token, name) != getattr(stored.get(address), name, None) for name in names)
    ]
    put(connection, tokens, rows)


def mark_orphaned(connection: Connection, chain_id: int, block_hashes: Collection[str]) -> int:
    """Mark the transactions of replaced blocks and their alerts as orphaned.

    Returns:
        The number of transactions.
    """
    gone = (
        select(transactions.c.tx_hash)
        .where(transactions.c.chain_id == chain_id)
        .where(transactions.c.block_hash.in_(list(block_hashes)))
    )
    # Transactions first, as when they are stored.
    result = connection.execute(
        update(transactions)
        .where(transactions.c.chain_id == chain_id)
        .where(transactions.c.block_hash.in_(list(block_hashes)))
        .values(orphaned=True)
    )
    _mark_alerts_of(connection, chain_id, gone)
    return result.rowcount


def transactions_in(connection: Connection, chain_id: int, block_hash: str) -> list[str]:
    """The hashes of a block's stored transactions."""
    query = (
        select(transactions.c.tx_hash)
        .where(transactions.c.chain_id == chain_id)
        .where(transactions.c.block_hash == block_hash)
    )
    return list(connection.scalars(query))


def holds_beyond(connection: Connection, chain_id: int, block_number: int) -> bool:
    """Whether there is a transaction of another chain, or of this one's later blocks."""
    other = (transactions.c.chain_id != chain_id) | (transactions.c.block_number > block_number)
    return bool(connection.scalar(select(exists().where(other))))


def find_transaction(
    connection: Connection, chain_id: int, tx_hash: str
) -> tuple[LoadedTransaction, bool] | None:
    """A stored transaction with its transfers, and whether it is orphaned; None if unknown."""
    own, moved, native = (
        connection.execute(select(table).where(of_transaction(table, chain_id, tx_hash)))
        for table in (transactions, transfers, native_transfers)
    )
    row = own.first()
    if row is None:
        return None
    loaded = LoadedTransaction.from_row(
        dict(row._mapping), map(transfer_of, moved), map(_native_transfer, native)
    )
    return loaded, bool(row.orphaned)


@dataclass(frozen=True, slots=True)
class Seen:
    """Stored transactions of an account."""

    count: int  # of them, at most `MAX_SEEN`
    # Block time of the first of these; None if there is none, or there are more.
    first_at: int | None

    @property
    def is_capped(self) -> bool:
        """Whether there may be more than `count`."""
        return self.count >= MAX_SEEN


def seen_as(connection: Connection, chain_id: int, role: Role, address: str) -> Seen:
    """How often an account has sent a stored transaction, or was called by one."""
    column = transactions.c.from_address if role == "sender" else transactions.c.to_address
    found = connection.scalars(
        select(transactions.c.block_timestamp)
        .where(column == address)
        .where(transactions.c.chain_id == chain_id)
        .where(transactions.c.orphaned.is_(False))
        .limit(MAX_SEEN)
    ).all()
    times = [at for at in found if at is not None]
    return Seen(len(found), min(times) if times and len(found) < MAX_SEEN else None)


def keys_of_account(account: str) -> CompoundSelect[tuple[int, str]]:
    """(chain, hash) of stored transactions that an account sends, receives or moves tokens in.

    Args:
        account: lowercase.
    """
    own = select(transactions.c.chain_id, transactions.c.tx_hash)
    moved = select(transfers.c.chain_id, transfers.c.tx_hash)
    return union(
        own.where(transactions.c.from_address == account),
        own.where(transactions.c.to_address == account),
        moved.where(transfers.c.sender == account),
        moved.where(transfers.c.recipient == account),
    )


def newest_transfers(
    connection: Connection, chain_id: int, limit: int
) -> list[tuple[list[Transfer], str, int]]:
    """Transfers in log order, sender and block time of the newest transactions; in no fixed order.

    Those without transfers or a sender are left out.
    """
    newest = (
        select(
            transactions.c.chain_id,
            transactions.c.tx_hash,
            transactions.c.from_address,
            transactions.c.block_timestamp,
        )
        .where(transactions.c.chain_id == chain_id)
        .where(transactions.c.orphaned.is_(False))
        .where(transactions.c.block_number.is_not(None))
        .where(transactions.c.from_address.is_not(None))
        .where(exists().where(same_transaction(transfers, transactions)))
        .order_by(transactions.c.block_number.desc(), transactions.c.tx_index.desc())
        .limit(limit)
        .subquery()
    )
    rows = connection.execute(
        select(transfers, newest.c.from_address, newest.c.block_timestamp)
        .join(newest, same_transaction(newest, transfers))
        .order_by(transfers.c.tx_hash, transfers.c.log_index)
    )
    found: dict[str, tuple[list[Transfer], str, int]] = {}
    for row in rows:
        own = found.setdefault(row.tx_hash, ([], row.from_address, row.block_timestamp))
        own[0].append(transfer_of(row))
    return list(found.values())


def find_tokens(
    connection: Connection, chain_id: int, addresses: Collection[str]
) -> dict[str, TokenView]:
    """The stored tokens among `addresses`, by address."""
    found: dict[str, TokenView] = {}
    for chunk in in_chunks(sorted(addresses)):
        rows = connection.execute(
            select(tokens).where(tokens.c.chain_id == chain_id).where(tokens.c.address.in_(chunk))
        )
        for row in rows:
            found[row.address] = token_of(row)
    return found


def _block_hashes(
    connection: Connection, chain_id: int, hashes: Collection[str]
) -> dict[str, str | None]:
    rows = connection.execute(
        select(transactions.c.tx_hash, transactions.c.block_hash)
        .where(transactions.c.chain_id == chain_id)
        .where(transactions.c.tx_hash.in_(hashes))
    )
    return {row.tx_hash: row.block_hash for row in rows}


def _move(connection: Connection, chain_id: int, moved: LoadedTransaction) -> None:
    """Delete a transaction's rows for its old block: log indexes, ages and decisions may differ.

    Its alerts stay orphaned until a new decision raises them again.
    """
    for table in (transfers, native_transfers, decisions, features):
        connection.execute(delete(table).where(of_transaction(table, chain_id, moved.tx_hash)))
    _mark_alerts_of(connection, chain_id, [moved.tx_hash])


def _mark_alerts_of(connection: Connection, chain_id: int, gone: Any) -> None:
    connection.execute(
        update(alerts)
        .where(alerts.c.chain_id == chain_id)
        .where(alerts.c.tx_hash.in_(gone))
        .values(orphaned=True)
    )


def _transaction_row(chain_id: int, one: LoadedTransaction, now: float) -> dict[str, Any]:
    return {
        "chain_id": chain_id,
        "tx_hash": one.tx_hash,
        "block_number": one.block_number,
        "block_hash": one.block_hash,
        "block_timestamp": one.block_timestamp,
        "tx_index": one.tx_index,
        "from_address": one.sender,
        "to_address": one.to,
        "nonce": one.nonce,
        "gas_used": one.gas_used,
        "gas_price": None if one.gas_price is None else str(one.gas_price),
        "value_wei": None if one.value is None else str(one.value),
        "selector": one.selector,
        "status": one.status,
        "orphaned": False,
        "stored_at": now,
    }


def _moved_row(
    chain_id: int, one: LoadedTransaction, moved: Transfer | NativeTransfer
) -> dict[str, Any]:
    row = {"chain_id": chain_id, "tx_hash": one.tx_hash, **moved._asdict()}
    return row | {"amount": str(moved.amount)}


def token_of(row: Row[Any]) -> TokenView:
    """A row of the tokens."""
    return TokenView(row.address, row.name, row.symbol, row.decimals, row.impersonates)


def transfer_of(row: Row[Any]) -> Transfer:
    """A row of the transfers."""
    return Transfer(row.token, row.sender, row.recipient, int(row.amount), row.log_index)


def _native_transfer(row: Row[Any]) -> NativeTransfer:
    return NativeTransfer(row.sender, row.recipient, int(row.amount), row.log_index)
