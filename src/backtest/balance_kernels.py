"""What may be true of balances within a transaction: necessary conditions of two detectors.

Amounts here are rounded to 53 bits, so everything that could be true within rounding counts as
true.
"""

import numba
import numpy as np
from numpy.typing import NDArray

_LONGEST_FOR_LOANS = 64
_LONGEST_FOR_DRAINS = 512
"""The search takes more than linear time: a longer transaction is for the detector itself."""

_TOLERANCE = 1e-9
_ZERO_ACCOUNT = 0
_HALF_OF_64_BITS = 2.0**63


@numba.njit(cache=True, nogil=True)
def _gains(
    token: NDArray[np.int32],
    sender: NDArray[np.int32],
    recipient: NDArray[np.int32],
    amount: NDArray[np.float64],
    start: int,
    stop: int,
    origin: int,
    called: int,
    lender: int,
    borrower: int,
) -> bool:
    """Whether sender, contract called and borrower, without the lender, may lose no token."""
    for one in range(start, stop):
        known = False
        for row in range(start, one):
            known |= token[row] == token[one]
        if known:
            continue
        net = 0.0
        gross = 0.0
        for row in range(one, stop):
            if token[row] != token[one]:
                continue
            payer, payee = sender[row], recipient[row]
            if payer in (origin, called, borrower) and payer != lender and payer > _ZERO_ACCOUNT:
                net -= amount[row]
                gross += amount[row]
            if payee in (origin, called, borrower) and payee != lender and payee > _ZERO_ACCOUNT:
                net += amount[row]
                gross += amount[row]
        if net < -_TOLERANCE * gross:
            return False
    return True


@numba.njit(
    numba.boolean[::1](
        numba.int64[::1], numba.int32[::1], numba.int32[::1], numba.int32[::1],
        numba.float64[::1], numba.int32[::1], numba.int32[::1], numba.boolean[::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def may_profit(
    offsets: NDArray[np.int64],
    token: NDArray[np.int32],
    sender: NDArray[np.int32],
    recipient: NDArray[np.int32],
    amount: NDArray[np.float64],
    origin: NDArray[np.int32],
    called: NDArray[np.int32],
    looked_at: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Transactions in which some loan may be repaid and the sender's side may lose nothing.

    Args:
        offsets: as in `TransferBatch`, and so are
        token: the tokens,
        sender: the payers,
        recipient: the payees,
        amount: and the amounts.
        origin: account id of each transaction's sender.
        called: account id of each transaction's `to`, -1 where it has no part in the transfers.
        looked_at: transactions to look at; the others are False.
    """
    found = np.zeros(len(looked_at), np.bool_)
    for tx in range(len(looked_at)):
        if not looked_at[tx]:
            continue
        start, stop = offsets[tx], offsets[tx + 1]
        if stop - start > _LONGEST_FOR_LOANS:
            found[tx] = True
            continue
        for back in range(start, stop):
            lender, borrower = recipient[back], sender[back]
            if amount[back] == 0.0 or _ZERO_ACCOUNT in (lender, borrower):
                continue
            lent = False
            for row in range(start, back):
                if (
                    sender[row] == lender
                    and recipient[row] == borrower
                    and token[row] == token[back]
                    and amount[row] > 0.0
                ):
                    lent = True
                    break
            if lent and _gains(
                token,
                sender,
                recipient,
                amount,
                start,
                stop,
                origin[tx],
                called[tx],
                lender,
                borrower,
            ):
                found[tx] = True
                break
    return found


@numba.njit(
    numba.boolean[::1](
        numba.int64[::1], numba.int32[::1], numba.int32[::1], numba.int32[::1],
        numba.float64[::1], numba.uint64[::1], numba.int64[::1], numba.int32[::1], numba.int64,
    ),
    cache=True, nogil=True,
)  # fmt: skip
def may_be_drained(
    offsets: NDArray[np.int64],
    token: NDArray[np.int32],
    sender: NDArray[np.int32],
    recipient: NDArray[np.int32],
    amount: NDArray[np.float64],
    low_amount: NDArray[np.uint64],
    transaction: NDArray[np.int64],
    account: NDArray[np.int32],
    min_tokens: int,
) -> NDArray[np.bool_]:
    """Which accounts may lose enough tokens and gain none, one entry a (transaction, account).

    Args:
        offsets: as in `TransferBatch`, and so are
        token: the tokens,
        sender: the payers,
        recipient: the payees,
        amount: and the amounts.
        low_amount: the amounts' lowest 64 bits, which tell a balance of exactly zero.
        transaction: of each pair asked about, and
        account: its account.
        min_tokens: enough tokens.
    """
    found = np.zeros(len(account), np.bool_)
    for pair in range(len(account)):
        start, stop = offsets[transaction[pair]], offsets[transaction[pair] + 1]
        if stop - start > _LONGEST_FOR_DRAINS:
            found[pair] = True
            continue
        who = account[pair]
        lost = 0
        gained = False
        for one in range(start, stop):
            known = False
            for row in range(start, one):
                known |= token[row] == token[one]
            if known:
                continue
            net = 0.0
            gross = 0.0
            low = np.uint64(0)
            for row in range(one, stop):
                if token[row] == token[one]:
                    if sender[row] == who:
                        net -= amount[row]
                        gross += amount[row]
                        low -= low_amount[row]
                    if recipient[row] == who:
                        net += amount[row]
                        gross += amount[row]
                        low += low_amount[row]
            doubt = _TOLERANCE * gross
            is_zero = abs(net) <= doubt and low == 0 and doubt < _HALF_OF_64_BITS
            if net < doubt and gross > 0.0 and not is_zero:
                lost += 1
            gained |= net > doubt
        found[pair] = lost >= min_tokens and not gained
    return found
