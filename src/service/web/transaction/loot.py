"""Where what a transaction's sender gained went next, as far as later blocks are stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select, tuple_

from src.decision.tokens import TokenView, decimals_of
from src.service.balances import AccountChanges, shown_label
from src.service.database.tables import same_transaction, transactions, transfers
from src.service.database.watching import last_watched
from src.service.formatting import amount
from src.service.records import LoadedTransaction

_SIDE: Final = {"sender", "called", "sender's side"}
_MAX_SHOWN: Final = 5
_MAX_GAINS: Final = 50


@dataclass(frozen=True, slots=True)
class Movement:
    """A later transfer of a gained token, by who gained it."""

    tx_hash: str
    block_timestamp: int
    payer: str
    payee: str
    amount: str
    token: str
    label: str


@dataclass(frozen=True, slots=True)
class Loot:
    """What became of a gain."""

    movements: list[Movement]  # the first ones after the transaction
    has_more: bool  # whether there are more
    watched_to: int | None  # the last block that watch mode has read; None if that is no later one


def next_movements(
    connection: Connection,
    chain_id: int,
    transaction: LoadedTransaction,
    accounts: Sequence[AccountChanges],
    tokens: Mapping[str, TokenView],
) -> Loot | None:
    """The next transfers of tokens that the sender's side gained; None if it gained nothing."""
    gained = [
        (one.account, change.token)
        for one in accounts
        if _SIDE & set(one.roles)
        for change in one.changes
        if change.is_gain
    ]
    if not gained:
        return None
    block, place = transactions.c.block_number, transactions.c.tx_index
    rows = connection.execute(
        select(transfers, transactions.c.block_timestamp)
        .join(transactions, same_transaction(transactions, transfers))
        .where(transfers.c.chain_id == chain_id, transactions.c.orphaned.is_(False))
        .where(tuple_(transfers.c.sender, transfers.c.token).in_(gained[:_MAX_GAINS]))
        .where(tuple_(block, place) > (transaction.block_number, transaction.tx_index))
        .order_by(block, place, transfers.c.log_index)
        .limit(_MAX_SHOWN + 1)
    ).all()
    last = last_watched(connection, chain_id)
    is_later = last is not None and last.block_number > transaction.block_number
    return Loot(
        movements=[
            Movement(
                tx_hash=row.tx_hash,
                block_timestamp=row.block_timestamp,
                payer=row.sender,
                payee=row.recipient,
                amount=amount(int(row.amount), decimals_of(row.token, tokens)),
                token=row.token,
                label=shown_label(row.token, tokens),
            )
            for row in rows[:_MAX_SHOWN]
        ],
        has_more=len(rows) > _MAX_SHOWN,
        watched_to=last.block_number if last is not None and is_later else None,
    )
