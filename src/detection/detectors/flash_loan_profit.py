"""A flash loan after which the sender's side is richer of something and poorer of nothing."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from src.detection.detectors.base import AlertSpec, Detector, Parameter, count
from src.detection.evidence import Evidence
from src.detection.records import NATIVE_DECIMALS, ZERO_ADDRESS, Action, Verdict

if TYPE_CHECKING:
    from src.detection.parties import Dealing

_SILENT = Verdict("flash_loan_profit")


class FlashLoanProfitDetector(Detector):
    """`REVIEW` when a loan is repaid within the transaction and the sender's side only gains.

    A loan is a token that one party gives another and gets back in full later in the same
    transaction, a flash mint included. The sender's side is the sender, the contract called, the
    borrower and all accounts that act on others' money alone. Tokens without a reputation do not
    count, nor does a trifle that the side ends poorer of. Arbitrage looks the same: that is what
    scopes are for.

    The native currency counts like a token where the chain logs its transfers. Where it does not,
    the reason states what the sender has sent along: whether it came back is unknown.
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

    def evaluate(self, evidence: Evidence) -> Verdict:
        """See `Detector`."""
        transfers = evidence.credible_transfers
        if len(transfers) < self._min_transfers:
            return _SILENT
        if len(evidence.moved) == len(transfers):
            return _SILENT  # no token moves twice, as nearly always
        if not evidence.parties.deal_back or len(evidence.dealings) < self._min_transfers:
            return _SILENT
        repayment = _repayment(evidence.dealings)
        if repayment is None:
            return _SILENT
        lender, borrower = repayment.recipient, repayment.sender
        gained: dict[str, int] = {}
        side = {evidence.sender, evidence.to, borrower, evidence.parties.agent}
        for party in side - {None, lender}:
            for moved, amount in evidence.balances_with_native.get(party or "", {}).items():
                gained[moved] = gained.get(moved, 0) + amount
        profits = [moved for moved, amount in gained.items() if amount > 0]
        losses = [moved for moved, amount in gained.items() if amount < 0]
        if not profits or not all(evidence.is_negligible(token, gained[token]) for token in losses):
            return _SILENT
        payer, payee = repayment.logged.sender, repayment.logged.recipient
        to = payee if payee != ZERO_ADDRESS else "the zero address (a flash mint)"
        return Verdict(
            self.NAME,
            Action.REVIEW,
            f"{payer} repays token {repayment.token} to {to} within the transaction, and the "
            f"sender's side ends richer of {count(len(profits), 'token')} and poorer of "
            f"{'next to nothing' if losses else 'none'}{_sent_along(evidence)}",
        )


def _sent_along(evidence: Evidence) -> str:
    """What is to be said of the value sent where internal transfers are unknown."""
    if evidence.native is not None or not evidence.value:
        return ""
    amount = evidence.value / 10**NATIVE_DECIMALS
    return (
        f"; the sender has sent {amount:,.6g} {evidence.native_symbol} along, and whether that came"
        " back is unknown"
    )


def _repayment(dealings: "Sequence[Dealing]") -> "Dealing | None":
    """The first dealing that gives back in full what its recipient had lent its sender, or None."""
    lent: dict[tuple[str, str, str], int] = {}
    for dealing in dealings:
        between = {dealing.sender, dealing.recipient}
        if dealing.amount == 0 or ZERO_ADDRESS in between or len(between) == 1:
            continue  # nobody lends to itself
        owed = lent.get((dealing.token, dealing.recipient, dealing.sender))
        if owed is not None:
            if dealing.amount >= owed:
                return dealing
            lent[dealing.token, dealing.recipient, dealing.sender] = owed - dealing.amount
        else:
            key = (dealing.token, dealing.sender, dealing.recipient)
            lent[key] = lent.get(key, 0) + dealing.amount
    return None
