"""The features in plain Python with exact integers: an independent definition to test against.

Written from the definitions in `src.detection.features.definitions`, not from the kernel:
dictionaries, sets and fractions instead of scratch arrays; amounts stay integers, and a net is zero
by exact comparison with the relative tolerance.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import Any

Transfer = tuple[Hashable, Hashable, Hashable, int]  # token, from, to, raw amount
TOLERANCE = Fraction(1, 10**9)


def _excess(value: int, profile: tuple[float, float]) -> float:
    center, scale = profile
    return min(4.0, max(0.0, (math.log10(value) - center) / scale - 2.0))


def reference_features(
    transfers: Sequence[Transfer],
    origin: Hashable,
    zero: Hashable,
    profile: Mapping[Any, tuple[float, float]],
    eth: Mapping[Any, float] = MappingProxyType({}),
) -> dict[str, float]:
    """Features of one transaction.

    Args:
        transfers: in log order.
        origin: the sender.
        zero: the zero address.
        profile: by token, (center, scale).
        eth: by token, the value of one raw unit.
    """
    inner = [t for t in transfers if t[1] != zero and t[2] != zero]

    # --- round trips
    reverse = repaid = 0
    for i, (token, payer, payee, value) in enumerate(inner):
        opposite = [t[3] for t in inner[:i] if t[:3] == (token, payee, payer)]
        if payer != payee and opposite:
            reverse += 1
            repaid += value >= sum(opposite) * (1 - TOLERANCE)

    # --- histories of balances by (token, account); self-transfers move nothing
    def histories(rows: Sequence[Transfer]) -> dict[tuple[Hashable, Hashable], list[int]]:
        moves: dict[tuple[Hashable, Hashable], list[int]] = defaultdict(list)
        for token, payer, payee, value in rows:
            if payer != payee:
                moves[token, payer].append(-value)
                moves[token, payee].append(value)
        return moves

    def sign(moves: Sequence[int]) -> int:
        net, tolerance = sum(moves), TOLERANCE * sum(map(abs, moves))
        return 0 if abs(net) <= tolerance else (1 if net > 0 else -1)

    moved = histories(inner)
    payers = {(t, a) for t, a, _, _ in inner}
    payees = {(t, b) for t, _, b, _ in inner}
    restored = 0
    wins: Counter[Hashable] = Counter()
    losses: Counter[Hashable] = Counter()
    worth: Counter[Hashable] = Counter()
    round_losses = [Fraction(0)]
    for (token, account), moves in moved.items():
        low = min(sum(moves[: i + 1]) for i in range(len(moves)))
        if low < -TOLERANCE * sum(map(abs, moves)) and sign(moves) >= 0:
            restored += 1
        wins[account] += sign(moves) > 0
        losses[account] += sign(moves) < 0
        if sign(moves):
            worth[account] += sum(moves) * Fraction(eth.get(token, 0.0))
        sent_amount = -sum(move for move in moves if move < 0)
        if sign(moves) < 0 and (token, account) in payers & payees:
            round_losses.append(Fraction(-sum(moves), sent_amount))

    pass_through = sum(sign(moved.get(key, [])) == 0 for key in payers & payees)

    # --- graph
    accounts = {a for _, a, _, _ in inner} | {b for _, _, b, _ in inner}
    sent = Counter(a for _, a, _, _ in inner)
    received = Counter(b for _, _, b, _ in inner)
    pairs = Counter(frozenset((a, b)) for _, a, b, _ in inner)
    edges = {t[:3] for t in inner}
    tokens = {t[0] for t in inner}
    absent = origin not in accounts
    unfunded = losses[origin] == 0
    outsider_loss = max((losses[a] for a in accounts if a != origin), default=0)

    # --- value
    kept = max((worth[a] for a in accounts if sent[a] and received[a] and not losses[a]), default=0)
    origin_kept = worth[origin] if unfunded else 0
    lost = max((-worth[a] for a in accounts if a != origin), default=0)

    def magnitude(value: Fraction | int) -> float:
        return min(5.0, math.log10(1 + 10 * max(0, value)))

    # --- amounts, mints and burns included
    foreign = [
        _excess(v, profile[t]) for t, a, _, v in transfers if a != origin and v and t in profile
    ]
    taken = [
        _excess(-sum(moves), profile[token])
        for (token, account), moves in histories(transfers).items()
        if token in profile and account != origin and sign(moves) < 0
    ]

    def log1(count: int) -> float:
        return math.log2(1 + count)

    values = {
        "reverse_hops": log1(reverse),
        "reverse_share": reverse / len(inner) if inner else 0.0,
        "repaid_hops": log1(repaid),
        "restored_balances": log1(restored),
        "pair_hops": math.log2(max(pairs.values(), default=1)),
        "edge_repeats": math.log2(len(inner) / len(edges)) if inner else 0.0,
        "legs_per_token": (
            max(0.0, math.log2(min(len(payers), len(payees)) / len(tokens))) if inner else 0.0
        ),
        "pass_through": log1(pass_through),
        "through_degree": log1(max((min(sent[a], received[a]) for a in accounts), default=0)),
        "density": max(0.0, len(edges) / len(accounts) - 1) if inner else 0.0,
        "origin_absent": float(bool(inner) and absent),
        "outsider_loss": log1(outsider_loss),
        "unattended_loss": log1(outsider_loss) if absent else 0.0,
        "origin_free_gain": log1(wins[origin]) if unfunded else 0.0,
    }
    values["unfunded_returns"] = values["reverse_hops"] if unfunded else 0.0
    values["unfunded_pair_hops"] = values["pair_hops"] if unfunded else 0.0
    values["foreign_excess"] = max(foreign, default=0.0)
    values["taken_excess"] = max(taken, default=0.0)
    both_ways = payers & payees
    share = max(round_losses)
    values["round_loss"] = max(0.0, math.log10(share) + 2) if share else 0.0
    values["max_in_degree"] = log1(max(received.values(), default=0))
    values["max_out_degree"] = log1(max(sent.values(), default=0))
    values["round_flows"] = log1(len(both_ways))
    values["transfers_per_account"] = (
        max(0.0, math.log2(len(inner) / len(accounts))) if inner else 0.0
    )
    tokens_of_edge = Counter((a, b) for _, a, b in edges)
    values["two_token_edges"] = log1(sum(count > 1 for count in tokens_of_edge.values()))
    values["kept_value"] = magnitude(kept)
    values["reversed_kept_value"] = magnitude(max(kept, origin_kept)) if reverse else 0.0
    values["lost_value"] = magnitude(lost)
    return values
