"""What the gains and losses of a transaction were worth, in USD. Pure; prices come as facts.

What has no price is unknown, never zero: a sum with an unknown part is unknown, and its parts are
shown one by one.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from src.chain.facts import Price
from src.decision.tokens import TokenView
from src.detection.parties import Changes, Gains
from src.detection.records import NATIVE, NATIVE_DECIMALS

MAX_PRICED_TOKENS: Final = 50
MAX_PARTS: Final = 20

_NOMINAL_USD_PER_ETHER: Final = 2_000.0  # to compare tokens with and without a price, never shown


@dataclass(frozen=True, slots=True)
class Part:
    """The net change of one token."""

    token: str  # its address, or `NATIVE`
    amount: int  # raw units; negative for a loss
    usd: float | None  # what that was worth, or None if unknown
    source: str  # what priced it; "" if nothing did

    def as_json(self) -> dict[str, Any]:
        """For metadata, the database and the API; amounts as text, since they have 256 bits."""
        usd = None if self.usd is None else round(self.usd, 2)
        return {"token": self.token, "amount": str(self.amount), "usd": usd, "source": self.source}


class TokenPrice(NamedTuple):
    """The price that valued a token: `usd` for 10**decimals raw units, and what says so."""

    usd: float
    decimals: int
    source: str

    def worth(self, amount: int) -> float:
        """What an amount in raw units is worth, in USD."""
        return float(amount / 10**self.decimals) * self.usd


@dataclass(frozen=True, slots=True)
class Money:
    """Who gained and lost how much."""

    # Net changes of the sender's side, see `Gains`; native value and gas included.
    gained: tuple[Part, ...]
    # The account that lost most, as far as prices or reference values are known; None if none lost.
    lost_by: str | None
    lost: tuple[Part, ...]  # its net changes
    # What the side, or another account, has gained at most: loot need not go to the sender. Of
    # arbitrage what the side has gained: its traders trade. None if unknown.
    largest_gain_usd: float | None
    # Roughly how much is at stake, at least: what the side gained or gave, or that account lost, by
    # prices, else reference values. To compare transactions by, never shown.
    rough_stake_usd: float
    native_is_known: bool  # whether internal native transfers are in
    gas_is_known: bool  # whether gas is
    side: frozenset[str] = frozenset()  # the accounts of the sender's side
    # By token or `NATIVE`, those that are known.
    prices: Mapping[str, TokenPrice] = field(default_factory=dict)

    def usd(self, token: str, amount: int) -> float | None:
        """What an amount in raw units was worth; None if unknown."""
        price = self.prices.get(token)
        return None if price is None else price.worth(amount)

    @property
    def gained_usd(self) -> float | None:
        """Gains less losses of the sender's side; None if a part is unknown."""
        return _sum(self.gained)

    @property
    def lost_usd(self) -> float | None:
        """Losses less gains of the account that lost most; None if a part is unknown, or none."""
        total = _sum(self.lost)
        return None if total is None or not self.lost else -total

    def as_json(self) -> dict[str, Any]:
        """For the database and the API."""
        return {
            "gained_usd": _rounded(self.gained_usd),
            "lost_usd": _rounded(self.lost_usd),
            "lost_by": self.lost_by,
            "gained": [part.as_json() for part in self.gained[:MAX_PARTS]],
            "lost": [part.as_json() for part in self.lost[:MAX_PARTS]],
            "native_is_known": self.native_is_known,
            "gas_is_known": self.gas_is_known,
            "side": sorted(self.side)[:MAX_PARTS],
            "prices": {token: price._asdict() for token, price in self.prices.items()},
        }


def rough_worth(usd: float | None, ether: float) -> float:
    """Of an amount, to order by: its worth in USD, or else one derived from a reference value.

    Args:
        usd: its worth, None if unknown.
        ether: by the model's reference values; 0 where there is none.
    """
    return ether * _NOMINAL_USD_PER_ETHER if usd is None else usd


def stored_prices(money: Mapping[str, Any] | None) -> dict[str, TokenPrice]:
    """The prices in `Money.as_json`, by token; none of what an earlier version has stored."""
    known = (money or {}).get("prices", {})
    return {token: TokenPrice(**price) for token, price in known.items()}


