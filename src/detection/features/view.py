"""The view of a transaction in which the accounts of one party are one account.

An attacker chooses which of its accounts deals with whom, and puts relays between them, for some
cents a hop. The view undoes that, in four steps:

1. *Loans.* A token that is both minted and burnt is lent: its zero address is a lender, an account
   like any other. (Other mints and burns stay what they are.)
2. *Relays.* An account that receives once and then sends the same amount of the same token once,
   and does nothing else, vanishes: what it passed on goes straight from the payer to the payee.
3. *Shells.* An account that sends, but in no token ever falls below what it had at the start, acts
   on the money of others: attack contracts, their helpers, routers. Falling short by less than
   `NEGLIGIBLE_SHARE` of the largest transfer's value does not count. Lenders are no shells.
4. *One party.* All shells are one account, the sender's if that is a shell; transfers among them
   vanish.

So an account inserted between the two sides of any transfer changes nothing in the view.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from src.detection.features.flows import (
    NET_TOLERANCE,
    ZERO_ACCOUNT,
    Flows,
    Transaction,
    Transfers,
    flows_of,
    numbered,
)
from src.detection.records import NEGLIGIBLE_SHARE


class View(NamedTuple):
    """Transfers of the view, and where they come from."""

    transfers: Transfers  # with account ids of the batch, and for lenders ids beyond those
    # By transfer of the view, its position in the batch: token and amount are the same.
    position: NDArray[np.int64]
    # By transaction, the account that stands for all shells; -1 where there is none.
    party: NDArray[np.int64]


@numba.njit(nogil=True)
def _name_lenders(transaction: Transaction, first_lender: int) -> None:
    """Replace the zero address of tokens that are minted and burnt, in place."""
    token, payer, payee, amount, _ = transaction
    numbers, count = numbered(token.astype(np.int64))
    minted, burnt = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    for i in range(len(token)):
        if amount[i] > 0.0 and payer[i] != payee[i]:
            minted[numbers[i]] |= payer[i] == ZERO_ACCOUNT
            burnt[numbers[i]] |= payee[i] == ZERO_ACCOUNT
    for i in range(len(token)):
        if minted[numbers[i]] and burnt[numbers[i]] and payer[i] != payee[i]:
            if payer[i] == ZERO_ACCOUNT:
                payer[i] = first_lender + token[i]
            elif payee[i] == ZERO_ACCOUNT:
                payee[i] = first_lender + token[i]


@numba.njit(nogil=True)
def _bypass_relays(transaction: Transaction, first_lender: int) -> NDArray[np.bool_]:
    """Join what relays pass on, in place; returns which transfers remain.

    A chain of relays becomes its last transfer. One that leads back to where it starts keeps its
    first and last transfer and one relay between them: a loan must stay one.
    """
    token, payer, payee, amount, origin = transaction
    n = len(token)
    keys = np.empty(2 * n, np.int64)
    keys[:n], keys[n:] = payer, payee
    numbers, count = numbered(keys)
    receipt, sending = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    times = np.zeros(count, np.int64)
    for i in range(n):
        sending[numbers[i]] = receipt[numbers[n + i]] = i
        times[numbers[i]] += 1
        times[numbers[n + i]] += 1
    relays = np.zeros(count, np.bool_)
    for i in range(n):
        account, out = numbers[n + i], sending[numbers[n + i]]
        relays[account] = (
            times[account] == 2
            and out > i
            and token[out] == token[i]
            and amount[out] == amount[i]
            and payee[i] != origin
            and ZERO_ACCOUNT < payee[i] < first_lender
        )

    remains = np.ones(n, np.bool_)
    start = np.arange(n)  # of the chain that a transfer belongs to
    for i in range(n):
        if relays[numbers[i]]:
            start[i] = start[receipt[numbers[i]]]
        if relays[numbers[n + i]]:
            remains[i] = False
        elif start[i] != i and payer[start[i]] != payee[i]:
            payer[i] = payer[start[i]]
        elif start[i] != i:
            payee[start[i]] = payer[i]
            remains[start[i]] = True
    return remains


@numba.njit(nogil=True)
def _shells_of(
    transaction: Transaction, flows: Flows, value: NDArray[np.float64], first_lender: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Each flow's account, numbered, and which accounts are shells."""
    accounts, count = numbered(flows.account)
    largest = 0.0
    sends = np.zeros(count, np.bool_)
    for i in range(len(transaction.token)):
        largest = max(largest, transaction.amount[i] * value[transaction.token[i]])
        if transaction.amount[i] > 0.0 and flows.of_payer[i] != flows.of_payee[i]:
            sends[accounts[flows.of_payer[i]]] = True
    shells = sends.copy()
    for flow in range(len(accounts)):
        shortfall, price = -flows.lowest[flow], value[flows.token[flow]]
        short = shortfall > NET_TOLERANCE * flows.gross[flow]
        if price > 0.0:
            short &= shortfall * price >= NEGLIGIBLE_SHARE * largest
        is_party = ZERO_ACCOUNT < flows.account[flow] < first_lender
        if short or not is_party:
            shells[accounts[flow]] = False
    return accounts, shells


