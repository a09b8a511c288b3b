"""The compiled kernel behind `features`: all features of one or many transactions in one pass.

Written as loops over scratch arrays because it runs once a transaction, live and in batches: about
3 microseconds for five transfers. What each feature means stands in `features.FEATURES`.

Two rules shape it. *Inner* transfers are those with neither side the zero address; every structural
feature reads those alone. And a transaction's accounts, tokens and (token, account) flows get dense
local numbers in order of first appearance, so that work is linear in the transfers whatever the
size of the batch: marks carry the transaction's number instead of being cleared.
"""

import math

import numba
import numpy as np
from numpy.typing import NDArray

NET_TOLERANCE = 1e-9
"""A net flow within this share of the gross flow is zero: amounts are rounded to 53 bits."""

EXCESS_START = 2.0
"""Robust standard deviations from which on an amount is extraordinary."""

EXCESS_CAP = 4.0
"""Beyond this much excess, more says nothing more."""

N_FEATURES = 18

_KIND_BITS = 6  # see `_kind`

_ZERO_ACCOUNT = 0  # `TransferBatch` gives the zero address this id

# Columns, in the order of `features.FEATURES`.
(
    _REVERSE_HOPS,
    _REVERSE_SHARE,
    _REPAID_HOPS,
    _RESTORED_BALANCES,
    _PAIR_HOPS,
    _EDGE_REPEATS,
    _LEGS_PER_TOKEN,
    _PASS_THROUGH,
    _THROUGH_DEGREE,
    _DENSITY,
    _ORIGIN_ABSENT,
    _OUTSIDER_LOSS,
    _UNATTENDED_LOSS,
    _ORIGIN_FREE_GAIN,
    _UNFUNDED_RETURNS,
    _UNFUNDED_PAIR_HOPS,
    _FOREIGN_EXCESS,
    _TAKEN_EXCESS,
) = range(N_FEATURES)


@numba.njit(
    numba.int64(numba.int64[::1], numba.int64[::1], numba.int64, numba.int64),
    cache=True, nogil=True,
)  # fmt: skip
def _slot(keys: NDArray[np.int64], stamps: NDArray[np.int64], stamp: int, key: int) -> np.int64:
    """Index of `key` in an open-addressing table, or of the free place where it belongs."""
    mask = len(keys) - 1
    # The finaliser of SplitMix64 (Steele, Lea, Flood 2014): consecutive keys spread evenly.
    mixed = np.uint64(key)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    index = np.int64(mixed & np.uint64(mask))
    while stamps[index] == stamp and keys[index] != key:
        index = (index + 1) & mask
    return index


@numba.njit(numba.float64(numba.float64, numba.float64, numba.float64), cache=True, nogil=True)
def _excess(value: float, center: float, scale: float) -> float:
    """Robust z of log10(value) beyond EXCESS_START, between 0 and EXCESS_CAP."""
    excess = (math.log10(value) - center) / scale - EXCESS_START
    return min(max(excess, 0.0), EXCESS_CAP)


@numba.njit(inline="always")
def _kind(payer: int, payee: int, origin: int, amount: float) -> int:
    """All that a transaction's only transfer can have to do with its accounts, as a number."""
    return (
        (payer == _ZERO_ACCOUNT)
        + 2 * (payee == _ZERO_ACCOUNT)
        + 4 * (payer == payee)
        + 8 * (payer == origin)
        + 16 * (payee == origin)
        + 32 * (amount > 0.0)
    )


