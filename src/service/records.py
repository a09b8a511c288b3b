"""Records that the chain reader, the analysis, the database and the answers share."""

from dataclasses import dataclass

from src.chain.transfers import Transfer

WEI_PER_ETHER = 10**18


@dataclass(frozen=True, slots=True)
class LoadedTransaction:
    """A transaction of a block with its ERC-20 transfers.

    Attributes:
        tx_hash, block_hash: lowercase.
        block_timestamp: Unix seconds.
        tx_index: position in the block.
        sender: `tx.from`, lowercase, or None where the node gives no valid address.
        to: `tx.to`, lowercase, or None for a contract creation.
        nonce: transactions that the sender had sent before, or None.
        gas_used: units of gas, or None.
        gas_price: effective, wei a unit, or None.
        transfers: in log order.
    """

    tx_hash: str
    block_number: int
    block_hash: str
    block_timestamp: int
    tx_index: int
    sender: str | None
    to: str | None
    nonce: int | None
    gas_used: int | None
    gas_price: int | None
    transfers: tuple[Transfer, ...]

    @property
    def gas_cost(self) -> float:
        """What the transaction's gas cost, ETH; exact until this last division."""
        return (self.gas_used or 0) * (self.gas_price or 0) / WEI_PER_ETHER
