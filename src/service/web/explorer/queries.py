"""Database queries of the pages of accounts and tokens, and of the search."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, Select, SelectBase, and_, func, or_, select

from src.chain.transfers import Transfer
from src.decision.tokens import TokenView
from src.service.database.chain import token_of, transfer_of
from src.service.database.decisions import Decided, decided_on
from src.service.database.tables import same_transaction, tokens, transactions, transfers

NEWEST: Final = 2_000
"""Maximum number of an account's or a token's transfers that sums are made of."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What is stored of some transactions."""

    transactions: int  # their number, without orphaned ones
    # first, last: block times of the first and last, Unix seconds; None if unknown.
    first: int | None
    last: int | None


@dataclass(frozen=True, slots=True)
class Listed:
    """A stored transaction in a list."""

    tx_hash: str
    block_number: int | None
    block_timestamp: int | None
    # sender, to: its own; None where unknown, or for a created contract.
    sender: str | None
    to: str | None
    decided: Decided  # by the newest decision


def summary_of(connection: Connection, condition: ColumnElement[bool]) -> Summary:
    """The number and the times of the transactions that match."""
    count, first, last = connection.execute(
        select(
            func.count(),
            func.min(transactions.c.block_timestamp),
            func.max(transactions.c.block_timestamp),
        ).where(condition)
    ).one()
    return Summary(count, first, last)


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
) -> list[Listed]:
    """A page of transactions, newest first, each with its newest decision."""
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
    decided = decided_on(connection, [(row.chain_id, row.tx_hash) for row in rows])
    return [
        Listed(
            tx_hash=row.tx_hash,
            block_number=row.block_number,
            block_timestamp=row.block_timestamp,
            sender=row.from_address,
            to=row.to_address,
            decided=decided.get((row.chain_id, row.tx_hash), Decided()),
        )
        for row in rows
    ]


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


def is_moved(connection: Connection, chain_id: int, token: str) -> bool:
    """Whether a stored transaction moves a token."""
    query = (
        select(transfers.c.token)
        .where(transfers.c.chain_id == chain_id, transfers.c.token == token)
        .limit(1)
    )
    return connection.execute(query).first() is not None


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
