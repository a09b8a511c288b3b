"""The view of one transaction with addresses and exact amounts, for rules and for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from src.detection.features.batch import TransferBatch
from src.detection.features.definitions import TokenProfile
from src.detection.features.view import view_of
from src.detection.records import ZERO_ADDRESS, TransferLike


@dataclass(frozen=True, slots=True)
class PartyTransfer:
    """A transfer between parties; see `view`.

    Attributes:
        token: contract address.
        sender, recipient: accounts that stand for the parties, see `lender`.
        amount: raw token units.
    """

    token: str
    sender: str
    recipient: str
    amount: int


@dataclass(frozen=True, slots=True)
class Parties:
    """The parties of a transaction and what they moved.

    Attributes:
        transfers: of the view, in log order.
        merged: accounts that act for another, and the account that stands for them all (the
            sender's if it is one of them).
    """

    transfers: tuple[PartyTransfer, ...]
    merged: Mapping[str, str]


def lender(token: str) -> str:
    """Stands for the zero address of a token that is minted and burnt in the transaction."""
    return f"{ZERO_ADDRESS}/{token}"


def parties(transfers: Sequence[TransferLike], from_address: str, profile: TokenProfile) -> Parties:
    """See who dealt with whom, and which accounts acted for one party.

    Args:
        transfers: in log order.
        from_address: the sender's.
        profile: what tokens are worth.
    """
    batch = TransferBatch.from_transactions([(transfers, from_address)])
    view = view_of(batch.arrays, profile.values_of(batch), batch.n_accounts)
    addresses = [*batch.account_addresses, *map(lender, batch.token_addresses)]
    seen = tuple(
        PartyTransfer(
            transfers[position].token,
            addresses[payer],
            addresses[payee],
            transfers[position].amount,
        )
        for position, payer, payee in zip(
            view.position.tolist(),
            view.transfers.sender.tolist(),
            view.transfers.recipient.tolist(),
            strict=True,
        )
    )
    party = view.party[0]
    if party < 0:
        return Parties(seen, {})
    left = {ZERO_ADDRESS, *(t.sender for t in seen), *(t.recipient for t in seen)}
    gone = dict.fromkeys(account for t in transfers for account in (t.sender, t.recipient))
    return Parties(seen, {account: addresses[party] for account in gone if account not in left})
