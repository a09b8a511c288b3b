"""What is known and decided of a transaction: the records, and nothing that is slow to import.

A transfer, the model's assessment, actions in order of severity, verdicts, and the decision.

Callers act on the `Action` alone. Scores, thresholds, models and rules stay behind it and can
change without anyone noticing. The decision is the most drastic verdict that counts, so another
detector can only raise it, and one that fails, lacks its inputs or does not apply leaves it alone.
"""

import enum
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

ZERO_ADDRESS = "0x" + "0" * 40

NATIVE = "native"
"""Stands for the chain's native currency where a token's address could; the raw unit is wei."""

NATIVE_DECIMALS = 18

NEGLIGIBLE_SHARE = 0.01
"""Of the value of a transaction's largest transfer: what is worth less counts as no gain, no loss
and no money of one's own."""

REMEMBERED_ASSESSMENTS = 2048
"""Assessments kept, about 2 kB each, and what is derived from them."""


class NativeTransferLike(Protocol):
    """What the core reads of a native transfer; `chain.transfers.NativeTransfer` has this shape."""

    @property
    def sender(self) -> str:
        """Account debited."""

    @property
    def recipient(self) -> str:
        """Account credited."""

    @property
    def amount(self) -> int:
        """Raw units: wei, or those of the token."""


class TransferLike(NativeTransferLike, Protocol):
    """What the core reads of a transfer; `chain.transfers.Transfer` has this shape."""

    @property
    def token(self) -> str:
        """Contract address."""


def net_changes(transfers: Iterable[TransferLike]) -> dict[str, dict[str, int]]:
    """Net change by account and token, raw units, exact; in order of appearance."""
    changes: dict[str, dict[str, int]] = {}
    for transfer in transfers:
        token, amount = transfer.token, transfer.amount
        payer = changes.setdefault(transfer.sender, {})
        payer[token] = payer.get(token, 0) - amount
        payee = changes.setdefault(transfer.recipient, {})
        payee[token] = payee.get(token, 0) + amount
    return changes


def unlogged_wrapping(
    native: Iterable[NativeTransferLike], transfers: Iterable[TransferLike], wrapped: str | None
) -> list[tuple[str, str, int]]:
    """What accounts gain by wrapping the native currency and lose by unwrapping it, without a log.

    Seen in what goes to and comes from the contract of the wrapped currency. On most chains it logs
    no ERC-20 transfer then. Where it does (Arbitrum, Fantom), that is a mint or burn of the amount.

    Args:
        native: all native transfers of a transaction.
        transfers: its ERC-20 transfers.
        wrapped: that contract, or None.

    Returns:
        Account, token (the contract) and change in raw units.
    """
    logged = Counter(
        one.amount if one.sender == ZERO_ADDRESS else -one.amount
        for one in transfers
        if one.token == wrapped and ZERO_ADDRESS in (one.sender, one.recipient)
    )
    found = []
    for moved in native:
        if moved.recipient == wrapped:
            account, token, change = moved.sender, moved.recipient, moved.amount
        elif moved.sender == wrapped:
            account, token, change = moved.recipient, moved.sender, -moved.amount
        else:
            continue
        if logged[change] > 0:
            logged[change] -= 1
        else:
            found.append((account, token, change))
    return found


class ApprovalLike(Protocol):
    """What the core reads of an ERC-20 approval; `chain.transfers.Approval` has this shape."""

    @property
    def token(self) -> str:
        """Contract address."""

    @property
    def owner(self) -> str:
        """Whose tokens they are."""

    @property
    def spender(self) -> str:
        """Who may move them."""


