"""Who dealt with whom, when the accounts that act for one another count as one party; who gained.

The form of `features.view` with addresses and exact integers, for rules. An attacker chooses which
of its accounts deals with whom, and puts relays between them, for cents. That changes no party.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

from src.detection.features.definitions import FEATURE_NAMES, Reading, TokenProfile, read_one
from src.detection.records import (
    NATIVE,
    ZERO_ADDRESS,
    NativeTransferLike,
    TransferLike,
    net_changes,
    unlogged_wrapping,
)

if TYPE_CHECKING:
    from src.detection.evidence import Evidence

FLASH_MINT: Final = "flash mint of "
"""Before a token's address: the lender of what is minted and burnt in the same transaction."""


Changes = Mapping[str, int]
"""Net change by token, raw units; the native currency is `NATIVE`. Without zeros."""

_NO_AMOUNTS: Final = TokenProfile.from_amounts({})
_REVERSE_HOPS: Final = FEATURE_NAMES.index("reverse_hops")

_DUST: Final = 10**-6
"""Of what a transaction moves of a token: a rounding, no loss."""

_OWN_MONEY: Final = 0.01
"""Of the value that an account gains: what it may pay of its own and still act for another."""


class Dealing(NamedTuple):
    """A transfer between two parties."""

    # token, amount: as logged; raw units.
    token: str
    # sender, recipient: the parties: an account, one that stands for several, a flash mint.
    sender: str
    recipient: str
    amount: int
    logged: TransferLike  # the transfer itself, with the accounts that the log names


@dataclass(eq=False)
class Parties:
    """The parties of a transaction."""

    reading: Reading  # of this one transaction
    transfers: Sequence[TransferLike]  # as logged
    # The account that stands for all that act on the money of others (attack contracts, helpers,
    # routers); None where there is none. It is the sender's where that is one.
    agent: str | None

    @cached_property
    def dealings(self) -> Sequence[Dealing]:
        """The transfers between them, in log order."""
        reading, transfers = self.reading, self.transfers
        lenders = [FLASH_MINT + address for address in reading.batch.token_addresses]
        names = [*reading.batch.account_addresses, *lenders]
        return [
            Dealing((moved := transfers[at]).token, names[payer], names[payee], moved.amount, moved)
            for at, payer, payee in zip(
                reading.position.tolist(),
                reading.payer.tolist(),
                reading.payee.tolist(),
                strict=True,
            )
        ]

    @cached_property
    def members(self) -> frozenset[str]:
        """The accounts that count as the agent, as far as they deal with others; itself included.

        A relay that passes on what the agent pays is one of them.
        """
        if self.agent is None:
            return frozenset()
        found = {self.agent}
        for dealing in self.dealings:
            if dealing.sender == self.agent:
                found.add(dealing.logged.sender)
            if dealing.recipient == self.agent:
                found.add(dealing.logged.recipient)
        return frozenset(found)

    def balances_with_native(
        self, native: Sequence[NativeTransferLike], wrapped: str | None
    ) -> Mapping[str, Mapping[str, int]]:
        """The balances, with the native currency as the token `NATIVE`.

        Args:
            native: all native transfers of the transaction.
            wrapped: the contract of the wrapped native currency, or None. It is left out itself.
        """
        balances = {party: dict(changes) for party, changes in self.balances.items()}

        def credit(account: str, token: str, change: int) -> None:
            if account not in (wrapped, ZERO_ADDRESS):
                party = self.agent if account in self.members else account
                changes = balances.setdefault(party or account, {})
                changes[token] = changes.get(token, 0) + change

        for moved in native:
            credit(moved.sender, NATIVE, -moved.amount)
            credit(moved.recipient, NATIVE, moved.amount)
        for wrapping in unlogged_wrapping(native, self.transfers, wrapped):
            credit(*wrapping)
        return balances

    @cached_property
    def balances(self) -> Mapping[str, Mapping[str, int]]:
        """Net change by party and token, raw units, exact; without zero address and flash mints."""
        logged, view = self.reading.batch, self.reading
        if (logged.sender.tobytes(), logged.recipient.tobytes()) == (
            view.payer.tobytes(),
            view.payee.tobytes(),
        ):  # each party is one account, as nearly always
            return self.changes
        return {
            party: changes
            for party, changes in net_changes(self.dealings).items()
            if party != ZERO_ADDRESS and not party.startswith(FLASH_MINT)
        }

    @cached_property
    def changes(self) -> Mapping[str, Mapping[str, int]]:
        """The same by account."""
        changes = net_changes(self.transfers)
        changes.pop(ZERO_ADDRESS, None)
        return changes

    @property
    def deal_back(self) -> bool:
        """Whether a token goes back the way that it came."""
        return bool(self.reading.in_view[0, _REVERSE_HOPS])


def parties_of(
    transfers: Sequence[TransferLike], sender: str | None, values: Mapping[str, float]
) -> Parties:
    """Find the parties of one transaction.

    Args:
        transfers: in log order.
        sender: `tx.from`, or None.
        values: ETH for one raw unit, by token; 0 for those left out.
    """
    reading = read_one(transfers, sender or "", replace(_NO_AMOUNTS, values=values))
    return parties_in(reading, transfers)


def parties_in(reading: Reading, transfers: Sequence[TransferLike]) -> Parties:
    """The parties of the one transaction of a reading, with these transfers."""
    party = int(reading.party[0])
    agent = reading.batch.account_addresses[party] if party >= 0 else None
    return Parties(reading, transfers, agent)


