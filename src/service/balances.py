"""What a transaction moved, and what each account gained or lost by it. For people."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from src.chain.text import short
from src.chain.transfers import ZERO_ADDRESS, Transfer
from src.decision.money import TokenPrice, rough_worth
from src.decision.tokens import TokenView, label_of
from src.detection.records import NATIVE, net_changes, unlogged_wrapping
from src.service.formatting import amount, exact_amount
from src.service.records import LoadedTransaction


@dataclass(frozen=True, slots=True)
class Change:
    """What an account gained or lost of one token."""

    token: str  # its address, or `NATIVE`
    label: str  # its display name
    amount: str  # without its sign; "" if the token states no decimals
    exact: str  # to the last digit
    is_gain: bool  # rather than a loss
    usd: float | None  # its worth, or None if unknown
    price: str  # what says so; "" if nothing does
    is_gas: bool  # the fee of the transaction
    is_unlisted: bool  # the chain has a list of well-known tokens, without this one


@dataclass(frozen=True, slots=True)
class AccountChanges:
    """What an account gained and lost by a transaction."""

    account: str  # its address
    roles: tuple[str, ...]  # sender, called, sender's side, zero address
    changes: list[Change]  # the most valuable one first
    usd: float | None  # of all together, as far as it is known; None if nothing is
    is_whole: bool  # whether it is known of all


@dataclass(frozen=True, slots=True)
class Worth:
    """What is known of the worth of tokens."""

    prices: Mapping[str, TokenPrice]  # by token or `NATIVE`
    values: Mapping[str, float]  # ETH for one raw unit, by token, to order by
    has_list: bool  # whether the chain has a list of well-known tokens
    wrapped_native: str | None  # the native currency as a token, or None


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


def account_changes(
    transaction: LoadedTransaction,
    tokens: Mapping[str, TokenView],
    worth: Worth,
    side: Collection[str] = (),
) -> list[AccountChanges]:
    """What each account gained and lost, gas and native currency included.

    Accounts are in order of what the change was worth, the zero address last; balanced ones are
    left out.

    Args:
        transaction: with its transfers.
        tokens: metadata by address, `NATIVE` included.
        worth: of the tokens.
        side: the accounts of the sender's side, as far as known.
    """
    found = []
    for account, nets in _balances(transaction, worth.wrapped_native).items():
        changes = [
            (_rough(key[0], abs(net), worth), _change(key, net, tokens, worth))
            for key, net in nets.items()
            if net
        ]
        if changes:
            changes.sort(key=lambda one: -one[0])
            size = abs(sum(rough if one.is_gain else -rough for rough, one in changes))
            shown = [change for _, change in changes]
            roles = _roles(account, transaction, side)
            priced = [one.usd if one.is_gain else -one.usd for one in shown if one.usd is not None]
            usd = sum(priced) if priced else None
            is_whole = len(priced) == len(shown)
            found.append((size, AccountChanges(account, roles, shown, usd, is_whole)))
    found.sort(key=lambda one: (one[1].account == ZERO_ADDRESS, -one[0]))
    return [one for _, one in found]


def _balances(
    transaction: LoadedTransaction, wrapped: str | None
) -> dict[str, dict[tuple[str, bool], int]]:
    """Net changes by account and (token, whether it is gas), in order of appearance."""
    balances = {
        account: {(token, False): net for token, net in own.items()}
        for account, own in net_changes(_with_wrapping(transaction, wrapped)).items()
    }
    if transaction.sender is not None and transaction.gas_cost_wei:
        balances.setdefault(transaction.sender, {})[NATIVE, True] = -transaction.gas_cost_wei
    return balances


def _with_wrapping(transaction: LoadedTransaction, wrapped: str | None) -> Iterator[Transfer]:
    """All transfers, and the mints and burns of the wrapped native currency that are not logged."""
    yield from all_transfers(transaction)
    native = transaction.native or ()
    for account, token, change in unlogged_wrapping(native, transaction.transfers, wrapped):
        payer, payee = (ZERO_ADDRESS, account) if change > 0 else (account, ZERO_ADDRESS)
        yield Transfer(token, payer, payee, abs(change), 0)


def _rough(token: str, raw: int, worth: Worth) -> float:
    """The worth of an amount, to order by; 0 where nothing is known of it."""
    price = worth.prices.get(token)
    key = (worth.wrapped_native or "") if token == NATIVE else token
    usd = None if price is None else price.worth(raw)
    return rough_worth(usd, raw * worth.values.get(key, 0.0))


def _change(
    key: tuple[str, bool], net: int, tokens: Mapping[str, TokenView], worth: Worth
) -> Change:
    token, is_gas = key
    known = tokens.get(token)
    decimals = known.decimals if known is not None else None
    price = worth.prices.get(token)
    raw = abs(net)
    return Change(
        token=token,
        label=shown_label(token, tokens),
        amount="" if decimals is None else amount(raw, decimals),
        exact=f"{raw} raw units" if decimals is None else exact_amount(raw, decimals),
        is_gain=net > 0,
        usd=None if price is None else price.worth(raw),
        price="" if price is None else price.source,
        is_gas=is_gas,
        is_unlisted=worth.has_list and not (known is not None and known.well_known),
    )


def _roles(account: str, transaction: LoadedTransaction, side: Collection[str]) -> tuple[str, ...]:
    if account == ZERO_ADDRESS:
        return ("minted and burned",)
    roles = [
        role
        for role, address in (("sender", transaction.sender), ("called", transaction.to))
        if address == account
    ]
    return tuple(roles or (["sender's side"] if account in side else []))
