"""Transfers of one or many transactions as flat arrays: the form that the feature kernel reads.

A single live transaction is a batch of one: live handling, training and batches share the kernel.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

ZERO_ADDRESS = "0x" + "0" * 40


class TransferLike(Protocol):
    """What a batch reads of a transfer; `chain.transfers.Transfer` has this shape."""

    @property
    def token(self) -> str:
        """Contract address."""

    @property
    def sender(self) -> str:
        """Account debited."""

    @property
    def recipient(self) -> str:
        """Account credited."""

    @property
    def amount(self) -> int:
        """Raw token units."""


@dataclass(frozen=True, slots=True)
class TransferBatch:
    """Transfers grouped by transaction, in log order within each.

    Attributes:
        offsets: int64, shape (n_tx + 1,): transaction t has transfers offsets[t]:offsets[t + 1].
        token, sender, recipient: int32, shape (n,): dense ids; the zero address has account id 0.
        amount: float64, shape (n,): the uint256 amount, correctly rounded.
        origin: int32, shape (n_tx,): account id of the transaction's sender.
        token_addresses: address of each token id.
        n_accounts: number of account ids.
    """

    offsets: NDArray[np.int64]
    token: NDArray[np.int32]
    sender: NDArray[np.int32]
    recipient: NDArray[np.int32]
    amount: NDArray[np.float64]
    origin: NDArray[np.int32]
    token_addresses: Sequence[str]
    n_accounts: int

    @classmethod
    def from_transactions(cls, transactions: Iterable[tuple[Sequence[TransferLike], str]]) -> Self:
        """Build from (transfers in log order, address of the sender), one pair a transaction."""
        accounts = {ZERO_ADDRESS: 0}
        tokens: dict[str, int] = {}
        offsets = [0]
        token: list[int] = []
        sender: list[int] = []
        recipient: list[int] = []
        amount: list[float] = []
        origin: list[int] = []
        for transfers, from_address in transactions:
            origin.append(accounts.setdefault(from_address, len(accounts)))
            for transfer in transfers:
                token.append(tokens.setdefault(transfer.token, len(tokens)))
                sender.append(accounts.setdefault(transfer.sender, len(accounts)))
                recipient.append(accounts.setdefault(transfer.recipient, len(accounts)))
                amount.append(float(transfer.amount))
            offsets.append(len(token))
        return cls(
            offsets=np.array(offsets, dtype=np.int64),
            token=np.array(token, dtype=np.int32),
            sender=np.array(sender, dtype=np.int32),
            recipient=np.array(recipient, dtype=np.int32),
            amount=np.array(amount, dtype=np.float64),
            origin=np.array(origin, dtype=np.int32),
            token_addresses=list(tokens),
            n_accounts=len(accounts),
        )

    @property
    def n_transactions(self) -> int:
        """Number of transactions."""
        return len(self.offsets) - 1
