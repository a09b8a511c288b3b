"""A mint far beyond what the token's transfers usually move."""

from collections.abc import Mapping
from typing import ClassVar, Self

from src.detection.detectors.base import AlertSpec, Equipment, Need, Parameter
from src.detection.detectors.fresh_account_large_value import large_amount, times
from src.detection.evidence import Evidence
from src.detection.forest.manifest import TokenAmounts
from src.detection.records import ZERO_ADDRESS, Action, Verdict

_SILENT = Verdict("disproportionate_mint")


class DisproportionateMintDetector:
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
        minted: dict[str, int] = {}
        for transfer in evidence.transfers:
            if transfer.sender == ZERO_ADDRESS:
                minted[transfer.token] = minted.get(transfer.token, 0) + transfer.amount
            if transfer.recipient == ZERO_ADDRESS:
                minted[transfer.token] = minted.get(transfer.token, 0) - transfer.amount
        for token, amount in minted.items():
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