@numba.njit(
    numba.float64[:, ::1](
        numba.int64[::1], numba.int32[::1], numba.int32[::1], numba.int32[::1],
        numba.float64[::1], numba.int32[::1], numba.int64, numba.int32[::1],
        numba.float64[::1], numba.float64[::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def transaction_features(
    offsets: NDArray[np.int64],
    token: NDArray[np.int32],
    sender: NDArray[np.int32],
    recipient: NDArray[np.int32],
    amount: NDArray[np.float64],
    origin: NDArray[np.int32],
    n_accounts: int,
    token_known: NDArray[np.int32],
    profile_center: NDArray[np.float64],
    profile_scale: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Features of all transactions, shape (n_tx, N_FEATURES).

    The first seven arguments are those of `TransferBatch`; ids are not checked here.

    Args:
        offsets: transaction t has the transfers offsets[t]:offsets[t + 1], in log order.
        token: id of each transfer's token, in [0, len(token_known)).
        sender: id of the account debited, in [0, n_accounts).
        recipient: id of the account credited.
        amount: raw units, finite and not negative.
        origin: id of each transaction's sender; it may be in no transfer.
        n_accounts: number of account ids.
        token_known: the token's row in the profile arrays, or -1, by token id.
        profile_center: median of log10(raw amount) of a known token's training transfers.
        profile_scale: their robust standard deviation, positive.
    """
    n_tx = len(offsets) - 1
    longest = 1
    for tx in range(n_tx):
        longest = max(longest, offsets[tx + 1] - offsets[tx])
    capacity = 8
    while capacity < 4 * longest:
        capacity *= 2
    radix = np.int64(2 * longest + 1)

    features = np.empty((n_tx, N_FEATURES), np.float64)
    account_stamp = np.full(n_accounts, -1, np.int64)
    account_slot = np.zeros(n_accounts, np.int64)
    token_stamp = np.full(len(token_known), -1, np.int64)
    token_slot = np.zeros(len(token_known), np.int64)

    edge_key = np.zeros(capacity, np.int64)
    edge_stamp = np.full(capacity, -1, np.int64)
    edge_moved = np.zeros(capacity, np.float64)
    pair_key = np.zeros(capacity, np.int64)
    pair_stamp = np.full(capacity, -1, np.int64)
    pair_count = np.zeros(capacity, np.int64)
    flow_key = np.zeros(capacity, np.int64)
    flow_stamp = np.full(capacity, -1, np.int64)

    # One entry a (token, account) in order of first appearance; at most two a transfer.
    flow_of = np.zeros(capacity, np.int64)
    flow_account = np.zeros(2 * longest, np.int64)
    flow_token = np.zeros(2 * longest, np.int64)
    flow_net = np.zeros(2 * longest, np.float64)  # inner transfers
    flow_low = np.zeros(2 * longest, np.float64)
    flow_gross = np.zeros(2 * longest, np.float64)
    flow_in = np.zeros(2 * longest, np.int64)
    flow_out = np.zeros(2 * longest, np.int64)
    flow_all_net = np.zeros(2 * longest, np.float64)  # with mints and burns
    flow_all_gross = np.zeros(2 * longest, np.float64)

    in_count = np.zeros(2 * longest, np.int64)
    out_count = np.zeros(2 * longest, np.int64)
    gained = np.zeros(2 * longest, np.int64)
    lost = np.zeros(2 * longest, np.int64)
    inner_token = np.zeros(longest, np.int64)

    # Most transactions have one transfer, and all whose amount is nothing special look like one of
    # a few: the features of the first of its kind are copied.
    first_of_kind = np.full(1 << _KIND_BITS, -1, np.int64)

    for tx in range(n_tx):
        if offsets[tx + 1] - offsets[tx] == 1:
            row = offsets[tx]
            known = token_known[token[row]]
            if (
                known < 0
                or amount[row] == 0.0
                or _excess(amount[row], profile_center[known], profile_scale[known]) == 0.0
            ):
                kind = _kind(sender[row], recipient[row], origin[tx], amount[row])
                earlier = first_of_kind[kind]
                if earlier >= 0:
                    for column in range(N_FEATURES):
                        features[tx, column] = features[earlier, column]
                    continue
                first_of_kind[kind] = tx

        n_local = 0
        n_local_tokens = 0
        n_flows = 0
        inner = 0
        edges = 0
        reverse = 0
        repaid = 0
        pair_hops = 1
        foreign_excess = 0.0

        for row in range(offsets[tx], offsets[tx + 1]):
            payer_id = sender[row]
            payee_id = recipient[row]
            token_id = token[row]
            value = amount[row]
            if token_stamp[token_id] != tx:
                token_stamp[token_id] = tx
                token_slot[token_id] = n_local_tokens
                inner_token[n_local_tokens] = 0
                n_local_tokens += 1
            for account_id in (payer_id, payee_id):
                if account_stamp[account_id] != tx:
                    account_stamp[account_id] = tx
                    account_slot[account_id] = n_local
                    in_count[n_local] = 0
                    out_count[n_local] = 0
                    gained[n_local] = 0
                    lost[n_local] = 0
                    n_local += 1
            payer = account_slot[payer_id]
            payee = account_slot[payee_id]
            coin = token_slot[token_id]
            is_inner = _ZERO_ACCOUNT not in (payer_id, payee_id)

            known = token_known[token_id]
            if known >= 0 and value > 0.0 and payer_id != origin[tx]:
                z = _excess(value, profile_center[known], profile_scale[known])
                foreign_excess = max(foreign_excess, z)

            # Net flows: the payer first, then the payee (a self-transfer leaves the net at zero).
            for side in range(2):
                account = payer if side == 0 else payee
                key = coin * radix + account
                slot = _slot(flow_key, flow_stamp, tx, key)
                if flow_stamp[slot] != tx:
                    flow_stamp[slot] = tx
                    flow_key[slot] = key
                    flow_of[slot] = n_flows
                    flow_account[n_flows] = account
                    flow_token[n_flows] = token_id
                    flow_net[n_flows] = 0.0
                    flow_low[n_flows] = 0.0
                    flow_gross[n_flows] = 0.0
                    flow_in[n_flows] = 0
                    flow_out[n_flows] = 0
                    flow_all_net[n_flows] = 0.0
                    flow_all_gross[n_flows] = 0.0
                    n_flows += 1
                flow = flow_of[slot]
                signed = -value if side == 0 else value
                if payer != payee:
                    flow_all_net[flow] += signed
                    flow_all_gross[flow] += value
                if is_inner:
                    if side == 0:
                        flow_out[flow] += 1
                    else:
                        flow_in[flow] += 1
                    if payer != payee:
                        flow_net[flow] += signed
                        flow_gross[flow] += value
                        flow_low[flow] = min(flow_low[flow], flow_net[flow])

            if not is_inner:
                continue
            inner += 1
            inner_token[coin] += 1
            out_count[payer] += 1
            in_count[payee] += 1

            key = (coin * radix + payer) * radix + payee
            slot = _slot(edge_key, edge_stamp, tx, key)
            if edge_stamp[slot] != tx:
                edge_stamp[slot] = tx
                edge_key[slot] = key
                edge_moved[slot] = 0.0
                edges += 1
            edge_moved[slot] += value

            if payer != payee:
                key = (coin * radix + payee) * radix + payer
                slot = _slot(edge_key, edge_stamp, tx, key)
                if edge_stamp[slot] == tx:
                    reverse += 1
                    if value >= edge_moved[slot] * (1.0 - NET_TOLERANCE):
                        repaid += 1

            key = min(payer, payee) * radix + max(payer, payee)
            slot = _slot(pair_key, pair_stamp, tx, key)
            if pair_stamp[slot] != tx:
                pair_stamp[slot] = tx
                pair_key[slot] = key
                pair_count[slot] = 0
            pair_count[slot] += 1
            pair_hops = max(pair_hops, pair_count[slot])

        has_zero = account_stamp[_ZERO_ACCOUNT] == tx
        zero_slot = account_slot[_ZERO_ACCOUNT] if has_zero else -1
        origin_slot = account_slot[origin[tx]] if account_stamp[origin[tx]] == tx else -1

        payers = 0
        payees = 0
        restored = 0
        pass_through = 0
        taken_excess = 0.0
        for flow in range(n_flows):
            account = flow_account[flow]
            if flow_out[flow] > 0:
                payers += 1
            if flow_in[flow] > 0:
                payees += 1
            tolerance = NET_TOLERANCE * flow_gross[flow]
            if flow_in[flow] > 0 and flow_out[flow] > 0 and abs(flow_net[flow]) <= tolerance:
                pass_through += 1
            if flow_low[flow] < -tolerance and flow_net[flow] >= -tolerance:
                restored += 1
            if flow_net[flow] > tolerance:
                gained[account] += 1
            elif flow_net[flow] < -tolerance:
                lost[account] += 1
            known = token_known[flow_token[flow]]
            is_loss = flow_all_net[flow] < -NET_TOLERANCE * flow_all_gross[flow]
            if is_loss and known >= 0 and account != origin_slot:
                z = _excess(-flow_all_net[flow], profile_center[known], profile_scale[known])
                taken_excess = max(taken_excess, z)

        tokens = 0
        for coin in range(n_local_tokens):
            if inner_token[coin] > 0:
                tokens += 1
        accounts = 0
        relay = 0
        outsider_loss = 0
        for account in range(n_local):
            if account == zero_slot or in_count[account] + out_count[account] == 0:
                continue
            accounts += 1
            relay = max(relay, min(in_count[account], out_count[account]))
            if account != origin_slot:
                outsider_loss = max(outsider_loss, lost[account])
        absent = origin_slot < 0 or in_count[origin_slot] + out_count[origin_slot] == 0
        free_gain = 0
        if not absent and lost[origin_slot] == 0:
            free_gain = gained[origin_slot]

        out = features[tx]
        out[:] = 0.0
        if inner > 0:
            out[_REVERSE_HOPS] = math.log2(1.0 + reverse)
            out[_REVERSE_SHARE] = reverse / inner
            out[_REPAID_HOPS] = math.log2(1.0 + repaid)
            out[_RESTORED_BALANCES] = math.log2(1.0 + restored)
            out[_PAIR_HOPS] = math.log2(pair_hops)
            out[_EDGE_REPEATS] = math.log2(inner / edges)
            out[_LEGS_PER_TOKEN] = max(0.0, math.log2(min(payers, payees) / tokens))
            out[_PASS_THROUGH] = math.log2(1.0 + pass_through)
            out[_THROUGH_DEGREE] = math.log2(1.0 + relay)
            out[_DENSITY] = max(0.0, edges / accounts - 1.0)
            out[_ORIGIN_ABSENT] = 1.0 if absent else 0.0
            out[_OUTSIDER_LOSS] = math.log2(1.0 + outsider_loss)
            out[_UNATTENDED_LOSS] = out[_OUTSIDER_LOSS] if absent else 0.0
            out[_ORIGIN_FREE_GAIN] = math.log2(1.0 + free_gain)
            if absent or lost[origin_slot] == 0:
                out[_UNFUNDED_RETURNS] = out[_REVERSE_HOPS]
                out[_UNFUNDED_PAIR_HOPS] = out[_PAIR_HOPS]
        out[_FOREIGN_EXCESS] = foreign_excess
        out[_TAKEN_EXCESS] = taken_excess
    return features
