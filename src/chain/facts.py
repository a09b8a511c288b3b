"""Facts about the chain, and the gate through which outside answers become facts.

A fact does not change, so it may be kept for ever. Whatever a source, the disk or a contract says
passes here first: text is sanitised, numbers are checked for what is possible.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from src.chain.errors import MalformedAnswer
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
    """A fact that could not be had.

    Attributes:
        reason: why, for people.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class FirstTransaction:
    """An address's first transaction.

    Attributes:
        timestamp: Unix seconds.
        source: "etherscan" where incoming transactions count too, "node" where only outgoing ones
            do: two different quantities, so it is recorded which one answered.
    """

    timestamp: int
    source: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What the outside world knows of one transaction, gathered before anything is computed.

    Attributes:
        tokens: metadata by token address; tokens of which nothing is known are left out.
        first_transaction: the sender's; None where it has none yet.
    """

    tokens: Mapping[str, TokenInfo] = field(default_factory=dict)
    first_transaction: FirstTransaction | Unknown | None = Unknown("not looked up")


def token_info(source: str, name: object, symbol: object, decimals: object) -> TokenInfo:
    """Check and sanitise what `source` says of a token. Raises `MalformedAnswer`."""
    number = whole_number(decimals)
    if number is None or not 0 <= number <= MAX_DECIMALS:
        raise MalformedAnswer(source, "decimals missing or impossible")
    return TokenInfo(
        sanitise_text(name, MAX_NAME_LENGTH), sanitise_text(symbol, MAX_SYMBOL_LENGTH), number
    )


def first_transaction(source: str, timestamp: object) -> FirstTransaction:
    """Check what `source` says of a first transaction's time. Raises `MalformedAnswer`."""
    seconds = whole_number(timestamp)
    if seconds is None or not 0 < seconds <= time.time() + _CLOCK_TOLERANCE_SECONDS:
        raise MalformedAnswer(source, "timestamp missing or impossible")
    return FirstTransaction(seconds, source)


def whole_number(value: object) -> int | None:
    """An int, or a string of at most 20 decimal digits as an int; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.isdigit():
        return int(value)
    return None
