"""A contract that is new takes the tokens of somebody who neither signed nor was called."""

from collections.abc import Mapping
from typing import ClassVar

from src.detection.detectors.base import (
    AlertSpec,
    Detector,
    Parameter,
    count,
    missing,
)
from src.detection.evidence import Evidence
from src.detection.records import NATIVE, ZERO_ADDRESS, Action, Verdict

_SILENT = Verdict("fresh_contract_drain")


class FreshContractDrainDetector(Detector):
    """`REVIEW` when a contract younger than a day makes an account lose tokens for nothing.

    The class of attacks that transfers cannot show: a missing authorisation, an abused allowance,
    one to a few transfers. Evidence from outside: the called contract did not exist a day before,
    and the account that loses has not signed, is not the contract called and gets next to nothing.
    A contract that the transaction creates counts as called, since its constructor runs. Events of
    tokens without a reputation do not count.
    """

    NAME: ClassVar[str] = "fresh_contract_drain"
    ALERT: ClassVar[AlertSpec | None] = AlertSpec(
        "FRESH-CONTRACT-DRAIN",
        "Fresh Contract Drain",
        "{sender} executed tx in which a new contract takes an account's tokens",
    )
    SUMMARY: ClassVar[str] = "A contract younger than a day takes tokens of an account for nothing."
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "max_transfers": Parameter(
            20, 1, 10_000, "Transfers up to which a transaction is looked at.", whole=True
        ),
    }

    def __init__(self, max_transfers: int) -> None:
        self._max_transfers = max_transfers

    def evaluate(self, evidence: Evidence) -> Verdict:
        """See `Detector`."""
        called = evidence.to or evidence.created
        is_new = evidence.called_is_new if evidence.created is None else True
        if is_new is False or evidence.sender is None or called is None:
            return _SILENT
        transfers = evidence.credible_transfers
        ours = (evidence.sender, called, ZERO_ADDRESS)
        if len(transfers) > self._max_transfers or all(one.sender in ours for one in transfers):
            return _SILENT
        for account, changes in evidence.gains.others.items():
            lost = [token for token, change in changes.items() if change < 0 and token != NATIVE]
            gained = [(token, change) for token, change in changes.items() if change > 0]
            if account in ours or not lost:
                continue
            if not all(evidence.is_negligible(*gain) for gain in gained):
                continue
            if is_new is None:
                return missing(self.NAME, "the age of the contract called is unknown")
            return Verdict(self.NAME, Action.REVIEW, _reason(evidence, called, account, lost))
        return _SILENT


def _reason(evidence: Evidence, called: str, account: str, lost: list[str]) -> str:
    spenders = sorted(
        {one.spender for one in evidence.approvals if one.owner == account and one.token in lost}
    )
    allowance = f", by an allowance of {', '.join(spenders)}" if spenders else ""
    age = "younger than a day" if evidence.created is None else "that the transaction creates"
    nonce = "" if evidence.nonce is None else f"; the sender's nonce is {evidence.nonce:,}"
    return (
        f"{called}, a contract {age}, makes {account}, which has not signed, "
        f"lose {count(len(lost), 'token')} for nothing{evidence.left_out}{allowance}{nonce}"
    )
