"""Dealings with addresses on a list of known exploiters and scammers."""

from typing import ClassVar

from src.detection.detectors.base import AlertSpec, Detector, missing
from src.detection.evidence import Evidence
from src.detection.records import Action, Verdict

_NO_LIST = missing("known_bad_address", "ADDRESS_LIST names no list, or it has not been read yet")
_SILENT = Verdict("known_bad_address")


class KnownBadAddressDetector(Detector):
    """`BLOCK` when the sender or the contract called is listed, `REVIEW` for a counterparty."""

    NAME: ClassVar[str] = "known_bad_address"
    ALERT: ClassVar[AlertSpec | None] = AlertSpec(
        "KNOWN-BAD-ADDRESS",
        "Known Bad Address",
        "{sender} executed tx with a listed bad address",
    )
    SUMMARY: ClassVar[str] = "An involved address is on the operator's list (setting ADDRESS_LIST)."

    def evaluate(self, evidence: Evidence) -> Verdict:
        """See `Detector`."""
        listed = evidence.known_bad
        if listed is None:
            return _NO_LIST
        if not listed.matches:
            return _SILENT
        first = listed.matches[0]
        label = f' ("{first.label}")' if first.label else ""
        more = f" and {len(listed.matches) - 1} more" if len(listed.matches) > 1 else ""
        return Verdict(
            self.NAME,
            Action.REVIEW if first.role == "counterparty" else Action.BLOCK,
            f"{first.role} {first.address}{label}{more} on the list of known bad addresses, "
            f"read {_age(listed.age_minutes)} ago",
        )


def _age(minutes: float) -> str:
    return f"{minutes / 60:.0f} hours" if minutes >= 120 else f"{minutes:.0f} minutes"
