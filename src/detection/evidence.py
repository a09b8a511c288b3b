"""What detectors may look at: the facts of one transaction, gathered before any of them runs.

Nothing here asks the outside world, reads a clock or the environment. What could not be had is
None, and a detector that needs it says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, TypeVar

from src.detection.records import (
    NATIVE,
    NEGLIGIBLE_SHARE,
    ApprovalLike,
    Assessment,
    AttackAssessment,
    NativeTransferLike,
    TransferLike,
)

if TYPE_CHECKING:
    from src.detection.features.definitions import Reading
    from src.detection.parties import Dealing, Gains, Parties

T = TypeVar("T", bound=TransferLike)


class TokenLike(Protocol):
    """What detectors read of a token moved; see `TokenFact`."""

    @property
    def symbol(self) -> str:
        """Sanitised, possibly empty."""

    @property
    def impersonates(self) -> bool:
        """Whether it may: see `WellKnownTokens.is_impersonated`."""


@dataclass(frozen=True, slots=True)
class TokenFact:
    """What a table of transactions knows of a token."""

    symbol: str  # sanitised, possibly empty
    # It may: see `WellKnownTokens.is_impersonated`.
    impersonates: bool = False


@dataclass(frozen=True, slots=True)
class KnownBad:
    """An involved address that stands on a list of known exploiters or scammers."""

    address: str  # lowercase
    label: str  # what the list says of it; sanitised, possibly empty
    role: str  # "sender", "contract called" or "counterparty"


@dataclass(frozen=True, slots=True)
class ListMatches:
    """What the list of known bad addresses says."""

    matches: tuple[KnownBad, ...]  # the listed addresses, the sender first
    age_minutes: float  # since the list was read last


@dataclass(frozen=True, slots=True)
class LookAlike:
    """Two counterparties of one account whose addresses read alike: one imitates the other."""

    account: str  # whose counterparties they are
    address: str  # the one in this transaction
    earlier: str  # the one seen before, or before in this transaction
    earlier_was_paid: bool  # the account itself had paid `earlier`, so that is the genuine one
    # The transfer at hand is signed by `account` and moves something to `address`.
    account_pays: bool


@dataclass(eq=False)  # not frozen: to set thirteen fields would take twice as long
class Evidence:
    """Everything that detectors may see of one transaction, and must leave as it is."""

    # Its ERC-20 transfers in log order; amounts in raw token units.
    transfers: Sequence[TransferLike]
    sender: str | None = None  # `tx.from`, lowercase, or None
    to: str | None = None  # `tx.to`, lowercase, or None (contract creation, or unknown)
    chain_id: int = 1  # the chain
    block_number: int | None = None  # or None
    timestamp: int | None = None  # of the block, Unix seconds, or None
    nonce: int | None = None  # transactions that the sender had sent before, or None
    account_age_minutes: float | None = None  # since the sender's first transaction, or None
    # The model's word, or None where the transaction could not be scored.
    assessment: Assessment | None = None
    # The model's inputs by name; empty where they could not be made.
    features: Mapping[str, float] = field(default_factory=dict)
    # What is known of the tokens moved, by address; unknown ones are left out.
    tokens: Mapping[str, TokenLike] = field(default_factory=dict)
    known_bad: ListMatches | None = None  # what the list of bad addresses says; None without a list
    look_alikes: tuple[LookAlike, ...] = ()  # counterparties that imitate others
    # Tokens without a reputation: their events may say anything.
    unknown_tokens: frozenset[str] = frozenset()
    # ETH for one raw unit, by token; tokens without a reference value are left out.
    values: Mapping[str, float] = field(default_factory=dict)
    # The attack model's result, or None where there is no attack score.
    attack: AttackAssessment | None = None
    value: int | None = None  # wei sent with the transaction, or None
    # All native transfers, `value` and internal ones included; None where internal ones are
    # unknown.
    native: Sequence[NativeTransferLike] | None = None
    created: str | None = None  # the contract that the transaction itself creates, or None
    # Whether the contract called did not exist a day before; None if unknown.
    called_is_new: bool | None = None
    # Raw units that an account held of a token a block and 100 blocks before, by (account, token);
    # of the zero address, the token's supply. What is unknown, or no detector asks for, is left
    # out; where only the older balance is, it is None.
    held: Mapping[tuple[str, str], tuple[int, int | None]] = field(default_factory=dict)
    approvals: Sequence[ApprovalLike] = ()  # of ERC-20 tokens, that the transaction logs
    native_symbol: str = "ETH"  # of the native currency
    # The contract that holds the native currency as a token, or None.
    wrapped_native: str | None = None
    routers: frozenset[str] = frozenset()  # published ones of the chain
    reading: "Reading | None" = None  # of all transfers; None to make one where it is needed
    # The transfers of tokens with a reputation; all, where none would remain. The events of a
    # contract that its author deployed for this transaction are free text.
    credible_transfers: Sequence[TransferLike] = field(init=False)

    def __post_init__(self) -> None:
        self.credible_transfers = credible(self.transfers, self.unknown_tokens)

    @cached_property
    def moved(self) -> Mapping[str, int]:
        """What they move of each token, raw units."""
        moved: dict[str, int] = {}
        for transfer in self.credible_transfers:
            moved[transfer.token] = moved.get(transfer.token, 0) + transfer.amount
        return moved

    @cached_property
    def parties(self) -> "Parties":
        """Who dealt with whom in them; see `Parties`."""
        # Here, for it loads numba: a policy is read without.
        from src.detection.parties import parties_in, parties_of  # noqa: PLC0415

        if self.reading is not None and len(self.credible_transfers) == len(self.transfers):
            return parties_in(self.reading, self.transfers)
        return parties_of(self.credible_transfers, self.sender, self.values)

    @property
    def dealings(self) -> "Sequence[Dealing]":
        """The transfers between parties, in log order."""
        return self.parties.dealings

    @property
    def balances(self) -> Mapping[str, Mapping[str, int]]:
        """Net change by party and token, raw units, exact; without the zero address."""
        return self.parties.balances

    @cached_property
    def balances_with_native(self) -> Mapping[str, Mapping[str, int]]:
        """The balances, and what is known of the native currency, as the token `NATIVE`.

        Where internal transfers are unknown, the same as `balances`.
        """
        if not self.native:
            return self.balances
        return self.parties.balances_with_native(self.native, self.wrapped_native)

    @cached_property
    def gains(self) -> "Gains":
        """Who ends richer and poorer of what."""
        from src.detection.parties import gains_of  # noqa: PLC0415

        return gains_of(self)

    @property
    def left_out(self) -> str:
        """What a reason adds that says that nothing was paid; "" where all payments are known."""
        if self.native is not None:
            return ""
        return f" (without internal transfers of {self.native_symbol}, which are unknown)"

    def value_of(self, token: str) -> float:
        """ETH for one raw unit of a token or of the native currency; 0 if unknown."""
        if token == NATIVE:
            token = self.wrapped_native or ""
        return self.values.get(token, 0.0)

    @cached_property
    def largest_value(self) -> float:
        """ETH that the largest dealing is worth, as far as the values of its tokens are known."""
        values = self.values
        return max((d.amount * values.get(d.token, 0.0) for d in self.dealings), default=0.0)

    def is_negligible(self, token: str, amount: int) -> bool:
        """Whether a change of a balance is worth next to nothing beside the largest dealing."""
        value = self.value_of(token)
        return value > 0 and abs(amount) * value < NEGLIGIBLE_SHARE * self.largest_value

    @cached_property
    def sender_pays(self) -> bool:
        """Whether the sender ends poorer of a token with a value, by more than a trifle."""
        native = self.native or ()
        payers: list[TransferLike | NativeTransferLike] = [*self.credible_transfers, *native]
        if self.sender is None or not any(one.sender == self.sender for one in payers):
            return False
        changes = self.balances_with_native.get(self.sender, {})
        return any(
            amount < 0 and self.value_of(token) and not self.is_negligible(token, amount)
            for token, amount in changes.items()
        )


def credible(transfers: Sequence[T], unknown_tokens: frozenset[str]) -> Sequence[T]:
    """Transfers without those of these tokens; all of them, where none would remain."""
    if not unknown_tokens:
        return transfers
    return [t for t in transfers if t.token not in unknown_tokens] or transfers
