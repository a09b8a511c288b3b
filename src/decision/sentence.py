"""One sentence on a transaction: who gained what, and who lost what. Pure.

Tokens and accounts are named, amounts are in token units, and what is unknown is left out or said
to be unknown. Whoever deploys a token chooses its symbol, and could write half a sentence with it:
only short plain symbols are used, any other token goes by its address.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from src.chain.names.book import AddressName
from src.chain.quantities import compact, dollars, duration, token_units
from src.chain.text import short
from src.chain.transactions import creation_nonce
from src.decision.money import Money, rough_worth
from src.decision.tokens import TokenView, token_name
from src.detection.detectors.base import count
from src.detection.evidence import Evidence
from src.detection.parties import Changes
from src.detection.records import NATIVE, NATIVE_DECIMALS

MAX_LENGTH: Final = 1_000
"""Characters of the longest sentence, by the caps on its parts."""

MAX_NAME: Final = 40

_MAX_TOKENS: Final = 3
_FEW_TRANSACTIONS: Final = 20
_YOUNG_MINUTES: Final = 30 * 24 * 60
_TRIFLE: Final = 0.01  # of what was gained: what an account may pay for it and still only gain
_DUST: Final = 5 * 10**-7  # of what an account itself paid and got of a token: a rounding
_CENT: Final = 0.01
_SIDE: Final = "the sender's side"
_NOTABLE_SHARE: Final = 0.05  # of an exchange: a smaller difference of worth is its fee

Names = Callable[[str], AddressName | None]
"""The published name of an account, or None."""


def nameless(_address: str) -> None:
    """Names where there are none."""


def sentence(
    evidence: Evidence,
    tokens: Mapping[str, TokenView],
    *,
    money: Money | None = None,
    is_arbitrage: bool = False,
    names: Names = nameless,
    has_token_list: bool = True,
) -> str:
    """Who gained and lost what by a transaction, for people; at most `MAX_LENGTH` characters.

    Args:
        evidence: of the transaction.
        tokens: their metadata, by address.
        money: what gains and losses were worth, or None.
        is_arbitrage: whether the transaction is named so.
        names: of accounts.
        has_token_list: whether the chain's well-known tokens are known; if so, others are marked.
    """
    return _Story(evidence, tokens, money, names, has_token_list).told(is_arbitrage=is_arbitrage)


@dataclass(frozen=True)
class _Story:
    evidence: Evidence
    tokens: Mapping[str, TokenView]
    money: Money | None
    names: Names
    has_list: bool

    def told(self, *, is_arbitrage: bool) -> str:
        gains = self.evidence.gains
        gained, lost = self._split(_SIDE, gains.own)
        if gained and lost:
            told = self._exchange(gained, lost)
        elif gained:
            told = self._gain(gained, is_arbitrage=is_arbitrage)
        elif lost:
            told = self._payment(lost)
        elif self._winners or self._losers:
            told = self._of_others()
        else:
            told = self._nothing()
        left_out = self._left_out()
        return f"{told} (without {left_out})." if left_out else f"{told}."

    # What the sender's side gained or lost

    def _gain(self, gained: list[str], *, is_arbitrage: bool) -> str:
        own = self.evidence.gains.own
        said = f"{self._sender()} gained {self._amounts(own, gained)}{self._worth(own, gained)}"
        losers = self._losers
        if is_arbitrage:
            return f"{said} by arbitrage with {self._group(losers)}"
        if not losers:
            return f"{said}{self._best_of_others()}, newly minted"
        return f"{said}{self._best_of_others()}{self._worst_of_others(losers)}"

    def _exchange(self, gained: list[str], lost: list[str]) -> str:
        own = self.evidence.gains.own
        difference = self._difference(gained)
        said = (
            f"{self._sender()} gave {self._amounts(own, lost)} and received "
            f"{self._amounts(own, gained)}{difference}"
        )
        victims = self._unpaid
        if victims:
            return said + self._best_of_others() + self._worst_of_others(victims)
        called, comma = self.evidence.to, "," if difference else ""
        if called is not None and self.names(called):
            return f"{said}{comma} through {self.account(called)}"
        partners = self._traders or self._winners
        return f"{said}{comma} in exchange with {self._group(partners)}" if partners else said

    def _payment(self, lost: list[str]) -> str:
        own = self.evidence.gains.own
        paid = f"{self._amounts(own, lost)}{self._worth(own, lost)}"
        paid_to = self._winners
        if not paid_to and NATIVE in own and self.evidence.to is not None:
            paid_to = [self.evidence.to]
        if self._losers:
            others = f"{self._best_of_others(always=True)}{self._worst_of_others(self._losers)}"
            return f"{self._sender()} gave {paid}{others}"
        if not paid_to:
            return f"{self._sender()} gave up {paid}"
        return f"{self._sender()} sent {paid} to {self._group(paid_to)}"

    # Where the sender's side has what it had

    def _of_others(self) -> str:
        others = self.evidence.gains.others
        if not self._losers:
            total = sum((Counter(others[one]) for one in self._winners), Counter[str]())
            minted = self._amounts(total, self._split("", total)[0])
            return f"{self._sender()} had {minted} minted to {self._group(self._winners)}"
        if (payer := self._simple_payer) is not None:
            given = self._splits[payer][1]
            moved = f"{self._amounts(others[payer], given)}{self._worth(others[payer], given)}"
            ends = f" to {self._group(self._winners)}" if self._winners else ", which were burned"
            return f"{self._sender()} moved {moved} from {self.account(payer)}{ends}"
        if (trader := self.evidence.to) is not None and trader in self._traders == self._losers:
            gained, given = self._splits[trader]
            partners = [one for one in self._traders if one != trader]
            with_whom = f" in exchange with {self._group(partners)}" if partners else ""
            return (
                f"{self._sender()} had {self.account(trader)} give "
                f"{self._amounts(others[trader], given)} and receive "
                f"{self._amounts(others[trader], gained)}{with_whom}"
            )
        return (
            f"{self._sender()} ended with what it had{self._best_of_others(always=True)}"
            f"{self._worst_of_others(self._losers)}"
        )

    def _nothing(self) -> str:
        moved = [one for one in self.evidence.credible_transfers if one.amount]
        n = count(len(self.evidence.credible_transfers), "transfer")
        if not moved:
            return f"{self._sender()} logged {n} of nothing, and no balance changed"
        largest: dict[str, int] = {}
        for one in moved:
            largest[one.token] = max(largest.get(one.token, 0), one.amount)
        order = sorted(largest, key=lambda token: -self._weight(token, largest[token]))
        accounts = {account for one in moved for account in (one.sender, one.recipient)}
        return (
            f"{self._sender()} moved up to {self._amounts(largest, order)} in {n} between "
            f"{count(len(accounts), 'account')}, and every account ended with what it had"
        )

    # Clauses on other accounts

    @cached_property
    def _simple_payer(self) -> str | None:
        """The one account that paid the others, if there is just one, which got nothing for it."""
        losers = self._losers
        return losers[0] if len(losers) == 1 and not self._traders else None

    @cached_property
    def _traders(self) -> list[str]:
        """The losers that got something for it."""
        return [one for one in self._losers if self._splits[one][0]]

    @cached_property
    def _unpaid(self) -> list[str]:
        """The losers that got nothing."""
        return [one for one in self._losers if not self._splits[one][0]]

    @cached_property
    def _winners(self) -> list[str]:
        """The others that end richer of something."""
        return [one for one, (gained, _) in self._splits.items() if gained]

    @cached_property
    def _losers(self) -> list[str]:
        """The others that end poorer of something, the one that lost most first."""
        others = self.evidence.gains.others
        poorer = [one for one, (_, lost) in self._splits.items() if lost]
        first = self.money.lost_by if self.money is not None else None
        return sorted(
            poorer,
            key=lambda one: (one != first, self._sum(others[one]), min(others[one].values())),
        )

    def _best_of_others(self, *, always: bool = False) -> str:
        """The other account that gained most, where that is more than the side has gained."""
        gains = self.evidence.gains
        winners = [one for one in self._winners if self._only_gains(one)]
        ranks = {
            one: (self._sum(gains.others[one]), max(gains.others[one].values())) for one in winners
        }
        best = max(ranks, key=lambda one: ranks[one], default=None)
        if best is None:
            return ""
        changes = gains.others[best]
        if not always and self._sum(changes) <= max(self._sum(gains.own), 0.0):
            return ""
        gained, given = self._splits[best]
        if gained == [self.evidence.wrapped_native] and self._is_router(best):
            return (
                f"; {self._amounts(changes, gained)} went to {self.account(best)}, which may have "
                f"paid out {self.evidence.native_symbol}"
            )
        more = ""
        if always and len(winners) > 1:
            more = f"{',' if given else ''} and {len(winners) - 1} more gained"
        for_it = f" for {self._amounts(changes, given)}" if given else ""
        return (
            f"; {self.account(best)} gained {self._amounts(changes, gained)}"
            f"{self._worth(changes, gained)}{for_it}{more}"
        )

    def _only_gains(self, account: str) -> bool:
        """Whether it gave nothing for its gain, or is the called contract and gave far less.

        Pools give about as much as they take. An attacker's contract may have paid beforehand for
        what it gives.
        """
        gained, given = self._splits[account]
        if not given:
            return True
        changes = self.evidence.gains.others[account]
        worth = sum(self._weight(token, changes[token]) for token in gained)
        return account == self.evidence.to and self._sum(changes) > _NOTABLE_SHARE * worth

    def _worst_of_others(self, losers: Sequence[str]) -> str:
        changes = self.evidence.gains.others[losers[0]]
        gained, lost = self._splits[losers[0]]
        said = f"; {self.account(losers[0])} lost {self._amounts(changes, lost)}"
        said += self._worth(changes, lost)
        if gained:
            said += f" and received {self._amounts(changes, gained)}"
        more = len(self._unpaid) - (not gained)
        return said + (f", {count(more, 'more account')} lost something" if more else "")

    def _group(self, accounts: Sequence[str]) -> str:
        """One account, or how many; the names of chosen accounts say little in an airdrop."""
        return self.account(accounts[0]) if len(accounts) == 1 else f"{len(accounts):,} accounts"

    def _left_out(self) -> str:
        """What the sentence does not count, though it may matter for it."""
        evidence, left_out = self.evidence, []
        if len(evidence.credible_transfers) < len(evidence.transfers):
            left_out.append("tokens younger than a day")
        is_told = evidence.gains.own or self._simple_payer or (self._winners and not self._losers)
        if evidence.native is None and not is_told:
            left_out.append(f"internal transfers of {evidence.native_symbol}, which are unknown")
        return " and ".join(left_out)

    # Names and amounts

    def _sender(self) -> str:
        evidence = self.evidence
        if evidence.sender is None:
            return "An unknown sender"
        facts = []
        if evidence.nonce is not None and evidence.nonce < _FEW_TRANSACTIONS:
            facts.append(f"{_ordinal(evidence.nonce + 1)} transaction")
        age = evidence.account_age_minutes
        if age is not None and evidence.nonce and age < _YOUNG_MINUTES:
            facts.append(f"account {duration(age)} old")
        if creation_nonce(evidence.sender, evidence.nonce, evidence.to) is not None:
            facts.append("its own contract")
        elif evidence.called_is_new:
            facts.append("contract younger than a day")
        return self.account(evidence.sender) + (f" ({', '.join(facts)})" if facts else "")

    def account(self, address: str) -> str:
        """An account's name, if it has one, and its shortened address."""
        name = self.names(address)
        return f"{name.label[:MAX_NAME]} ({short(address)})" if name else short(address)

    def _is_router(self, address: str) -> bool:
        name = self.names(address)
        return name is not None and name.kind == "router"

    def _amounts(self, changes: Changes, order: Sequence[str]) -> str:
        """The amounts of these tokens without their signs, the first few."""
        stated = [token for token in order if self._decimals(token) is not None]
        shown = stated[:_MAX_TOKENS] or order[:1]
        parts = [self._amount(token, abs(changes[token])) for token in shown]
        if len(order) > len(shown):
            parts.append(count(len(order) - len(shown), "more token"))
        return _listed(parts)

    def _amount(self, token: str, raw: int) -> str:
        name = self._token(token)
        decimals = self._decimals(token)
        if decimals is None:
            return f"an unknown amount of {name}"
        of = "of " if name.startswith("token ") else ""
        return f"{compact(token_units(raw, decimals))} {of}{name}"

    def _token(self, token: str) -> str:
        known = self.tokens.get(token)
        native = self.evidence.native_symbol
        named = token_name(token, known, native, has_list=self.has_list)
        if known is not None and named == known.symbol and self._symbols[named.casefold()] > 1:
            return f"{named} ({short(token)})"
        return named

    @cached_property
    def _symbols(self) -> Counter[str]:
        return Counter(one.symbol.casefold() for one in self.tokens.values())

    def _decimals(self, token: str) -> int | None:
        if token == NATIVE:
            return NATIVE_DECIMALS
        known = self.tokens.get(token)
        return None if known is None else known.decimals

    # What it was worth

    @cached_property
    def _moved(self) -> Mapping[tuple[str, str], int]:
        """What each of the others, and the sender's side, paid and got, by account and token."""
        side = self.evidence.gains.side
        moved: dict[tuple[str, str], int] = {}
        for one in self.evidence.credible_transfers:
            for account in (one.sender, one.recipient):
                key = (_SIDE if account in side else account, one.token)
                moved[key] = moved.get(key, 0) + one.amount
        return moved

    @cached_property
    def _splits(self) -> dict[str, tuple[list[str], list[str]]]:
        """What each of the others gained and lost."""
        others = self.evidence.gains.others
        return {one: self._split(one, changes) for one, changes in others.items()}

    def _split(self, account: str, changes: Changes) -> tuple[list[str], list[str]]:
        """The tokens gained and those lost, most valuable first, without dust and trifles."""
        gained: list[str] = []
        lost: list[str] = []
        for token, change in changes.items():
            moved = self._moved.get((account, token), 0)
            if token == NATIVE and self.evidence.transfers:
                moved = 10**NATIVE_DECIMALS  # beside tokens, bots send a wei to say something
            if abs(change) > _DUST * moved:
                (gained if change > 0 else lost).append(token)
        if len(changes) == 1:
            return gained, lost
        for side in (gained, lost):
            side.sort(key=lambda token: -self._weight(token, abs(changes[token])))
        return (
            self._without_trifles(changes, gained, lost),
            self._without_trifles(changes, lost, gained),
        )

    def _without_trifles(self, changes: Changes, side: list[str], opposite: list[str]) -> list[str]:
        limit = _TRIFLE * sum(self._weight(token, abs(changes[token])) for token in opposite)
        return [t for t in side if not 0 < self._weight(t, abs(changes[t])) < limit]

    def _weight(self, token: str, raw: int) -> float:
        """Roughly in USD, to order by; 0 where nothing is known of the token's worth."""
        usd = self.money.usd(token, raw) if self.money is not None else None
        return rough_worth(usd, raw * self.evidence.value_of(token))

    def _sum(self, changes: Changes) -> float:
        return sum(self._weight(t, abs(n)) * (1 if n > 0 else -1) for t, n in changes.items())

    def _worth(self, changes: Changes, order: Sequence[str]) -> str:
        """What these changes, which have one sign, were worth, as far as it is known."""
        if self.money is None:
            return ""
        usd = {token: self.money.usd(token, abs(changes[token])) for token in order}
        known = [value for value in usd.values() if value is not None]
        unknown = [token for token, value in usd.items() if value is None]
        if not known:
            return ""
        rest = f" and {count(len(unknown), 'token')} of unknown worth" if unknown else ""
        return f" ({_about(sum(known))}{rest})"

    def _difference(self, gained: Sequence[str]) -> str:
        """By how much more or less was received than given, where that is notable."""
        if self.money is None or self.money.gained_usd is None:
            return ""
        own, net = self.evidence.gains.own, self.money.gained_usd
        received = sum(self.money.usd(token, own[token]) or 0.0 for token in gained)
        if abs(net) <= _NOTABLE_SHARE * received:
            return ""
        return f", a net {'gain' if net > 0 else 'loss'} of {_about(abs(net))}"


def _about(usd: float) -> str:
    return f"about {dollars(usd)}" if usd >= _CENT else dollars(usd)


def _listed(parts: Sequence[str]) -> str:
    """Joined by commas and a final "and"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _ordinal(number: int) -> str:
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(0 if 11 <= number % 100 <= 13 else number % 10, "th")
    return f"{number}{suffix}"
