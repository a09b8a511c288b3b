"""What may be true of the amounts within a transaction: necessary conditions of detectors.

Amounts here are rounded to 53 bits, so everything that could be true within rounding counts as
true.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from src.detection.features.flows import TRANSFERS_TYPE, Transfers
from src.detection.records import NEGLIGIBLE_SHARE

_MAX_TRANSFERS_FOR_LOANS = 64
_MAX_TRANSFERS_FOR_DRAINS = 512
"""The search takes more than linear time: a longer transaction is for the detector itself."""

_TOLERANCE = 1e-9
_ZERO_ACCOUNT = 0
_HALF_OF_64_BITS = 2.0**63


@numba.njit(inline="always")
def _is_repeated(token: NDArray[np.int32], start: int, row: int) -> bool:
    """Whether an earlier transfer of the transaction moves the same token."""
    repeated = False
    for earlier in range(start, row):
        repeated |= token[earlier] == token[row]
    return repeated


@numba.njit(cache=True, nogil=True)
def _has_kinds(token: NDArray[np.int32], start: int, stop: int, wanted: int) -> bool:
    """Whether a transaction moves so many tokens; payments to hundreds of accounts move one."""
    kinds = 0
    for row in range(start, stop):
        earlier = start
        while token[earlier] != token[row]:
            earlier += 1
        kinds += earlier == row
        if kinds >= wanted:
            return True
    return False


@numba.njit(cache=True, nogil=True)
def _may_be_repaid(
    token: NDArray[np.int32],
    sender: NDArray[np.int32],
    recipient: NDArray[np.int32],
    amount: NDArray[np.float64],
    start: int,
    back: int,
) -> bool:
    """Whether this transfer may give back all that its recipient had lent its sender.

    What is owed is reckoned up as the detector does, for these two and this token: a transfer
    against a debt lessens it, any other is a loan.
    """
    lender, borrower = recipient[back], sender[back]
    lent = owed_back = gross = 0.0
    is_lent = is_owed_back = False
    for row in range(start, back):
        if token[row] != token[back] or amount[row] == 0.0:
            continue
        if lender == borrower and sender[row] == lender and recipient[row] == lender:
            return True  # who pays himself twice is looked at more closely
        if sender[row] == lender and recipient[row] == borrower:
            gross += amount[row]
            if not is_owed_back:
                lent += amount[row]
                is_lent = True
            elif amount[row] >= owed_back - _TOLERANCE * gross:
                return True  # then the loan is that one, and the detector looks no further
            else:
                owed_back -= amount[row]
        elif sender[row] == borrower and recipient[row] == lender:
            gross += amount[row]
            if not is_lent:
                owed_back += amount[row]
                is_owed_back = True
            elif amount[row] >= lent - _TOLERANCE * gross:
                return True
            else:
                lent -= amount[row]
    return is_lent and amount[back] >= lent - _TOLERANCE * (gross + amount[back])


@numba.njit(cache=True, nogil=True)
def _trifle(
    token: NDArray[np.int32],
    amount: NDArray[np.float64],
    value: NDArray[np.float64],
    start: int,
    stop: int,
) -> float:
    """The value from which a change of a balance may count in a transaction."""
    largest = 0.0
    for row in range(start, stop):
        largest = max(largest, amount[row] * value[token[row]])
    return largest * NEGLIGIBLE_SHARE * (1.0 + _TOLERANCE)


@numba.njit(inline="always")
def _is_in(account: int, side: tuple[np.int32, np.int32, np.int32, np.int32], lender: int) -> bool:
    """Whether an account is one of these, and neither the lender nor the zero address."""
    return account in side and account != lender and account > _ZERO_ACCOUNT


@numba.njit(cache=True, nogil=True)
def _gains(
    token: NDArray[np.int32],
    sender: NDArray[np.int32],
    recipient: NDArray[np.int32],
    amount: NDArray[np.float64],
    value: NDArray[np.float64],
    start: int,
    stop: int,
    side: tuple[np.int32, np.int32, np.int32, np.int32],
    lender: int,
) -> bool:
    """Whether these accounts together, without the lender, may lose no more than trifles."""
    trifle = _trifle(token, amount, value, start, stop)
    for one in range(start, stop):
        if _is_repeated(token, start, one):
            continue
        net = 0.0
        gross = 0.0
        for row in range(one, stop):
            if token[row] != token[one]:
                continue
            if _is_in(sender[row], side, lender):
                net -= amount[row]
                gross += amount[row]
            if _is_in(recipient[row], side, lender):
                net += amount[row]
                gross += amount[row]
        price = value[token[one]]
        if net < -_TOLERANCE * gross and not (price > 0.0 and -net * price < trifle):
            return False
    return True


@numba.njit(
    numba.boolean[::1](
        TRANSFERS_TYPE, numba.float64[::1], numba.int32[::1], numba.int64[::1], numba.int64,
    ),
    cache=True, nogil=True,
)  # fmt: skip
def may_profit(
    view: Transfers,
    value: NDArray[np.float64],
    called: NDArray[np.int32],
    agent: NDArray[np.int64],
    min_transfers: int,
) -> NDArray[np.bool_]:
    """Transactions in which some loan may be repaid and the sender's side may lose nothing.

    Args:
        view: the transfers between parties, see `features.view`.
        value: by token id, what one raw unit is worth; 0 where it is not known.
        called: account id of each transaction's `to`, -1 where it has no part in the transfers.
        agent: of each, the account that stands for all that act on others' money, or -1.
        min_transfers: those with fewer are False.
    """
    offsets, token, sender, recipient, amount, origin = view
    found = np.zeros(len(origin), np.bool_)
    for tx in range(len(origin)):
        start, stop = offsets[tx], offsets[tx + 1]
        if stop - start < min_transfers:
            continue
        if stop - start > _MAX_TRANSFERS_FOR_LOANS:
            found[tx] = True
            continue
        for back in range(start, stop):
            lender, borrower = recipient[back], sender[back]
            if amount[back] == 0.0 or _ZERO_ACCOUNT in (lender, borrower):
                continue
            side = (origin[tx], called[tx], borrower, np.int32(agent[tx]))
            if _may_be_repaid(token, sender, recipient, amount, start, back) and _gains(
                token, sender, recipient, amount, value, start, stop, side, lender
            ):
                found[tx] = True
                break
    return found


@numba.njit(cache=True, nogil=True)
def _loses(
    token: NDArray[np.int32],
    sender: NDArray[np.int32],
    recipient: NDArray[np.int32],
    amount: NDArray[np.float64],
    words: NDArray[np.uint64],
    value: NDArray[np.float64],
    start: int,
    stop: int,
    who: int,
    min_tokens: int,
) -> bool:
    """Whether an account may lose enough tokens and gain no more than trifles."""
    trifle = _trifle(token, amount, value, start, stop)
    lost = 0
    gained = False
    for one in range(start, stop):
        if _is_repeated(token, start, one):
            continue
        net = 0.0
        gross = 0.0
        low = np.uint64(0)  # the lowest 64 bits tell a balance of exactly zero
        for row in range(one, stop):
            if token[row] == token[one]:
                if sender[row] == who:
                    net -= amount[row]
                    gross += amount[row]
                    low -= words[row, 3]
                if recipient[row] == who:
                    net += amount[row]
                    gross += amount[row]
                    low += words[row, 3]
        doubt = _TOLERANCE * gross
        is_zero = abs(net) <= doubt and low == 0 and doubt < _HALF_OF_64_BITS
        if net < doubt and gross > 0.0 and not is_zero:
            lost += 1
        price = value[token[one]]
        gained |= net > doubt and not (price > 0.0 and net * price < trifle)
    return lost >= min_tokens and not gained


@numba.njit(
    numba.boolean[::1](
        TRANSFERS_TYPE, numba.uint64[:, ::1], numba.float64[::1], numba.int32[::1],
        numba.int32[::1], numba.int64, numba.int64,
    ),
    cache=True, nogil=True,
)  # fmt: skip
def may_be_drained(
    view: Transfers,
    words: NDArray[np.uint64],
    value: NDArray[np.float64],
    signer: NDArray[np.int32],
    called: NDArray[np.int32],
    n_accounts: int,
    min_tokens: int,
) -> NDArray[np.bool_]:
    """Transactions in which some account may lose enough tokens and gain none.

    Args:
        view: the transfers between parties, see `features.view`.
        words: their amounts, exact.
        value: by token id, what one raw unit is worth; 0 where it is not known.
        signer: account id of each transaction's sender, who may lose what it likes, -1 for none,
        called: and so may the contract called, -1 where it has no part in the transfers.
        n_accounts: number of account ids; those from there on are flash mints.
        min_tokens: enough tokens.
    """
    offsets, token, sender, recipient, amount, _ = view
    found = np.zeros(len(offsets) - 1, np.bool_)
    stamps = np.full(n_accounts, -1, np.int64)
    paid = np.zeros(n_accounts, np.int64)
    for tx in range(len(found)):
        start, stop = offsets[tx], offsets[tx + 1]
        if stop - start < min_tokens:
            continue
        if not _has_kinds(token, start, stop, min_tokens):
            continue
        for row in range(start, stop):
            who = sender[row]
            if who == _ZERO_ACCOUNT or who >= n_accounts or who in (signer[tx], called[tx]):
                continue
            if stamps[who] != tx:
                stamps[who] = tx
                paid[who] = 0
            paid[who] += 1
            if paid[who] != min_tokens:  # each account is looked at once
                continue
            if stop - start > _MAX_TRANSFERS_FOR_DRAINS or _loses(
                token, sender, recipient, amount, words, value, start, stop, who, min_tokens
            ):
                found[tx] = True
                break
    return found


@numba.njit(
    numba.boolean[::1](
        numba.int64[::1], numba.int32[::1], numba.int32[::1], numba.int32[::1],
        numba.float64[::1], numba.boolean[::1], numba.int32[::1], numba.int64,
    ),
    cache=True, nogil=True,
)  # fmt: skip
def names_strangers(
    offsets: NDArray[np.int64],
    token: NDArray[np.int32],
    sender: NDArray[np.int32],
    recipient: NDArray[np.int32],
    amount: NDArray[np.float64],
    is_counterfeit: NDArray[np.bool_],
    origin: NDArray[np.int32],
    n_accounts: int,
) -> NDArray[np.bool_]:
    """Transactions that move nothing in the name of a stranger who moves nothing in earnest.

    Args:
        offsets: as in `TransferBatch`, and so are
        token: the tokens,
        sender: the payers,
        recipient: the payees,
        amount: and the amounts: only 0 is rounded to 0.
        is_counterfeit: by token id: whatever the amount, nothing is moved.
        origin: account id of each transaction's sender.
        n_accounts: number of account ids.
    """
    found = np.zeros(len(offsets) - 1, np.bool_)
    in_earnest = np.full(n_accounts, -1, np.int64)  # the last transaction where it is
    for tx in range(len(found)):
        any_suspect = False
        for row in range(offsets[tx], offsets[tx + 1]):
            any_suspect |= amount[row] == 0.0 or is_counterfeit[token[row]]
        if not any_suspect:
            continue
        for row in range(offsets[tx], offsets[tx + 1]):
            if amount[row] != 0.0 and not is_counterfeit[token[row]]:
                in_earnest[sender[row]] = tx
                in_earnest[recipient[row]] = tx
        for row in range(offsets[tx], offsets[tx + 1]):
            payer, payee = sender[row], recipient[row]
            if (
                (amount[row] == 0.0 or is_counterfeit[token[row]])
                and payer not in (origin[tx], payee)
                and _ZERO_ACCOUNT not in (payer, payee)
                and in_earnest[payer] != tx
            ):
                found[tx] = True
                break
    return found


@numba.njit(
    numba.boolean[::1](
        numba.int64[::1], numba.int32[::1], numba.int32[::1], numba.float64[::1],
        numba.float64[::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def may_mint(
    offsets: NDArray[np.int64],
    token: NDArray[np.int32],
    sender: NDArray[np.int32],
    amount: NDArray[np.float64],
    large: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Transactions that may mint a large amount of some token.

    Args:
        offsets: as in `TransferBatch`, and so are
        token: the tokens,
        sender: the payers,
        amount: and the amounts.
        large: by token id, from where on an amount is large.
    """
    found = np.zeros(len(offsets) - 1, np.bool_)
    stamps = np.full(len(large), -1, np.int64)
    minted = np.zeros(len(large), np.float64)
    for tx in range(len(found)):
        for row in range(offsets[tx], offsets[tx + 1]):
            if sender[row] != _ZERO_ACCOUNT:
                continue
            which = token[row]
            if stamps[which] != tx:
                stamps[which] = tx
                minted[which] = 0.0
            minted[which] += amount[row]
            if minted[which] >= large[which] * (1.0 - _TOLERANCE):
                found[tx] = True
                break
    return found