@numba.njit(nogil=True)
def _merge_shells(
    transaction: Transaction, value: NDArray[np.float64], first_lender: int
) -> tuple[NDArray[np.bool_], int]:
    """Make all shells one account, in place; returns which transfers remain, and that account."""
    _, payer, payee, _, origin = transaction
    flows = flows_of(transaction)
    accounts, shells = _shells_of(transaction, flows, value, first_lender)
    party = -1
    for flow in range(len(accounts)):
        if shells[accounts[flow]] and (party < 0 or flows.account[flow] == origin):
            party = flows.account[flow]
    remains = np.ones(len(payer), np.bool_)
    for i in range(len(payer)):
        pays = shells[accounts[flows.of_payer[i]]]
        is_paid = shells[accounts[flows.of_payee[i]]]
        payer[i] = party if pays else payer[i]
        payee[i] = party if is_paid else payee[i]
        remains[i] = not (pays and is_paid)
    return remains, party


@numba.njit(nogil=True)
def view_of(transfers: Transfers, value: NDArray[np.float64], first_lender: int) -> View:
    """The view of each transaction.

    Args:
        transfers: of all transactions.
        value: by token id, what one raw unit is worth, in any unit; 0 where it is not known.
        first_lender: an id that is higher than every account's.
    """
    offsets = np.zeros_like(transfers.offsets)
    sender, recipient = transfers.sender.copy(), transfers.recipient.copy()
    position, party = np.empty(len(sender), np.int64), np.empty(len(offsets) - 1, np.int64)
    count = 0
    for tx in range(len(offsets) - 1):
        begin, end = transfers.offsets[tx], transfers.offsets[tx + 1]
        whole = Transaction(
            transfers.token[begin:end], sender[begin:end], recipient[begin:end],
            transfers.amount[begin:end], transfers.origin[tx],
        )  # fmt: skip
        _name_lenders(whole, first_lender)
        left = np.flatnonzero(_bypass_relays(whole, first_lender))
        direct = Transaction(
            whole.token[left], whole.payer[left], whole.payee[left], whole.amount[left],
            whole.origin,
        )  # fmt: skip
        remains, party[tx] = _merge_shells(direct, value, first_lender)
        for i in range(len(left)):
            if remains[i]:
                sender[count], recipient[count] = direct.payer[i], direct.payee[i]
                position[count] = begin + left[i]
                count += 1
        offsets[tx + 1] = count
    position = position[:count]
    merged = Transfers(
        offsets, transfers.token[position], sender[:count], recipient[:count],
        transfers.amount[position], transfers.origin,
    )  # fmt: skip
    return View(merged, position, party)