class Attribution(NamedTuple):
    """What one input did to a score."""

    feature: str  # name of the input
    value: float  # its value in this transaction
    # Exact Shapley value; positive pushes up. In log2 of the forest's score, or in the unit of the
    # attack model's output.
    weight: float

    @property
    def factor(self) -> float:
        """The weight as a factor on the forest's score, which is the base times all factors."""
        return float(2.0**self.weight)


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """The model's result for one row of inputs."""

    score: float  # anomaly score in [0, 1], unrounded
    percentile: float  # share of training transactions with a lower score, in percent
    base_score: float  # where the explanation starts: score = base_score * product of all factors
    attributions: tuple[Attribution, ...] = ()  # the inputs that weigh most, most weighty first
    explanation_json: str = "[]"  # the same as a JSON list, see `forest.model.explanation_json`


@dataclass(frozen=True, slots=True, eq=False)
class AttackAssessment:
    """The attack model's result for one transaction."""

    score: float  # attack score in [0, 1), unrounded, see `attack.model`
    version: str  # of the model
    # The inputs that weigh most, most weighty first; empty below the score from which the assessor
    # explains.
    attributions: tuple[Attribution, ...] = ()
    explanation_json: str = "[]"  # the same as a JSON list, see `forest.model.explanation_json`

    @property
    def percentile(self) -> float:
        """Share of background transactions that rank lower, in percent."""
        return 100 * self.score


@enum.unique
class Action(enum.IntEnum):
    """What to do, least drastic first: `max` of several actions is the one to take."""

    ALLOW = 0
    REVIEW = 1
    BLOCK = 2


@enum.unique
class Status(enum.StrEnum):
    """How a verdict came about. Only a decided one may ask for more than `ALLOW`."""

    DECIDED = "decided"
    FAILED = "failed"
    MISSING_INPUTS = "missing inputs"
    OUT_OF_SCOPE = "out of scope"


_ALLOW, _DECIDED = Action.ALLOW, Status.DECIDED  # looking a member up takes ten times as long


@dataclass(frozen=True, slots=True)
class Verdict:
    """One detector's result for a transaction."""

    detector: str  # the detector's name
    action: Action = Action.ALLOW  # what it asks for; `ALLOW` unless it decided
    reason: str = ""  # for people; "" where there is nothing to say
    status: Status = Status.DECIDED  # whether it decided, and if not, why
    shadow: bool = False  # recorded, not counted

    def __post_init__(self) -> None:
        if self.status is not _DECIDED and self.action is not _ALLOW:
            raise ValueError(f"{self.detector}: {self.status}, so it cannot ask for {self.action}")

    def __hash__(self) -> int:
        # Verdicts key the caches of the hot path, and hashing an enum is a slow Python call.
        return hash((self.detector, self.reason))

    @property
    def says_something(self) -> bool:
        """Whether a reader needs it: it has a reason, asks for something, or could not decide."""
        return bool(self.reason) or self.action is not _ALLOW or self.status is not _DECIDED


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer of all detectors together."""

    action: Action  # what to do
    # The verdicts behind it that say something, the deciding one first.
    reasons: tuple[Verdict, ...] = ()
    # The same of the detectors in shadow; they had no part in `action`.
    shadow: tuple[Verdict, ...] = ()


def decide(verdicts: Iterable[Verdict]) -> Decision:
    """The most drastic action among the verdicts that count; `ALLOW` when there are none.

    The order of the verdicts does not matter.
    """
    return _decide(tuple([verdict for verdict in verdicts if verdict.says_something]))


@lru_cache(maxsize=1024)  # most transactions get the same few verdicts
def _decide(saying: tuple[Verdict, ...]) -> Decision:
    saying = tuple(sorted(saying, key=_precedence))
    reasons = tuple([verdict for verdict in saying if not verdict.shadow])
    action = reasons[0].action if reasons else Action.ALLOW
    return Decision(action, reasons, tuple([verdict for verdict in saying if verdict.shadow]))


def _precedence(verdict: Verdict) -> tuple[int, bool, str, str, str]:
    """Most drastic first, then decided ones, then by name: a total order of what is shown."""
    return (
        -verdict.action,
        verdict.status is not Status.DECIDED,
        verdict.detector,
        verdict.status,
        verdict.reason,
    )
