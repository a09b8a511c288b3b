"""Tokens that bear a well-known token's symbol and are another contract."""

from typing import ClassVar

from src.detection.detectors.base import AlertSpec, Detector, Need
from src.detection.evidence import Evidence
from src.detection.records import Action, Verdict

_SILENT = Verdict("impersonated_token")


class ImpersonatedTokenDetector(Detector):
    """`REVIEW` when a token bears a well-known token's symbol, look-alike letters included.

    Whether it imitates that token is unknown: genuine tokens share symbols, and everything that
    would tell is the deployer's to choose. Those that published lists have are left alone.
    """

    NAME: ClassVar[str] = "impersonated_token"
    ALERT: ClassVar[AlertSpec | None] = AlertSpec(
        "IMPERSONATED-TOKEN",
        "Possible Token Impersonation",
        "{sender} executed tx with another token that bears a well-known token's symbol",
    )
    SUMMARY: ClassVar[str] = "A token moved bears a well-known token's symbol at another address."
    NEEDS: ClassVar[frozenset[Need]] = frozenset({Need.WELL_KNOWN_SYMBOLS})

    def evaluate(self, evidence: Evidence) -> Verdict:
        """See `Detector`."""
        for address, token in evidence.tokens.items():
            if token.impersonates:
                return Verdict(
                    self.NAME,
                    Action.REVIEW,
                    f"token {address} bears the symbol {token.symbol}, under which it may pass for "
                    "a well-known token at another address, and is on no published list: it may "
                    "imitate that token or only share its symbol",
                )
        return _SILENT
