"""Database queries of the pages of accounts and tokens, and of the search."""

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    SelectBase,
    and_,
    exists,
    func,
    or_,
    select,
)

from src.chain.transfers import Transfer
from src.decision.tokens import TokenView
from src.service.database.chain import find_tokens, token_of, transfer_of
from src.service.database.decisions import Decided, decided_on
from src.service.database.tables import same_transaction, tokens, transactions, transfers

NEWEST: Final = 2_000
"""Maximum number of an account's or a token's transfers that sums are made of."""


def summary_of(connection: Connection, condition: ColumnElement[bool]) -> Row[Any]:
    """The number of `transactions` that match, and the `first` and `last` block time."""
    at = transactions.c.block_timestamp
    counted = (
        func.count().label("transactions"),
        func.min(at).label("first"),
        func.max(at).label("last"),
    )
    return connection.execute(select(*counted).where(condition)).one()


def among(chain_id: int, keys: SelectBase) -> ColumnElement[bool]:
    """The condition for a chain's transactions with these keys, orphans excluded.

    Args:
        chain_id: the chain.
        keys: a query for (chain, hash), of any chain.
    """
    found = keys.subquery()
    hashes = select(found.c.tx_hash).where(found.c.chain_id == chain_id)
    return and_(
        transactions.c.chain_id == chain_id,
        transactions.c.tx_hash.in_(hashes),
        transactions.c.orphaned.is_(False),
    )


def in_block(chain_id: int, number: int) -> ColumnElement[bool]:
    """The condition for the stored transactions of a block."""
    return and_(
        transactions.c.chain_id == chain_id,
        transactions.c.block_number == number,
        transactions.c.orphaned.is_(False),
    )


def keys_of_token(token: str) -> Select[tuple[int, str]]:
    """(chain, hash) of the transactions that move a token."""
    return select(transfers.c.chain_id, transfers.c.tx_hash).where(transfers.c.token == token)


def list_transactions(
    connection: Connection, condition: ColumnElement[bool], *, limit: int, offset: int = 0
) -> list[tuple[Row[Any], Decided]]:
    """A page of stored transactions, newest first, each with its newest decision."""
    rows = connection.execute(
        select(transactions)
        .where(condition)
        .order_by(
            transactions.c.block_number.desc(),
            transactions.c.tx_index.desc(),
            transactions.c.tx_hash,
        )
        .limit(limit)
        .offset(offset)
    ).all()
    keys = [(row.chain_id, row.tx_hash) for row in rows]
    decided = decided_on(connection, keys)
    return [(row, decided.get(key, Decided())) for key, row in zip(keys, rows, strict=True)]


def moved_by(account: str) -> ColumnElement[bool]:
    """The condition for the transfers to and from an account."""
    return or_(transfers.c.sender == account, transfers.c.recipient == account)


def newest_transfers(
    connection: Connection, chain_id: int, condition: ColumnElement[bool]
) -> list[tuple[str, Transfer]]:
    """(transaction hash, transfer) of the newest transfers that match."""
    rows = connection.execute(
        select(transfers)
        .join(transactions, same_transaction(transactions, transfers))
        .where(transfers.c.chain_id == chain_id, condition, transactions.c.orphaned.is_(False))
        .order_by(
            transactions.c.block_number.desc(),
            transactions.c.tx_index.desc(),
            transfers.c.log_index.desc(),
        )
        .limit(NEWEST)
    )
    return [(row.tx_hash, transfer_of(row)) for row in rows]


def transfers_in(
    connection: Connection, chain_id: int, hashes: Collection[str], condition: ColumnElement[bool]
) -> list[tuple[str, Transfer]]:
    """(transaction hash, transfer) of the transfers of some transactions that match."""
    rows = connection.execute(
        select(transfers).where(
            transfers.c.chain_id == chain_id, transfers.c.tx_hash.in_(list(hashes)), condition
        )
    )
    return [(row.tx_hash, transfer_of(row)) for row in rows]


def is_token(connection: Connection, chain_id: int, address: str) -> bool:
    """Whether an address is a token's: it is stored, or a stored transaction moves it."""
    moves = exists().where(transfers.c.chain_id == chain_id, transfers.c.token == address)
    return bool(find_tokens(connection, chain_id, [address]) or connection.scalar(select(moves)))


def find_by_symbol(connection: Connection, chain_id: int, text: str, limit: int) -> list[TokenView]:
    """Stored tokens whose symbol begins with a text, whatever the case; equal ones first."""
    symbol, wanted = func.lower(tokens.c.symbol), text.lower()
    rows = connection.execute(
        select(tokens)
        .where(tokens.c.chain_id == chain_id, symbol.startswith(wanted, autoescape=True))
        .order_by((symbol != wanted), tokens.c.impersonates, symbol, tokens.c.address)
        .limit(limit)
    )
    return list(map(token_of, rows))
