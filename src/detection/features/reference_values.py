"""What well-known tokens were worth when a model was trained: a fixed table, part of the model.

It gives features a rough unit of value. It is no price: scores stay a function of the transaction
and the model alone.
"""

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_ADDRESS = re.compile(r"0x[0-9a-f]{40}")
_MAX_DECIMALS = 36


@dataclass(frozen=True, slots=True)
class ReferenceValue:
    """One token on one chain."""

    chain_id: int  # the chain
    address: str  # contract address, lowercase
    symbol: str  # for people
    decimals: int  # of the token
    eth: float  # what one token (10**decimals raw units) was worth, in ETH


@dataclass(frozen=True)
class ReferenceValues:
    """The table."""

    date: str = ""  # of the values, ISO 8601; empty for an empty table
    tokens: tuple[ReferenceValue, ...] = ()  # one entry a token and chain

    @cached_property
    def eth_per_unit(self) -> dict[str, float]:
        """ETH for one raw unit, by contract address.

        One table for all chains: an address that occurs on several has the same value on each.
        """
        return {token.address: token.eth * 10.0**-token.decimals for token in self.tokens}

    def has_chain(self, chain_id: int) -> bool:
        """Whether there is a token of a chain."""
        return any(token.chain_id == chain_id for token in self.tokens)

    @classmethod
    def parse(cls, content: Any) -> "ReferenceValues":
        """Read the table from its JSON form, the same in the data file and in a manifest.

        Raises:
            ValueError, KeyError, TypeError: it is not valid; the message names the entry.
        """
        tokens = tuple(_token(entry) for entry in content["tokens"])
        values = cls(str(content["date"]), tokens)
        for token in tokens:
            if values.eth_per_unit[token.address] != token.eth * 10.0**-token.decimals:
                raise ValueError(f"reference_values has two values for {token.address}")
        return values


NO_VALUES = ReferenceValues()
"""Nothing is worth anything."""


def _token(entry: Any) -> ReferenceValue:
    token = ReferenceValue(
        chain_id=int(entry["chain_id"]),
        address=str(entry["address"]),
        symbol=str(entry["symbol"]),
        decimals=int(entry["decimals"]),
        eth=float(entry["eth"]),
    )
    if not _ADDRESS.fullmatch(token.address):
        raise ValueError(f"reference_values: {token.address!r} is not a lowercase address")
    if not 0 <= token.decimals <= _MAX_DECIMALS or not 0 < token.eth < math.inf:
        raise ValueError(f"reference_values: {token.address} has invalid decimals or value")
    return token
