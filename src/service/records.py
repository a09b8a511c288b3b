"""Records shared by the chain reader, the analysis, the database and the API."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from src.chain.transfers import Approval, NativeTransfer, Transfer

WEI_PER_ETHER = 10**18

_SELECTOR = re.compile(r"0x[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class LoadedTransaction:
    """A transaction of a block with its transfers."""

    # tx_hash, block_hash: lowercase.
    tx_hash: str
    block_number: int
    block_hash: str
    block_timestamp: int  # Unix seconds
    tx_index: int  # position in the block
    sender: str | None  # `tx.from`, lowercase, or None if it is not a valid address
    to: str | None  # `tx.to`, lowercase, or None for a contract creation
    nonce: int | None  # number of earlier transactions of the sender, or None
    gas_used: int | None  # units of gas, or None
    gas_price: int | None  # effective, wei per unit, or None
    transfers: tuple[Transfer, ...]  # of ERC-20 tokens, in log order
    # Of the native currency, in log order, where the chain logs them.
    native: tuple[NativeTransfer, ...] = ()
    value: int | None = None  # wei sent with it, or None
    approvals: tuple[Approval, ...] = ()  # of ERC-20 tokens; only where it was read from the node
    # Of the method called, `0x` and 8 digits; `0x` without data, None if unknown.
    selector: str | None = None
    status: int | None = None  # 1 if it succeeded, 0 if it was reverted, None if unknown

    @classmethod
    def from_row(
        cls,
        row: Mapping[str, Any],
        transfers: Iterable[Transfer],
        native: Iterable[NativeTransfer] = (),
        approvals: Iterable[Approval] = (),
    ) -> Self:
        """From a row of the database or of a recorder's block, which name their columns alike.

        A recorder's row has the whole input instead of the selector.
        """
        return cls(
            tx_hash=row["tx_hash"],
            block_number=row["block_number"],
            block_hash=row["block_hash"],
            block_timestamp=row["block_timestamp"],
            tx_index=row["tx_index"],
            sender=row["from_address"],
            to=row["to_address"],
            nonce=row["nonce"],
            gas_used=row["gas_used"],
            gas_price=None if row["gas_price"] is None else int(row["gas_price"]),
            transfers=tuple(sorted(transfers, key=lambda transfer: transfer.log_index)),
            native=tuple(sorted(native, key=lambda transfer: transfer.log_index)),
            value=None if row["value_wei"] is None else int(row["value_wei"]),
            approvals=tuple(approvals),
            selector=row["selector"] if "selector" in row else selector_of(row["input"]),
            status=row["status"],
        )

    @property
    def gas_cost_wei(self) -> int | None:
        """The gas cost in wei, or None if unknown."""
        if self.gas_used is None or self.gas_price is None:
            return None
        return self.gas_used * self.gas_price

    @property
    def gas_cost(self) -> float:
        """The gas cost in ETH; exact except for the final division."""
        return (self.gas_cost_wei or 0) / WEI_PER_ETHER


def selector_of(data: Any) -> str | None:
    """The selector of a call's data; `0x` without data, None if it has none."""
    start = data[:10].lower() if isinstance(data, str) else ""
    return start if start == "0x" or _SELECTOR.fullmatch(start) else None