@dataclass(frozen=True, slots=True)
class Gains:
    """Net changes of balances."""

    # The accounts of the sender's side: the sender, those that act on the money of others (see
    # `Parties.members`), and the contract that it called. Save the sender, none that ends poorer,
    # for it has paid; nor a contract called that is richer mostly of what the sender paid it; nor
    # a router whose money comes from what others sold through it, such as a token for its fees.
    side: frozenset[str]
    # Of the side together. Where internal native transfers are unknown, what the sender sent along
    # counts as spent, and nothing as returned.
    own: Changes
    others: Mapping[str, Changes]  # of every other account
    native_is_known: bool  # whether all native transfers are in


def gains_of(evidence: "Evidence") -> Gains:
    """The gains of one transaction, from its credible transfers."""
    balances = _by_account(evidence)
    side = _side(evidence, balances)
    own: dict[str, int] = {}
    others: dict[str, Changes] = {}
    for account, changes in balances.items():
        if account in side:
            for token, change in changes.items():
                own[token] = own.get(token, 0) + change
        elif left := _without_zeros(changes):
            others[account] = left
    return Gains(frozenset(side), _without_zeros(own), others, evidence.native is not None)


def _side(evidence: "Evidence", balances: Mapping[str, Changes]) -> set[str]:
    sender, called = evidence.sender, evidence.to
    acting = {*evidence.parties.members, called, sender}
    side = {one for one in acting if one and _only_gains(evidence, balances.get(one, {}))}
    if sender:
        side.add(sender)
        if called is not None and _keeps_payment(evidence, sender, called, balances):
            side.discard(called)
    for router in (side & evidence.routers) - {sender, called}:
        if _is_paid_for_others(evidence.credible_transfers, router, acting):
            side.discard(router)
    return side


def _keeps_payment(
    evidence: "Evidence", sender: str, called: str, balances: Mapping[str, Changes]
) -> bool:
    """Whether most of something that the called contract gains is what the sender paid it."""
    paid: dict[str, int] = {}
    moved = [(NATIVE, one.sender, one.recipient, one.amount) for one in evidence.native or ()]
    moved += [(t.token, t.sender, t.recipient, t.amount) for t in evidence.credible_transfers]
    for token, *ends, amount in moved:
        if ends == [sender, called]:
            paid[token] = paid.get(token, 0) + amount
    spent = balances.get(sender, {})
    return any(
        2 * min(paid.get(token, 0), -spent.get(token, 0)) >= gain
        for token, gain in balances.get(called, {}).items()
        if gain > 0
    )


def _is_paid_for_others(
    transfers: Sequence[TransferLike], router: str, acting: Collection[str | None]
) -> bool:
    """Whether all that a router gets is, pool by pool, the price of what others gave."""
    payments = [at for at, one in enumerate(transfers) if one.recipient == router and one.amount]
    ours = {router, *acting}
    return bool(payments) and all(_is_price_for_others(transfers, at, ours) for at in payments)


def _is_price_for_others(
    transfers: Sequence[TransferLike], at: int, ours: Collection[str | None]
) -> bool:
    """Whether a payment goes back, by the last payment into each payer, to one that is not ours.

    What is paid for nothing is taken: that is no price.
    """
    payer, is_price = transfers[at].sender, False
    for earlier in reversed(transfers[:at]):
        if earlier.recipient == payer and earlier.amount:
            payer, is_price = earlier.sender, True
            if payer in ours:
                return False
    return is_price


def _by_account(evidence: "Evidence") -> dict[str, dict[str, int]]:
    balances = {account: dict(tokens) for account, tokens in evidence.parties.changes.items()}
    wrapped = evidence.wrapped_native
    if wrapped is not None:
        balances.get(wrapped, {}).pop(wrapped, None)

    def credit(account: str, token: str, change: int) -> None:
        if account != ZERO_ADDRESS and (account != wrapped or token not in (NATIVE, wrapped)):
            changes = balances.setdefault(account, {})
            changes[token] = changes.get(token, 0) + change

    for sent in evidence.native or ():
        credit(sent.sender, NATIVE, -sent.amount)
        credit(sent.recipient, NATIVE, sent.amount)
    logged = evidence.credible_transfers
    for wrapping in unlogged_wrapping(evidence.native or (), logged, wrapped):
        credit(*wrapping)
    if evidence.native is None and evidence.value and evidence.sender:
        credit(evidence.sender, NATIVE, -evidence.value)
        if evidence.to is not None and any(n < 0 for n in balances.get(evidence.to, {}).values()):
            credit(evidence.to, NATIVE, evidence.value)  # it was paid for what it gave
    return balances


def _only_gains(evidence: "Evidence", changes: Changes) -> bool:
    """Whether an account ends poorer of nothing: of no more than dust, or a trifle of its gains."""
    lost = {
        token: -change
        for token, change in changes.items()
        if change < 0 and -change > _DUST * evidence.moved.get(token, 0)
    }
    if not lost:
        return True
    values = {token: change * evidence.value_of(token) for token, change in lost.items()}
    gained = sum(
        change * evidence.value_of(token) for token, change in changes.items() if change > 0
    )
    return all(values.values()) and sum(values.values()) <= _OWN_MONEY * gained


def _without_zeros(changes: Changes) -> Changes:
    return {token: change for token, change in changes.items() if change}
