"""Transfers of one or many transactions as flat arrays: the form that the feature kernel reads.

A single live transaction is a batch of one: live handling, training and batches share the kernel.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Self

import numpy as np
from numpy.typing import NDArray

from src.detection.features.flows import Transfers
from src.detection.records import ZERO_ADDRESS, TransferLike

_UINT256_DIGITS = 78


@dataclass(frozen=True, slots=True)
class TransferBatch:
    """Transfers grouped by transaction, in log order within each."""

    # Int64, shape (n_tx + 1,): transaction t has transfers offsets[t]:offsets[t + 1].
    offsets: NDArray[np.int64]
    # token, sender, recipient: int32, shape (n,): dense ids; the zero address has account id 0.
    token: NDArray[np.int32]
    sender: NDArray[np.int32]
    recipient: NDArray[np.int32]
    amount: NDArray[np.float64]  # float64, shape (n,): the uint256 amount, correctly rounded
    origin: NDArray[np.int32]  # int32, shape (n_tx,): account id of the transaction's sender
    token_addresses: Sequence[str]  # address of each token id
    n_accounts: int  # number of account ids
    # Address of each account id; empty where only ids were at hand.
    account_addresses: Sequence[str] = ()

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
        n, ids = len(token), np.array(token + sender + recipient + origin, dtype=np.int32)
        return cls(
            offsets=np.array(offsets, dtype=np.int64),
            token=ids[:n],
            sender=ids[n : 2 * n],
            recipient=ids[2 * n : 3 * n],
            amount=np.array(amount, dtype=np.float64),
            origin=ids[3 * n :],
            token_addresses=list(tokens),
            n_accounts=len(accounts),
            account_addresses=list(accounts),
        )

    @classmethod
    def from_columns(
        cls,
        *,
        offsets: NDArray[np.int64],
        token: Sequence[str],
        sender: Sequence[str],
        recipient: Sequence[str],
        amount: NDArray[np.float64],
        origin: Sequence[str],
    ) -> Self:
        """Build from columns of lowercase addresses, transfers grouped as `offsets` says.

        The same transfers give the same features as through `from_transactions`.

        Raises:
            ValueError: the columns do not fit together.
        """
        if (
            len(offsets) != len(origin) + 1
            or not len(token) == len(sender) == len(recipient) == len(amount) == offsets[-1]
            or offsets[0] != 0
            or (np.diff(offsets) < 0).any()
        ):
            raise ValueError("the columns' lengths do not agree with the offsets")
        accounts = _numbered([ZERO_ADDRESS], sender, recipient, origin)
        tokens = _numbered(token)
        return cls(
            offsets=np.ascontiguousarray(offsets, dtype=np.int64),
            token=_ids(token, tokens),
            sender=_ids(sender, accounts),
            recipient=_ids(recipient, accounts),
            amount=np.ascontiguousarray(amount, dtype=np.float64),
            origin=_ids(origin, accounts),
            token_addresses=list(tokens),
            n_accounts=len(accounts),
            account_addresses=list(accounts),
        )

    @property
    def arrays(self) -> Transfers:
        """What the kernels read."""
        return Transfers(
            self.offsets, self.token, self.sender, self.recipient, self.amount, self.origin
        )

    def without(self, tokens: Collection[str]) -> Self:
        """Leave out transfers of these tokens, where others remain in the transaction."""
        left_out = np.array([address in tokens for address in self.token_addresses], dtype=bool)
        remains = ~left_out[self.token]
        remains |= (self.count(remains) == 0)[self.owner]
        return self.part(remains, np.ones(self.n_transactions, dtype=bool))

    def part(self, transfers: NDArray[np.bool_], transactions: NDArray[np.bool_]) -> Self:
        """The chosen transfers of the chosen transactions, both as masks, in the same order."""
        kept = transfers & transactions[self.owner]
        return replace(
            self,
            offsets=np.concatenate([[0], np.cumsum(self.count(kept)[transactions])]),
            token=self.token[kept],
            sender=self.sender[kept],
            recipient=self.recipient[kept],
            amount=self.amount[kept],
            origin=self.origin[transactions],
        )

    def count(self, transfers: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Number of chosen transfers (a mask) of each transaction, shape (n_tx,)."""
        return np.bincount(self.owner[transfers], minlength=self.n_transactions)

    @property
    def owner(self) -> NDArray[np.int64]:
        """The transaction of each transfer, by its position, shape (n,)."""
        return np.repeat(np.arange(self.n_transactions), self.n_transfers)

    @property
    def n_transactions(self) -> int:
        """Number of transactions."""
        return len(self.offsets) - 1

    @property
    def n_transfers(self) -> NDArray[np.int64]:
        """Number of transfers of each transaction, shape (n_tx,)."""
        return np.diff(self.offsets)


def amounts_from_decimals(texts: Iterable[str]) -> NDArray[np.float64]:
    """Decimal uint256 strings as float64, each rounded as `float(int(text))` rounds it.

    Raises:
        ValueError: a text is not the decimal form of an integer in [0, 2**256).
    """
    return np.array([_amount(text) for text in texts], dtype=np.float64)


def _amount(text: str) -> float:
    # int() alone would accept blanks, signs, underscores and non-ASCII digits; and parsing a long
    # text takes quadratic time.
    if len(text) > _UINT256_DIGITS or not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text[:_UINT256_DIGITS]!r} is not a decimal uint256")
    value = int(text)
    if value >= 2**256:
        raise ValueError(f"{text} does not fit into a uint256")
    return float(value)


def _numbered(*columns: Iterable[str]) -> dict[str, int]:
    """Each distinct text's number, in order of first appearance."""
    return {text: number for number, text in enumerate(dict.fromkeys(chain(*columns)))}


def _ids(column: Sequence[str], numbers: dict[str, int]) -> NDArray[np.int32]:
    return np.fromiter(map(numbers.__getitem__, column), dtype=np.int32, count=len(column))
