"""The view in plain Python with exact integers: an independent definition to test against.

Written from the words of `src.detection.features.view`, not from its kernel.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction
from typing import Any

Transfer = tuple[Hashable, Hashable, Hashable, int]  # token, from, to, raw amount
TOLERANCE = Fraction(1, 10**9)
NEGLIGIBLE = Fraction(1, 100)


def reference_view(
    transfers: Sequence[Transfer], origin: Hashable, zero: Hashable, eth: Mapping[Any, float]
) -> list[Transfer]:
    """The transfers of the view; the lender of a token is ("lender", token)."""
    direct = _without_relays(_with_lenders(transfers, zero), origin, zero)
    shells = _shells(direct, zero, eth)
    if not shells:
        return direct
    order = dict.fromkeys(account for _, a, b, _ in direct for account in (a, b))
    party = origin if origin in shells else next(a for a in order if a in shells)
    return [
        (token, party if a in shells else a, party if b in shells else b, amount)
        for token, a, b, amount in direct
        if not {a, b} <= shells
    ]


def _with_lenders(transfers: Sequence[Transfer], zero: Hashable) -> list[Transfer]:
    minted = {t for t, a, b, v in transfers if a == zero != b and v > 0}
    burnt = {t for t, a, b, v in transfers if b == zero != a and v > 0}

    def name(token: Hashable, account: Hashable, other: Hashable) -> Hashable:
        is_lender = account == zero != other and token in minted & burnt
        return ("lender", token) if is_lender else account

    return [(t, name(t, a, b), name(t, b, a), v) for t, a, b, v in transfers]


def _is_lender(account: Hashable) -> bool:
    return isinstance(account, tuple)


def _without_relays(
    transfers: Sequence[Transfer], origin: Hashable, zero: Hashable
) -> list[Transfer]:
    into: dict[Hashable, list[int]] = defaultdict(list)
    out: dict[Hashable, list[int]] = defaultdict(list)
    for i, (_, a, b, _) in enumerate(transfers):
        out[a].append(i)
        into[b].append(i)

    def is_relay(account: Hashable) -> bool:
        if account in (origin, zero) or _is_lender(account):
            return False
        if len(into[account]) != 1 or len(out[account]) != 1:
            return False
        (i,), (j,) = into[account], out[account]
        same = transfers[i][0] == transfers[j][0]
        return i < j and same and float(transfers[i][3]) == float(transfers[j][3])

    found: dict[int, Transfer] = {}
    for i, (token, a, b, amount) in enumerate(transfers):
        if is_relay(a):
            continue  # in the middle of a chain
        last, relay = i, None
        while is_relay(transfers[last][2]):
            relay = transfers[last][2]
            (last,) = out[relay]
        end, paid = transfers[last][2:]
        if relay is None:
            found[i] = (token, a, b, amount)
        elif end == a:
            found[i], found[last] = (token, a, relay, amount), (token, relay, a, paid)
        else:
            found[last] = (token, a, end, paid)
    return [found[i] for i in sorted(found)]


def _shells(
    transfers: Sequence[Transfer], zero: Hashable, eth: Mapping[Any, float]
) -> set[Hashable]:
    largest = max((v * Fraction(eth.get(t, 0)) for t, _, _, v in transfers), default=Fraction(0))
    moves: dict[tuple[Hashable, Hashable], list[int]] = defaultdict(list)
    senders = set()
    for token, a, b, amount in transfers:
        if a != b:
            moves[token, a].append(-amount)
            moves[token, b].append(amount)
            if amount:
                senders.add(a)
    short = set()
    for (token, account), amounts in moves.items():
        low = -min(sum(amounts[: i + 1]) for i in range(len(amounts)))
        price = Fraction(eth.get(token, 0))
        counts = not price or low * price >= NEGLIGIBLE * largest
        if low > TOLERANCE * sum(map(abs, amounts)) and counts:
            short.add(account)
    return {a for a in senders - short if a != zero and not _is_lender(a)}
