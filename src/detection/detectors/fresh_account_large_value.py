"""An account without a past that moves a large amount."""

import math
from collections.abc import Mapping
from typing import ClassVar, Self

from src.detection.detectors.base import (
    AlertSpec,
    Detector,
    Equipment,
    Need,
    Parameter,
    count,
    missing,
)
from src.detection.evidence import Evidence
from src.detection.forest.manifest import TokenAmounts
from src.detection.records import Action, Verdict

_SILENT = Verdict("fresh_account_large_value")


class FreshAccountLargeValueDetector(Detector):
    """`REVIEW` when a young or hardly used account orders an extraordinarily large transfer.

    "Large" is measured against what ordinary transfers of the same token move, in robust standard
    deviations of log10(amount); tokens that the model does not know are not judged.
    """

    NAME: ClassVar[str] = "fresh_account_large_value"
    ALERT: ClassVar[AlertSpec | None] = AlertSpec(
        "FRESH-ACCOUNT-LARGE-VALUE",
        "Fresh Account Large Value",
        "{sender}, a fresh account, executed tx of extraordinarily large value",
    )
    SUMMARY: ClassVar[str] = (
        "A new account orders a transfer far above what its token usually sees."
    )
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "max_age_minutes": Parameter(
            1440, 0, 525_600, "Minutes since its first transaction up to which it is fresh."
        ),
        "max_nonce": Parameter(
            2, 0, 10_000, "Transactions sent before up to which it is fresh.", whole=True
        ),
        "min_deviations": Parameter(
            3, 0, 20, "Robust standard deviations above the token's median from which it is large."
        ),
    }
    NEEDS: ClassVar[frozenset[Need]] = frozenset({Need.USUAL_AMOUNTS})

    def __init__(
        self,
        token_amounts: Mapping[str, TokenAmounts],
        *,
        max_age_minutes: float,
        max_nonce: float,
        min_deviations: float,
    ) -> None:
        self._max_age_minutes = max_age_minutes
        self._max_nonce = max_nonce
        self._large = {
            token: large_amount(amounts, min_deviations) for token, amounts in token_amounts.items()
        }

    @classmethod
    def build(cls, parameters: Mapping[str, float | None], equipment: Equipment) -> Self:
        """See `Detector`."""
        return cls(equipment.token_amounts, **parameters)  # type: ignore[arg-type]

    def evaluate(self, evidence: Evidence) -> Verdict:
        """See `Detector`."""
        age, nonce = evidence.account_age_minutes, evidence.nonce
        has_sent_little = nonce is not None and nonce <= self._max_nonce
        if not has_sent_little and (age is None or age > self._max_age_minutes):
            if age is None and nonce is None:
                return missing(self.NAME, "the sender's age and nonce are unknown")
            return _SILENT
        for transfer in evidence.transfers:
            large = self._large.get(transfer.token)
            if large is not None and transfer.amount >= large:
                fact = evidence.tokens.get(transfer.token)
                token = fact.symbol if fact and fact.symbol else transfer.token
                fresh = (
                    f"has sent {count(nonce, 'transaction') if nonce else 'nothing'} before"
                    if nonce is not None and has_sent_little
                    else f"is {age:.0f} minutes old"
                )
                return Verdict(
                    self.NAME,
                    Action.REVIEW,
                    f"the sender {fresh} and moves {times(transfer.amount, large, token)}",
                )
        return _SILENT


def large_amount(amounts: TokenAmounts, deviations: float) -> float:
    """The raw amount that lies so many robust standard deviations above a token's median."""
    exponent = amounts.center + deviations * amounts.scale
    return 10.0**exponent if exponent < 300 else math.inf


def times(amount: int, large: float, token: str) -> str:
    """An amount beside the one that counts as large: the token's decimals may be unknown."""
    return f"{amount / large:,.1f} times the amount of {token} that is already far more than usual"
