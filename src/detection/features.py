"""Structural features of ERC-20 transfer sequences: one numba kernel for one or many transactions.

A transaction is the ordered list of its ERC-20 ``Transfer`` logs plus its sender (*origin*,
``tx.from``). *Inner* transfers are those with neither side the zero address: call frames cannot
show mints and burns, so every structural feature reads inner transfers only. That makes a
transaction look the same whether its transfers come from logs or from calls. Mints and burns count
in the two amount features alone (the zero account is then a payer like any other).

Terms: *net* is an account's received minus sent amount of one token in this transaction; a net
within ``NET_TOLERANCE`` of the gross flow is zero. An *outsider* is any account but the origin.
Counts enter as ``log2(1 + count)`` (or ``log2(count)`` where the count is at least 1), so that a
doubling is one unit. The amount features compare with what the token's own training transfers
moved, in robust standard deviations of ``log10(raw amount)``; tokens without a profile give 0.

Every feature is finite and at least 0; most are 0 for a plain payment. The range stated for each
holds for n transfers.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

NET_TOLERANCE = 1e-9
EXCESS_START = 2.0
EXCESS_CAP = 4.0

FEATURES: dict[str, str] = {
    "reverse_hops": (
        "Transfers that send a token back along an earlier hop of the same token and the same two "
        "accounts (flash loan repaid, swap undone). log2(1 + count), 0 to log2(n)."
    ),
    "reverse_share": "Share of the inner transfers that are reverse hops. 0 to 1.",
    "repaid_hops": (
        "Reverse hops that bring at least all that the opposite hops had moved so far (a loan "
        "repaid in full). log2(1 + count), 0 to log2(n)."
    ),
    "restored_balances": (
        "(token, account) balances that go below their start during the transaction and end at or "
        "above it: lenders made whole, pools drained and refilled. log2(1 + count), 0 to log2(1+n)."
    ),
    "pair_hops": (
        "Largest number of transfers between the same two accounts, any token, either direction. "
        "log2(count), 0 to log2(n)."
    ),
    "edge_repeats": (
        "Inner transfers per distinct (token, from, to): how often the same move is repeated. "
        "log2(ratio), 0 to log2(n)."
    ),
    "legs_per_token": (
        "Legs per distinct token, where legs is the smaller of the numbers of (token, payer) and "
        "(token, payee) combinations; an airdrop or a collection has one leg however long it is. "
        "log2(ratio), 0 to log2(n)."
    ),
    "pass_through": (
        "(token, account) combinations that receive and send with net zero (routers, attack "
        "contracts). log2(1 + count), 0 to log2(1 + n)."
    ),
    "through_degree": (
        "Largest min(transfers in, transfers out) of one account: the busiest relay; 0 for "
        "airdrops and collections. log2(1 + count), 0 to log2(1 + n)."
    ),
    "density": (
        "Distinct (token, from, to) moves per account beyond one: max(0, moves / accounts - 1). "
        "0 to n - 1, in practice below 10."
    ),
    "origin_absent": "1 when the transaction's sender is in no inner transfer, else 0.",
    "outsider_loss": (
        "Most tokens of which one outsider ends poorer. log2(1 + count), 0 to log2(1 + n)."
    ),
    "unattended_loss": (
        "outsider_loss when the origin is absent, else 0: tokens leave an account while the one "
        "who ordered it stays out of sight. 0 to log2(1 + n)."
    ),
    "origin_free_gain": (
        "Tokens of which the origin ends richer while it ends poorer of none. log2(1 + count), "
        "0 to log2(1 + n)."
    ),
    "unfunded_returns": (
        "reverse_hops when the origin ends poorer of no token, else 0: round trips on other "
        "people's money. 0 to log2(n)."
    ),
    "unfunded_pair_hops": (
        "pair_hops when the origin ends poorer of no token, else 0. 0 to log2(n)."
    ),
    "foreign_excess": (
        "Largest single transfer not sent by the origin (mints included), against the token's "
        "training amounts: robust z of log10(raw amount) above EXCESS_START, capped. 0 to 4."
    ),
    "taken_excess": (
        "Largest net loss of an outsider (or net mint) of one token, against the token's training "
        "amounts, same unit. 0 to 4."
    ),
}
FEATURE_NAMES: tuple[str, ...] = tuple(FEATURES)
N_FEATURES = len(FEATURE_NAMES)


@njit(cache=True)
def _slot(keys: np.ndarray, stamps: np.ndarray, stamp: int, key: int) -> int:
    """Index of ``key`` in an open-addressing table, or of the free place where it belongs."""
    mask = len(keys) - 1
    mixed = np.uint64(key)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    index = np.int64(mixed & np.uint64(mask))
    while stamps[index] == stamp and keys[index] != key:
        index = (index + 1) & mask
    return index


@njit(cache=True)
def _excess(value: float, center: float, scale: float) -> float:
    """Robust z of log10(value) beyond EXCESS_START, between 0 and EXCESS_CAP."""
    excess = (math.log10(value) - center) / scale - EXCESS_START
    return min(max(excess, 0.0), EXCESS_CAP)


@njit(cache=True)
def transaction_features(
    offsets: np.ndarray,
    token: np.ndarray,
    sender: np.ndarray,
    recipient: np.ndarray,
    amount: np.ndarray,
    origin: np.ndarray,
    zero_account: int,
    n_accounts: int,
    n_tokens: int,
    token_known: np.ndarray,
    profile_center: np.ndarray,
    profile_scale: np.ndarray,
) -> np.ndarray:
    """Features of all transactions, one row each, columns as FEATURE_NAMES.

    ``offsets`` (n_tx + 1) cut the transfers, which are in log order. Ids are dense: accounts in
    [0, n_accounts), tokens in [0, n_tokens). ``origin`` may be an id that no transfer has.
    ``token_known[token]`` is the row in the profile arrays or -1; ``profile_scale`` is positive.
    ``amount`` is float(uint256): finite and not negative. Work is O(transfers).
    """
    n_tx = len(offsets) - 1
    longest = 1
    for tx in range(n_tx):
        longest = max(longest, offsets[tx + 1] - offsets[tx])
    capacity = 8
    while capacity < 4 * longest:
        capacity *= 2
    radix = np.int64(2 * longest + 1)

    features = np.zeros((n_tx, N_FEATURES), np.float64)
    account_stamp = np.full(n_accounts, -1, np.int64)
    account_slot = np.zeros(n_accounts, np.int64)
    token_stamp = np.full(n_tokens, -1, np.int64)
    token_slot = np.zeros(n_tokens, np.int64)

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

    for tx in range(n_tx):
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
            is_inner = payer_id != zero_account and payee_id != zero_account

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

        has_zero = n_accounts > zero_account >= 0 and account_stamp[zero_account] == tx
        zero_slot = account_slot[zero_account] if has_zero else -1
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
            if known >= 0 and account != origin_slot:
                if flow_all_net[flow] < -NET_TOLERANCE * flow_all_gross[flow]:
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
        if inner > 0:
            out[0] = math.log2(1.0 + reverse)
            out[1] = reverse / inner
            out[2] = math.log2(1.0 + repaid)
            out[3] = math.log2(1.0 + restored)
            out[4] = math.log2(pair_hops)
            out[5] = math.log2(inner / edges)
            out[6] = max(0.0, math.log2(min(payers, payees) / tokens))
            out[7] = math.log2(1.0 + pass_through)
            out[8] = math.log2(1.0 + relay)
            out[9] = max(0.0, edges / accounts - 1.0)
            out[10] = 1.0 if absent else 0.0
            out[11] = math.log2(1.0 + outsider_loss)
            out[12] = out[11] if absent else 0.0
            out[13] = math.log2(1.0 + free_gain)
            if absent or lost[origin_slot] == 0:
                out[14] = out[0]
                out[15] = out[4]
        out[16] = foreign_excess
        out[17] = taken_excess
    return features


from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from src.detection.manifest import TokenAmounts
from src.detection.transfer_batch import TransferBatch, TransferLike
from numpy.typing import NDArray
from typing import Self


@dataclass(frozen=True, slots=True)
class TokenProfile:
    """What training transfers of each known token moved, by contract address."""

    index: Mapping[str, int]
    center: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def from_amounts(cls, amounts: Mapping[str, TokenAmounts]) -> Self:
        """Build from a manifest's `token_amounts`."""
        return cls(
            index={address: row for row, address in enumerate(amounts)},
            center=np.array([known.center for known in amounts.values()], dtype=np.float64),
            scale=np.array([known.scale for known in amounts.values()], dtype=np.float64),
        )


def feature_table(batch: TransferBatch, profile: TokenProfile) -> NDArray[np.float64]:
    """Features of a batch, shape (n_tx, len(FEATURE_NAMES)), columns as FEATURE_NAMES."""
    known = np.array(
        [profile.index.get(address, -1) for address in batch.token_addresses], dtype=np.int32
    )
    return transaction_features(
        batch.offsets,
        batch.token,
        batch.sender,
        batch.recipient,
        batch.amount,
        batch.origin,
        0,
        batch.n_accounts,
        len(known),
        known,
        profile.center,
        profile.scale,
    )


def feature_row(
    transfers: Sequence[TransferLike], from_address: str, profile: TokenProfile
) -> NDArray[np.float64]:
    """Features of one transaction, shape (len(FEATURE_NAMES),)."""
    return feature_table(TransferBatch.from_transactions([(transfers, from_address)]), profile)[0]
