"""Facts about the chain, and the validation of external data that becomes a fact.

A fact about the past does not change, so it may be cached for ever. A token's metadata does: it
carries the time when it was read. Data from sources, disk or contracts is validated here first:
text is sanitised, and impossible numbers are rejected.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from src.chain.errors import MalformedAnswer
from src.chain.quantities import as_int
from src.chain.text import sanitise_text

MAX_DECIMALS = 255
"""`decimals()` is a uint8."""

_MIN_PRICE, _MAX_PRICE = 1e-18, 1e7
"""USD for a whole token: nothing real is outside, and 1e30 is an attempt."""

MAX_NAME_LENGTH = 64
MAX_SYMBOL_LENGTH = 32

_MAX_STATED_SYMBOL = 128
"""Characters of a symbol that are looked at, invisible ones included."""

UNREADABLE_SYMBOL = "(unreadable)"
"""Symbol of a token that states one at greater length or expense than any symbol takes.

A wallet may read what we do not, so such a token may pass for any other.
"""

REFRESH_SECONDS = 86_400.0
"""Age of a token's metadata from which it is read again in the background."""

EXPIRY_SECONDS = 30 * 86_400.0
"""Age from which it is read again before it is used; the old value is used if no source answers."""

_RETRY_SECONDS = 600.0

# A contract without a symbol may be given one at any moment (a proxy before its initialisation).
_SYMBOLLESS_REFRESH_SECONDS, _SYMBOLLESS_EXPIRY_SECONDS = 60.0, 600.0

# The sender's first transaction cannot be later than now; clocks differ a little.
_CLOCK_TOLERANCE_SECONDS = 900


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token's metadata as its contract states it: decoration, not identity.

    The three are separate facts, each optional in ERC-20.
    """

    # name, symbol: sanitised, possibly empty.
    name: str
    symbol: str
    # 0 to 255; one token is 10**decimals raw units. None if the contract states none, or an
    # impossible number.
    decimals: int | None
    # When a source stated this, Unix seconds.
    read_at: float = field(default_factory=time.time, compare=False)

    def is_due(self, now: float) -> bool:
        """Whether it is old enough to be read again in the background."""
        return self._is_older(now, self._refresh_seconds)

    def is_expired(self, now: float) -> bool:
        """Whether it is so old that it must be read again before it is used."""
        if self.is_nothing:
            return True
        return self._is_older(now, EXPIRY_SECONDS if self.symbol else _SYMBOLLESS_EXPIRY_SECONDS)

    def put_off(self, now: float) -> Self:
        """The same, to be read again in a while, as no source answered now."""
        wait = min(self._refresh_seconds, _RETRY_SECONDS)
        return replace(self, read_at=now - self._refresh_seconds + wait)

    @property
    def is_nothing(self) -> bool:
        """Whether the contract states nothing at all, or the node does not know it yet."""
        return not self.name and not self.symbol and self.decimals is None

    @property
    def _refresh_seconds(self) -> float:
        if self.is_nothing:
            return 0.0
        return REFRESH_SECONDS if self.symbol else _SYMBOLLESS_REFRESH_SECONDS

    def _is_older(self, now: float, seconds: float) -> bool:
        # A time to come means that the clock has been set back: nothing is known about the age.
        return not 0 <= now - self.read_at < seconds


@dataclass(frozen=True, slots=True)
class Unknown:
    """A fact that is unavailable."""

    reason: str  # human-readable


@dataclass(frozen=True, slots=True)
class FirstTransaction:
    """An address's first transaction."""

    timestamp: int  # Unix seconds
    # "etherscan", which includes incoming transactions, or "node", which knows only outgoing ones:
    # two different quantities, so the source is recorded.
    source: str


@dataclass(frozen=True, slots=True)
class Price:
    """What one token is worth."""

    usd: float  # for 10**decimals raw units
    source: str  # which source says so
    # That the source assumes; None where it prices no particular contract.
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class CodeAt:
    """Whether a contract had been deployed by the end of a block."""

    contract: str  # lowercase address
    block: int
    exists: bool  # whether there was code at the address


