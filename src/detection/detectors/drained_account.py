"""One account that loses many tokens at once and did not order it."""

from collections.abc import Mapping
from typing import ClassVar, Self

from src.detection.detectors.base import AlertSpec, Equipment, Need, Parameter, count
from src.detection.evidence import Evidence
from src.detection.records import Action, Verdict

_SILENT = Verdict("drained_account")


class DrainedAccountDetector:
    """`REVIEW` when an account that has not signed loses several tokens and gets none.

    Tokens without a reputation do not count, nor does a trifle that it gets. Balances are not in a
    transaction's events: what is seen is that tokens leave one-sidedly, not how much is left.
    """

    NAME: ClassVar[str] = "drained_account"
    ALERT: ClassVar[AlertSpec | None] = AlertSpec(
        "DRAINED-ACCOUNT",
        "Drained Account",
        "{sender} executed tx that drains an account",
    )
    SUMMARY: ClassVar[str] = "An account that did not sign loses several tokens and receives none."
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "min_tokens": Parameter(3, 1, 1000, "Tokens lost from which to review.", whole=True),
    }
    NEEDS: ClassVar[frozenset[Need]] = frozenset()

    def __init__(self, min_tokens: int) -> None:
        self._min_tokens = min_tokens

    @classmethod
    def build(cls, parameters: Mapping[str, float | None], equipment: Equipment) -> Self:  # noqa: ARG003
        """See `Detector`."""
        return cls(int(parameters["min_tokens"] or 1))

    def evaluate(self, evidence: Evidence) -> Verdict:
        """See `Detector`."""
        if len(evidence.transfers) < self._min_tokens or len(evidence.moved) < self._min_tokens:
            return _SILENT
        ours = (evidence.sender, evidence.to, evidence.parties.agent)
        for account, changes in evidence.balances.items():
            if len(changes) < self._min_tokens or account in ours:
                continue
            lost = sum(amount < 0 for amount in changes.values())
            gained = [(token, amount) for token, amount in changes.items() if amount > 0]
            if lost >= self._min_tokens and all(evidence.is_negligible(*gain) for gain in gained):
                return Verdict(
                    self.NAME,
                    Action.REVIEW,
                    f"{account} loses {count(lost, 'token')}, receives "
                    f"{'next to nothing' if gained else 'none'} and has not signed",
                )
        return _SILENT
