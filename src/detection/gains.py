"""Who ends richer and poorer of what: the sender's side, and every other account.

Exact, in raw units, net over the whole transaction, native currency included. What it was worth is
not decided here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from src.detection.records import NATIVE, ZERO_ADDRESS

if TYPE_CHECKING:
    from src.detection.evidence import Evidence

Changes = Mapping[str, int]
"""Net change by token, raw units; the native currency is `NATIVE`. Without zeros."""

_OWN_MONEY: Final = 0.01
"""Of the value that an account gains: what it may pay of its own and still act for another."""


@dataclass(frozen=True, slots=True)
class Gains:
    """Net changes of balances.

    Attributes:
        side: the accounts of the sender's side: the sender, those that act on the money of others
            (see `Parties.members`), and the contract that it called; but none that ends poorer,
            save the sender: who ends poorer has paid.
        own: of the side together. Where internal native transfers are unknown, what the sender sent
            along counts as spent, and nothing as returned.
        others: of every other account.
        native_is_known: whether all native transfers are in.
    """

    side: frozenset[str]
    own: Changes
    others: Mapping[str, Changes]
    native_is_known: bool


def gains_of(evidence: "Evidence") -> Gains:
    """The gains of one transaction, from its credible transfers."""
    balances = _by_account(evidence)
    acting = {*evidence.parties.members, evidence.to} - {None}
    side = {one for one in acting if one and _only_gains(evidence, balances.get(one, {}))}
    if evidence.sender:
        side.add(evidence.sender)
    own: dict[str, int] = {}
    others: dict[str, Changes] = {}
    for account, changes in balances.items():
        if account in side:
            for token, change in changes.items():
                own[token] = own.get(token, 0) + change
        elif any(changes.values()):
            others[account] = _without_zeros(changes)
    return Gains(frozenset(side), _without_zeros(own), others, bool(evidence.native))


def _by_account(evidence: "Evidence") -> dict[str, dict[str, int]]:
    balances: dict[str, dict[str, int]] = {}
    wrapped = evidence.wrapped_native

    def credit(account: str, token: str, change: int) -> None:
        if account != ZERO_ADDRESS and (account != wrapped or token not in (NATIVE, wrapped)):
            changes = balances.setdefault(account, {})
            changes[token] = changes.get(token, 0) + change

    for moved in evidence.credible_transfers:
        credit(moved.sender, moved.token, -moved.amount)
        credit(moved.recipient, moved.token, moved.amount)
    for sent in evidence.native:
        credit(sent.sender, NATIVE, -sent.amount)
        credit(sent.recipient, NATIVE, sent.amount)
        # Wrapping and unwrapping leave no ERC-20 transfer on most chains.
        if wrapped is not None and sent.recipient == wrapped:
            credit(sent.sender, wrapped, sent.amount)
        elif wrapped is not None and sent.sender == wrapped:
            credit(sent.recipient, wrapped, -sent.amount)
    if not evidence.native and evidence.value and evidence.sender:
        credit(evidence.sender, NATIVE, -evidence.value)
        if evidence.to in balances and not _only_gains(evidence, balances[evidence.to]):
            credit(evidence.to, NATIVE, evidence.value)  # it was paid for what it gave
    return balances


def _only_gains(evidence: "Evidence", changes: Changes) -> bool:
    """Whether an account ends poorer of nothing, or of next to nothing beside its gains."""
    lost = {token: -change for token, change in changes.items() if change < 0}
    if not lost:
        return True
    values = {token: change * evidence.value_of(token) for token, change in lost.items()}
    gained = sum(
        change * evidence.value_of(token) for token, change in changes.items() if change > 0
    )
    return all(values.values()) and sum(values.values()) <= _OWN_MONEY * gained


def _without_zeros(changes: Changes) -> Changes:
    return {token: change for token, change in changes.items() if change}