@dataclass(frozen=True, slots=True)
class Deployment:
    """When a contract was deployed, as far as known from queries for single blocks."""

    # The newest block at which it is known not to have existed, or None.
    absent_at: int | None = None
    present_at: int | None = None  # the oldest block at which it is known to have existed, or None

    def existed_at(self, block: int) -> bool | None:
        """Whether it existed at the end of a block; None if unknown.

        A contract that existed once counts as existing in all later blocks.
        """
        if self.present_at is not None and block >= self.present_at:
            return True
        if self.absent_at is not None and block <= self.absent_at:
            return False
        return None

    def with_answer(self, answer: CodeAt) -> "Deployment":
        """The combination with another observation."""
        if answer.exists:
            known = answer.block if self.present_at is None else self.present_at
            return replace(self, present_at=min(known, answer.block))
        known = answer.block if self.absent_at is None else self.absent_at
        return replace(self, absent_at=max(known, answer.block))


@dataclass(frozen=True, slots=True)
class Facts:
    """External facts about one transaction, gathered before anything is computed."""

    # Metadata by token address, without unknown tokens.
    tokens: Mapping[str, TokenInfo] = field(default_factory=dict)
    # The sender's; None if it has none yet.
    first_transaction: FirstTransaction | Unknown | None = Unknown("not looked up")
    # By token address, whether it is known: True for well-known tokens and contracts that existed a
    # day before, False for younger contracts. If this is unknown, the token is left out and counts
    # as known.
    reputations: Mapping[str, bool] = field(default_factory=dict)
    # Whether the contract called had existed a day before; None if unknown.
    called_existed: bool | None = None
    # Raw units that accounts held of a token a block and 100 blocks before, by (account, token),
    # where a detector asked for it and the node knows; of the zero address, the token's supply. The
    # older is None where only that is unknown.
    held: Mapping[tuple[str, str], tuple[int, int | None]] = field(default_factory=dict)

    @property
    def tokens_without_reputation(self) -> frozenset[str]:
        """Tokens whose contract is younger than a day: their events may be its author's fiction."""
        return frozenset(token for token, is_known in self.reputations.items() if not is_known)


def token_info(
    source: str, name: object, symbol: object, decimals: object, read_at: object = None
) -> TokenInfo:
    """Validate and sanitise a source's data on a token; decimals may be None.

    Args:
        source: its name in errors.
        name: see `TokenInfo`; so are the next two.
        symbol: likewise.
        decimals: likewise.
        read_at: Unix seconds; None for now.

    Raises:
        MalformedAnswer: the decimals or the time are impossible.
    """
    if read_at is not None and not isinstance(read_at, (int, float)):
        raise MalformedAnswer(source, "time of reading impossible")
    return TokenInfo(
        sanitise_text(name, MAX_NAME_LENGTH),
        stated_symbol(symbol),
        _decimals(source, decimals),
        time.time() if read_at is None else read_at,
    )


def stated_symbol(text: object) -> str:
    """A symbol that a contract states, sanitised."""
    symbol = sanitise_text(text, MAX_SYMBOL_LENGTH)
    if isinstance(text, str) and len(text) > _MAX_STATED_SYMBOL and len(symbol) < MAX_SYMBOL_LENGTH:
        return UNREADABLE_SYMBOL  # what a wallet shows may come after what is looked at here
    return symbol


def first_transaction(source: str, timestamp: object) -> FirstTransaction:
    """Validate a source's time of a first transaction. Raises `MalformedAnswer`."""
    seconds = as_int(timestamp)
    if seconds is None or not 0 < seconds <= time.time() + _CLOCK_TOLERANCE_SECONDS:
        raise MalformedAnswer(source, "timestamp missing or impossible")
    return FirstTransaction(seconds, source)


def price(source: str, usd: object, decimals: object) -> Price:
    """Validate a source's price. Raises `MalformedAnswer`."""
    if isinstance(usd, bool) or not isinstance(usd, int | float):
        raise MalformedAnswer(source, "price missing or no number")
    if not _MIN_PRICE <= usd <= _MAX_PRICE:  # NaN is in no range
        raise MalformedAnswer(source, "price impossible")
    return Price(float(usd), source, _decimals(source, decimals))


def deployment(source: str, absent_at: object, present_at: object) -> Deployment:
    """Validate a source's data on a contract's deployment. Raises `MalformedAnswer`."""
    blocks = []
    for value in (absent_at, present_at):
        number = as_int(value)
        if value is not None and number is None:
            raise MalformedAnswer(source, "block number impossible")
        blocks.append(number)
    return Deployment(*blocks)


def _decimals(source: str, value: object) -> int | None:
    number = as_int(value)
    if value is not None and (number is None or number > MAX_DECIMALS):
        raise MalformedAnswer(source, "decimals impossible")
    return number
