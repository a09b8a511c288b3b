"""A token of which much is minted for nothing, measured against its supply."""

from collections.abc import Mapping
from typing import ClassVar, Final, Self

from src.detection.detectors.base import (
    AlertSpec,
    Equipment,
    Need,
    Parameter,
    missing,
    percentage,
)
from src.detection.evidence import Evidence
from src.detection.records import NATIVE, ZERO_ADDRESS, Action, Verdict

MAX_TOKENS: Final = 4
"""Looked at in one transaction: each costs the node a request."""

_MAX_FEE: Final = 10**17
"""Raw units of the native currency that pay for a message or a claim, not for a token."""

_SILENT = Verdict("inflated_supply")


class InflatedSupplyDetector:
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
    NEEDS: ClassVar[frozenset[Need]] = frozenset()
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "min_share": Parameter(
            0.1, 0.001, 1000, "Share of the supply a block before that is minted at least."
        ),
    }

    def __init__(self, min_share: float) -> None:
        self._min_share = min_share

    @classmethod
    def build(cls, parameters: Mapping[str, float | None], equipment: Equipment) -> Self:  # noqa: ARG003
        """See `Detector`."""
        return cls(**parameters)  # type: ignore[arg-type]

    def holdings(self, evidence: Evidence) -> list[tuple[str, str]]:
        """See `AsksForHoldings`: the supplies of what is minted for nothing."""
        return [(ZERO_ADDRESS, token) for token in self._minted(evidence)]

    def evaluate(self, evidence: Evidence) -> Verdict:
        """See `Detector`."""
        unknown = False
        for token, amount in self._minted(evidence).items():
            supply, _ = evidence.held.get((ZERO_ADDRESS, token), (None, None))
            if supply is None:
                unknown = True
            elif supply and amount >= self._min_share * supply:
                return Verdict(
                    self.NAME,
                    Action.REVIEW,
                    f"{percentage(100 * amount / supply)}% of the supply of token {token} is "
                    "minted, and nobody pays for it",
                )
        if unknown:
            return missing(self.NAME, "the supply of the token minted is unknown")
        return _SILENT

    def _minted(self, evidence: Evidence) -> dict[str, int]:
        """What is minted for nothing, raw units by token."""
        takers: dict[str, set[str]] = {}
        for one in evidence.transfers:
            if one.sender == ZERO_ADDRESS and one.token not in evidence.unknown_tokens:
                takers.setdefault(one.token, set()).add(one.recipient)
        if not takers or evidence.sender is None or _pays(evidence.gains.own):
            return {}
        minted = {}
        for token, recipients in list(takers.items())[:MAX_TOKENS]:
            amount = sum(
                one.amount * ((one.sender == ZERO_ADDRESS) - (one.recipient == ZERO_ADDRESS))
                for one in evidence.transfers
                if one.token == token
            )
            if amount > 0 and not any(_pays(evidence.gains.others.get(r, {})) for r in recipients):
                minted[token] = amount
        return minted


def _pays(changes: Mapping[str, int]) -> bool:
    return any(change < (-_MAX_FEE if token == NATIVE else 0) for token, change in changes.items())
