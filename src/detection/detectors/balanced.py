"""Everything comes back: no account ends richer or poorer of anything."""

from collections import Counter
from typing import ClassVar

from src.detection.detectors.base import AlertSpec, Detector
from src.detection.evidence import Evidence
from src.detection.records import Action, Verdict

_SILENT = Verdict("balanced")


class BalancedDetector(Detector):
    """Names transactions in which every account ends with what it had, to the unit.

    Informational: it asks for `ALLOW` and lowers no other detector. An anomaly that it names is
    reported as High instead of Critical. It cannot see native currency where the chain does not log
    it, nor what is not an ERC-20 token: an attack on such loot can be balanced.
    """

    NAME: ClassVar[str] = "balanced"
    ALERT: ClassVar[AlertSpec | None] = None
    SUMMARY: ClassVar[str] = "Names transactions after which every account has what it had."

    def evaluate(self, evidence: Evidence) -> Verdict:
        """See `Detector`."""
        transfers = evidence.credible_transfers
        if len(transfers) < 2 or 2 * len(evidence.moved) > len(transfers):
            return _SILENT  # what moves once does not come back, as nearly always
        if min(Counter([transfer.token for transfer in transfers]).values()) < 2:
            return _SILENT
        gains = evidence.gains
        if gains.own or gains.others:
            return _SILENT
        unseen = "" if gains.native_is_known else f"; transfers of {evidence.native_symbol} unknown"
        return Verdict(
            self.NAME, Action.ALLOW, f"no account ends richer or poorer of any token{unseen}"
        )