def tokens_to_price(gains: Gains, wrapped_native: str | None) -> list[str]:
    """The tokens whose prices tell what the gains were worth, the side's own first.

    The native currency is priced as its wrapped form.
    """
    named = dict.fromkeys(gains.own)
    for changes in gains.others.values():
        named.update(dict.fromkeys(changes))
    named.setdefault(NATIVE)  # gas
    tokens = [wrapped_native if token == NATIVE else token for token in named]
    return [token for token in dict.fromkeys(tokens) if token][:MAX_PRICED_TOKENS]


def money_of(
    gains: Gains,
    prices: Mapping[str, Price],
    tokens: Mapping[str, TokenView],
    *,
    wrapped_native: str | None,
    gas_cost: int | None,
    is_arbitrage: bool,
    value_of: Callable[[str], float] = lambda _token: 0.0,
) -> Money:
    """What the gains were worth.

    Args:
        gains: of the transaction.
        prices: of tokens, by address.
        tokens: their metadata, by address.
        wrapped_native: the token that the native currency is priced as.
        gas_cost: wei paid by the sender, or None if unknown.
        is_arbitrage: whether the transaction is named so.
        value_of: ETH for one raw unit of a token; 0 if unknown. It tells who lost most where there
            is no price: a pool that got other tokens for its own has not.
    """
    known = {
        token: price
        for token in {*gains.own, *(t for one in gains.others.values() for t in one), NATIVE}
        if (price := _price_of(token, prices, tokens.get(token), wrapped_native)) is not None
    }

    def parts(changes: Changes) -> tuple[Part, ...]:
        valued = [_part(token, change, known.get(token)) for token, change in changes.items()]
        return tuple(sorted(valued, key=lambda part: -abs(part.usd or 0.0)))

    own = dict(gains.own)
    if gas_cost:
        own[NATIVE] = own.get(NATIVE, 0) - gas_cost
    gained = parts({token: change for token, change in own.items() if change})
    others = {account: parts(changes) for account, changes in gains.others.items()}
    losers = {
        account: known for account, known in others.items() if any(p.amount < 0 for p in known)
    }

    def worth(part: Part) -> float:
        return rough_worth(part.usd, part.amount * value_of(part.token))

    def rough(account: str) -> tuple[float, int]:
        # Of tokens whose worth is unknown, the largest amount.
        found = losers[account]
        return sum(map(worth, found)), min(part.amount for part in found)

    lost_by = min(losers, key=rough, default=None)
    lost = losers[lost_by] if lost_by is not None else ()
    candidates = [gained] if is_arbitrage else [gained, *others.values()]
    return Money(
        gained,
        lost_by,
        lost,
        _largest(candidates) if gains.native_is_known else None,
        max(
            sum(max(0.0, sign * worth(part)) for part in some)
            for some, sign in ((gained, 1), (gained, -1), (lost, -1))
        ),
        gains.native_is_known,
        gas_cost is not None,
        gains.side,
        known,
    )


def _price_of(
    token: str, prices: Mapping[str, Price], view: TokenView | None, wrapped_native: str | None
) -> TokenPrice | None:
    """The price of a token, if it is of the token's own unit."""
    price = prices.get((wrapped_native or "") if token == NATIVE else token)
    if price is None:
        return None
    if token == NATIVE:
        return TokenPrice(price.usd, NATIVE_DECIMALS, price.source)
    known = view.decimals if view is not None else None
    decimals = price.decimals if known is None else known
    if decimals is None or price.decimals not in (None, decimals):
        return None  # the source prices another unit, or another token
    return TokenPrice(price.usd, decimals, price.source)


def _part(token: str, change: int, price: TokenPrice | None) -> Part:
    if price is None:
        return Part(token, change, None, "")
    return Part(token, change, price.worth(change), price.source)


def _sum(parts: Iterable[Part]) -> float | None:
    total = 0.0
    for part in parts:
        if part.usd is None:
            return None
        total += part.usd
    return total


def _known_sum(parts: Iterable[Part]) -> float:
    return sum(part.usd or 0.0 for part in parts)


def _largest(candidates: Iterable[tuple[Part, ...]]) -> float | None:
    """The largest of these gains, or more: what was paid for it without a price is left out."""
    largest = 0.0
    for parts in candidates:
        if any(part.usd is None and part.amount > 0 for part in parts):
            return None
        largest = max(largest, _known_sum(parts))
    return largest


def _rounded(usd: float | None) -> float | None:
    return None if usd is None else round(usd, 2)
