"""A flash loan after which the sender's side is richer of something and poorer of nothing."""

from collections.abc import Mapping
from typing import ClassVar, Self

from src.detection.detectors.base import AlertSpec, Equipment, Parameter, count
from src.detection.evidence import Evidence
from src.detection.records import ZERO_ADDRESS, Action, Verdict

_SILENT = Verdict("flash_loan_profit")


class FlashLoanProfitDetector:
    """`REVIEW` when a loan is repaid within the transaction and the sender's side only gains.

    A loan is a token that one account gives another and gets back in full later in the same
    transaction. The sender's side is the sender, the contract called and the borrower. Arbitrage
    looks the same: that is what scopes are for.
    """

    NAME: ClassVar[str] = "flash_loan_profit"
    ALERT: ClassVar[AlertSpec | None] = AlertSpec(
        "FLASH-LOAN-PROFIT",
        "Flash Loan Profit",
        "{sender} executed tx with a profitable flash loan",
    )
    SUMMARY: ClassVar[str] = "A loan repaid within the transaction leaves the sender's side richer."
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "min_transfers": Parameter(
            3, 3, 10_000, "Transfers from which a transaction is looked at.", whole=True
        ),
    }

    def __init__(self, min_transfers: int) -> None:
        self._min_transfers = min_transfers

    @classmethod
    def build(cls, parameters: Mapping[str, float | None], equipment: Equipment) -> Self:  # noqa: ARG003
        """See `Detector`."""
        return cls(int(parameters["min_transfers"] or 0))

    def evaluate(self, evidence: Evidence) -> Verdict:
        """See `Detector`."""
        if len(evidence.transfers) < self._min_transfers:
            return _SILENT
        loan = _repaid_loan(evidence)
        if loan is None:
            return _SILENT
        token, lender, borrower = loan
        gained: dict[str, int] = {}
        for account in {evidence.sender, evidence.to, borrower} - {None, lender}:
            for moved, amount in evidence.balances.get(account or "", {}).items():
                gained[moved] = gained.get(moved, 0) + amount
        profits = [moved for moved, amount in gained.items() if amount > 0]
        if not profits or any(amount < 0 for amount in gained.values()):
            return _SILENT
        return Verdict(
            self.NAME,
            Action.REVIEW,
            f"{borrower} repays token {token} to {lender} within the transaction, and the "
            f"sender's side ends richer of {count(len(profits), 'token')} and poorer of none",
        )


def _repaid_loan(evidence: Evidence) -> tuple[str, str, str] | None:
    """The first (token, lender, borrower) whose loan comes back in full, or None."""
    lent: dict[tuple[str, str, str], int] = {}
    for transfer in evidence.transfers:
        if transfer.amount == 0 or ZERO_ADDRESS in (transfer.sender, transfer.recipient):
            continue
        owed = lent.get((transfer.token, transfer.recipient, transfer.sender))
        if owed is not None:
            if transfer.amount >= owed:
                return transfer.token, transfer.recipient, transfer.sender
            lent[transfer.token, transfer.recipient, transfer.sender] = owed - transfer.amount
        else:
            key = (transfer.token, transfer.sender, transfer.recipient)
            lent[key] = lent.get(key, 0) + transfer.amount
    return None
