"""What a transaction moved, and what each account gained or lost by it. For people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from src.chain.text import short
from src.chain.transfers import Transfer
from src.decision.tokens import TokenView, decimals_of, label_of
from src.detection.records import NATIVE
from src.service.formatting import amount, exact_amount
from src.service.records import LoadedTransaction


@dataclass(frozen=True, slots=True)
class Net:
    """An account's gain or loss of one token over the whole transaction."""

    account: str
    amount: str
    exact: str
    is_gain: bool
    token: str
    label: str


def all_transfers(transaction: LoadedTransaction) -> list[Transfer]:
    """All transfers in log order, native ones as those of the token `NATIVE`.

    Where the chain does not log them, the value sent with the transaction is the first one.
    """
    native = [Transfer(NATIVE, *one) for one in transaction.native]
    if not native and transaction.value and transaction.sender and transaction.to:
        native = [Transfer(NATIVE, transaction.sender, transaction.to, transaction.value, -1)]
    return sorted([*transaction.transfers, *native], key=lambda one: one.log_index)


def shown_label(address: str, tokens: Mapping[str, TokenView]) -> str:
    """The label of a token, its address shortened."""
    return label_of(address, tokens.get(address), written=short(address))


def net_changes(transfers: Sequence[Transfer], tokens: Mapping[str, TokenView]) -> list[Net]:
    """Gains and losses, accounts in order of appearance, without balanced ones."""
    nets: dict[str, dict[str, int]] = {}
    for one in transfers:
        payer = nets.setdefault(one.sender, {})
        payer[one.token] = payer.get(one.token, 0) - one.amount
        payee = nets.setdefault(one.recipient, {})
        payee[one.token] = payee.get(one.token, 0) + one.amount
    return [
        Net(
            account=account,
            amount=amount(abs(net), decimals_of(token, tokens)),
            exact=exact_amount(abs(net), decimals_of(token, tokens)),
            is_gain=net > 0,
            token=token,
            label=shown_label(token, tokens),
        )
        for account, own in nets.items()
        for token, net in own.items()
        if net
    ]
