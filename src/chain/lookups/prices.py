"""Questions for prices, and a Chainlink feed's answer through the node."""

from typing import Final, NamedTuple

from eth_utils.crypto import keccak

from src.chain.clients.rpc import JsonRpcClient
from src.chain.erc20 import returned_bytes
from src.chain.errors import MalformedAnswer
from src.chain.facts import Price, price

SOURCE: Final = "Chainlink"
PERIOD_SECONDS: Final = 300
"""For so long the same price is good."""

_PRESENT_SECONDS = 3_600  # a transaction no older than that is priced as if it were now
_LATEST = keccak(text="latestRoundData()")[:4]
_DECIMALS = keccak(text="decimals()")[:4]
_WORD = 32
_WORDS = 5
_FEED_DECIMALS = 8
_MAX_AGE_SECONDS = 25 * 3_600  # the slowest heartbeat of these feeds is a day
_CLOCK_TOLERANCE_SECONDS = 900


class Moment(NamedTuple):
    """When prices are asked for."""

    timestamp: int  # Unix seconds, start of a period
    block: str  # a block of about then, as a JSON-RPC parameter
    is_now: bool  # whether it is about now

    def question(self, token: str) -> str:
        """The key of a question among those in flight, and in the cache."""
        return f"{token}@{self.timestamp}"


def moment_of(timestamp: int | None, block_number: int | None, now: float) -> Moment:
    """The moment of a transaction.

    `timestamp` and `block_number` are its block's; None for now, and for the newest block. Times
    are in Unix seconds.
    """
    wanted = int(now) if timestamp is None else min(timestamp, int(now))
    return Moment(
        wanted - wanted % PERIOD_SECONDS,
        "latest" if block_number is None else hex(block_number),
        is_now=now - wanted < _PRESENT_SECONDS,
    )


def token_of(question: str) -> str:
    """The token that a question is about."""
    return question.partition("@")[0]


def chainlink_price(node: JsonRpcClient, feed: str, moment: Moment) -> Price:
    """The answer of a feed that is in USD.

    Raises:
        SourceError: the node does not answer, or the feed's answer is old or impossible.
    """
    (decimals,) = _words(node, feed, _DECIMALS, moment, 1)
    if decimals != _FEED_DECIMALS:
        raise MalformedAnswer(SOURCE, "the feed has other decimals than a feed in USD")
    _, answer, _, updated_at, _ = _words(node, feed, _LATEST, moment, _WORDS)
    age = moment.timestamp - updated_at
    if not -_CLOCK_TOLERANCE_SECONDS <= age <= _MAX_AGE_SECONDS:
        raise MalformedAnswer(SOURCE, "the feed's answer is of another time")
    if answer >= 2**255:
        raise MalformedAnswer(SOURCE, "the feed's answer is negative")
    return price(SOURCE, answer / 10**_FEED_DECIMALS, None)


def _words(
    node: JsonRpcClient, feed: str, selector: bytes, moment: Moment, count: int
) -> list[int]:
    call = {"to": feed, "data": f"0x{selector.hex()}"}
    data = returned_bytes(node.call("eth_call", [call, moment.block]))
    if len(data) != _WORD * count:
        raise MalformedAnswer(SOURCE, "there is no feed")
    return [int.from_bytes(data[at : at + _WORD]) for at in range(0, len(data), _WORD)]
