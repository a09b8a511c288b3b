"""Facts about the chain, and the validation of external data that becomes a fact.

A fact does not change, so it may be cached for ever. Data from sources, disk or contracts is
validated here first: text is sanitised, and impossible numbers are rejected.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from src.chain.errors import MalformedAnswer, NotStated
from src.chain.text import sanitise_text

MAX_DECIMALS = 255
"""`decimals()` is a uint8."""

MAX_NAME_LENGTH = 64
MAX_SYMBOL_LENGTH = 32

# The sender's first transaction cannot be later than now; clocks differ a little.
_CLOCK_TOLERANCE_SECONDS = 900


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token's metadata as its contract states it: decoration, not identity.

    Attributes:
        name, symbol: sanitised, possibly empty (both are optional in ERC-20).
        decimals: 0 to 255; one token is 10**decimals raw units.
    """

    name: str
    symbol: str
    decimals: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """A fact that is unavailable.

    Attributes:
        reason: human-readable.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class FirstTransaction:
    """An address's first transaction.

    Attributes:
        timestamp: Unix seconds.
        source: "etherscan", which includes incoming transactions, or "node", which knows only
            outgoing ones: two different quantities, so the source is recorded.
    """

    timestamp: int
    source: str


@dataclass(frozen=True, slots=True)
class CodeAt:
    """Whether a contract had been deployed by the end of a block.

    Attributes:
        contract: lowercase address.
        block: the block's number.
        exists: whether there was code at the address.
    """

    contract: str
    block: int
    exists: bool


@dataclass(frozen=True, slots=True)
class Deployment:
    """When a contract was deployed, as far as known from queries for single blocks.

    Attributes:
        absent_at: the newest block at which it is known not to have existed, or None.
        present_at: the oldest block at which it is known to have existed, or None.
    """

    absent_at: int | None = None
    present_at: int | None = None

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
            known = self.present_at
            return replace(
                self, present_at=answer.block if known is None else min(known, answer.block)
            )
        known = self.absent_at
        return replace(self, absent_at=answer.block if known is None else max(known, answer.block))


@dataclass(frozen=True, slots=True)
class Facts:
    """External facts about one transaction, gathered before anything is computed.

    Attributes:
        tokens: metadata by token address, without unknown tokens.
        first_transaction: the sender's; None if it has none yet.
        reputations: by token address, whether it is known: True for well-known tokens and contracts
            that existed a day before, False for younger contracts. If this is unknown, the token
            is left out and counts as known.
    """

    tokens: Mapping[str, TokenInfo] = field(default_factory=dict)
    first_transaction: FirstTransaction | Unknown | None = Unknown("not looked up")
    reputations: Mapping[str, bool] = field(default_factory=dict)

    @property
    def tokens_without_reputation(self) -> frozenset[str]:
        """Tokens whose contract is younger than a day: their events may be its author's fiction."""
        return frozenset(token for token, is_known in self.reputations.items() if not is_known)


def token_info(source: str, name: object, symbol: object, decimals: object) -> TokenInfo:
    """Validate and sanitise a source's data on a token. Raises `NotStated`."""
    number = whole_number(decimals)
    if number is None or not 0 <= number <= MAX_DECIMALS:
        raise NotStated(source, "decimals missing or impossible")
    return TokenInfo(
        sanitise_text(name, MAX_NAME_LENGTH), sanitise_text(symbol, MAX_SYMBOL_LENGTH), number
    )


def first_transaction(source: str, timestamp: object) -> FirstTransaction:
    """Validate a source's time of a first transaction. Raises `MalformedAnswer`."""
    seconds = whole_number(timestamp)
    if seconds is None or not 0 < seconds <= time.time() + _CLOCK_TOLERANCE_SECONDS:
        raise MalformedAnswer(source, "timestamp missing or impossible")
    return FirstTransaction(seconds, source)


def deployment(source: str, absent_at: object, present_at: object) -> Deployment:
    """Validate a source's data on a contract's deployment. Raises `MalformedAnswer`."""
    blocks = []
    for value in (absent_at, present_at):
        number = whole_number(value)
        if value is not None and (number is None or number < 0):
            raise MalformedAnswer(source, "block number impossible")
        blocks.append(number)
    return Deployment(*blocks)


def whole_number(value: object) -> int | None:
    """An int, or a string of at most 20 decimal digits as an int; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.isdigit():
        return int(value)
    return None
