"""Mints far beyond what a token's transfers usually move, or beside what there was of it."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, Self

from src.detection.detectors.base import (
    AlertSpec,
    Detector,
    Equipment,
    Need,
    Parameter,
    missing,
    percentage,
)
from src.detection.detectors.fresh_account_large_value import large_amount, times
from src.detection.evidence import Evidence
from src.detection.forest.manifest import TokenAmounts
from src.detection.records import NATIVE, ZERO_ADDRESS, Action, TransferLike, Verdict

MAX_TOKENS: Final = 4
"""Asked for in one transaction, the most valuable first: each costs the node two requests."""

_MAX_FEE: Final = 10**17
"""Raw units of the native currency that pay for a message or a claim, not for a token."""

_MANY_TIMES: Final = 1_000_000
"""A supply may be one raw unit: how many times is told up to here."""

_SILENT = Verdict("disproportionate_mint")
_NOT_INFLATED = Verdict("inflated_supply")


class DisproportionateMintDetector(Detector):
    """`REVIEW` when more of a token is created at once than its history makes plausible.

    The history is that of the model's training transfers; other tokens are not judged. What is
    burnt in the same transaction (a flash mint) does not count.
    """

    NAME: ClassVar[str] = "disproportionate_mint"
    ALERT: ClassVar[AlertSpec | None] = AlertSpec(
        "DISPROPORTIONATE-MINT",
        "Disproportionate Mint",
        "{sender} executed tx that mints out of proportion",
    )
    SUMMARY: ClassVar[str] = "Far more of a token is minted than its transfers usually move."
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "min_deviations": Parameter(
            4, 0, 20, "Robust standard deviations above the token's median from which to review."
        ),
    }
    NEEDS: ClassVar[frozenset[Need]] = frozenset({Need.USUAL_AMOUNTS})

    def __init__(self, token_amounts: Mapping[str, TokenAmounts], *, min_deviations: float) -> None:
        self._large = {
            token: large_amount(amounts, min_deviations) for token, amounts in token_amounts.items()
        }

    @classmethod
    def build(cls, parameters: Mapping[str, float | None], equipment: Equipment) -> Self:
        """See `Detector`."""
        return cls(equipment.token_amounts, **parameters)  # type: ignore[arg-type]

    def evaluate(self, evidence: Evidence) -> Verdict:
        """See `Detector`."""
        for transfer in evidence.transfers:
            if transfer.sender == ZERO_ADDRESS and transfer.token in self._large:
                return self._judge(evidence)
        return _SILENT

    def _judge(self, evidence: Evidence) -> Verdict:
        for token, amount in _minted(evidence.transfers).items():
            large = self._large.get(token)
            if large is not None and amount >= large:
                fact = evidence.tokens.get(token)
                label = fact.symbol if fact and fact.symbol else token
                return Verdict(
                    self.NAME,
                    Action.REVIEW,
                    f"{times(amount, large, label)} is minted",
                )
        return _SILENT


class InflatedSupplyDetector(Detector):
    """`REVIEW` when a large share of a token's supply is minted and nobody pays for it.

    Whoever takes over a token's owner, or finds a bridge that believes a false message, mints. The
    token need not be known to the model: its own supply a block before says what is much. Who
    gets the new units and gives something, such as a deposit, has paid. Tokens younger than a day
    are left alone, and so is a first mint.
    """

    NAME: ClassVar[str] = "inflated_supply"
    ALERT: ClassVar[AlertSpec | None] = AlertSpec(
        "INFLATED-SUPPLY",
        "Inflated Supply",
        "{sender} executed tx that mints much of a token's supply for nothing",
    )
    SUMMARY: ClassVar[str] = "A large share of a token's supply is minted and nobody pays for it."
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "min_share": Parameter(
            0.1, 0.001, 1000, "Share of the supply a block before that is minted at least."
        ),
    }

    def __init__(self, min_share: float) -> None:
        self._min_share = min_share

    def holdings(self, evidence: Evidence) -> list[tuple[str, str]]:
        """See `AsksForHoldings`: the supplies of what is minted for nothing."""
        return [(ZERO_ADDRESS, token) for token in _minted_for_nothing(evidence)][:MAX_TOKENS]

    def evaluate(self, evidence: Evidence) -> Verdict:
        """See `Detector`."""
        unknown = False
        for token, amount in _minted_for_nothing(evidence).items():
            supply, _ = evidence.held.get((ZERO_ADDRESS, token), (None, None))
            if supply is None:
                unknown = True
            elif supply and amount >= self._min_share * supply:
                share = amount / supply
                much = f"{percentage(100 * share)}% of" if share < 1 else f"{share:,.1f} times"
                if share > _MANY_TIMES:
                    much = f"more than {_MANY_TIMES:,} times"
                return Verdict(
                    self.NAME,
                    Action.REVIEW,
                    f"{much} the supply of token {token} is minted, and neither who gets it nor "
                    f"the sender pays for it{evidence.left_out}",
                )
        if unknown:
            return missing(self.NAME, "the supply of the token minted is unknown")
        return _NOT_INFLATED


def _minted(transfers: Sequence[TransferLike]) -> dict[str, int]:
    """What is minted of each token and not burnt again, raw units; negative if more is burnt."""
    minted: dict[str, int] = {}
    for one in transfers:
        if one.sender == ZERO_ADDRESS:
            minted[one.token] = minted.get(one.token, 0) + one.amount
        if one.recipient == ZERO_ADDRESS:
            minted[one.token] = minted.get(one.token, 0) - one.amount
    return minted


def _minted_for_nothing(evidence: Evidence) -> dict[str, int]:
    """Of known tokens, what neither its takers nor the sender's side pay for; raw units.

    The most valuable first, as far as their values are known.
    """
    takers: dict[str, set[str]] = {}
    for one in evidence.transfers:
        if one.sender == ZERO_ADDRESS and one.token not in evidence.unknown_tokens:
            takers.setdefault(one.token, set()).add(one.recipient)
    if not takers or evidence.sender is None or _pays(evidence.gains.own):
        return {}
    minted, others = _minted(evidence.transfers), evidence.gains.others
    unpaid = {
        token: minted[token]
        for token, accounts in takers.items()
        if minted[token] > 0 and not any(_pays(others.get(one, {})) for one in accounts)
    }
    order = sorted(unpaid, key=lambda token: -unpaid[token] * evidence.value_of(token))
    return {token: unpaid[token] for token in order}


def _pays(changes: Mapping[str, int]) -> bool:
    """Whether an account gives a token, or more of the native currency than a fee."""
    return any(change < (-_MAX_FEE if token == NATIVE else 0) for token, change in changes.items())
