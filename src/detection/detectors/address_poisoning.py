"""Address poisoning: transfers that exist to put a wrong address into somebody's history.

Anyone may call `transferFrom` for zero tokens out of any account, deploy a token whose events name
any accounts, or send dust from an address that reads like a real counterparty's. None of it needs
the victim's signature; all of it shows in a wallet's history. (Tsuchiya, Dong, Soska, Christin,
"Blockchain Address Poisoning", USENIX Security 2025; Guan, Li, "Characterizing Ethereum Address
Poisoning Attack", CCS 2024.)
"""

from collections.abc import Mapping
from typing import ClassVar

from src.detection.detectors.base import AlertSpec, Detector, Parameter, count
from src.detection.evidence import Evidence, LookAlike
from src.detection.records import ZERO_ADDRESS, Action, TransferLike, Verdict

_SILENT = Verdict("address_poisoning")


class AddressPoisoningDetector(Detector):
    """Look-alike counterparties, zero transfers and counterfeit tokens in strangers' names.

    `BLOCK` when the sender itself pays an address that imitates one it paid before; else `REVIEW`.
    """

    NAME: ClassVar[str] = "address_poisoning"
    ALERT: ClassVar[AlertSpec | None] = AlertSpec(
        "ADDRESS-POISONING",
        "Address Poisoning",
        "{sender} executed tx that poisons an address book",
    )
    SUMMARY: ClassVar[str] = (
        "A look-alike of an account's counterparty, or zero or counterfeit transfers out of "
        "accounts that have not signed."
    )
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "min_zero_transfers": Parameter(
            1, 1, 1000, "Zero transfers in strangers' names from which to review.", whole=True
        ),
    }

    def __init__(self, min_zero_transfers: int) -> None:
        self._min_zero_transfers = min_zero_transfers

    def evaluate(self, evidence: Evidence) -> Verdict:
        """See `Detector`."""
        if evidence.look_alikes:
            return self._look_alike(evidence)
        for transfer in evidence.transfers:
            if transfer.amount == 0 or self._is_counterfeit(evidence, transfer):
                return self._in_strangers_names(evidence)
        return _SILENT

    def _look_alike(self, evidence: Evidence) -> Verdict:
        worst = max(evidence.look_alikes, key=_is_payoff)
        others = len(evidence.look_alikes) - 1
        also = f"; {count(others, 'more pair')} of this kind" if others else ""
        if _is_payoff(worst):
            return Verdict(
                self.NAME,
                Action.BLOCK,
                f"{worst.account} pays {worst.address}, which reads like {worst.earlier}, whom it "
                f"paid before: the address may have been copied from a poisoned history{also}",
            )
        return Verdict(
            self.NAME,
            Action.REVIEW,
            f"{worst.address} reads like {worst.earlier}, another counterparty of "
            f"{worst.account}: one imitates the other{also}",
        )

    def _in_strangers_names(self, evidence: Evidence) -> Verdict:
        if evidence.sender is None:
            return _SILENT
        acting: set[str | None] = {evidence.sender, evidence.to, ZERO_ADDRESS}
        genuine = [t for t in evidence.credible_transfers if not self._is_counterfeit(evidence, t)]
        # An account that pays something in earnest takes part; the others are only named. Who gets
        # something may have sold a counterfeit for it, but nobody sells nothing: it may be dust.
        acting.update(transfer.sender for transfer in genuine if transfer.amount)
        zero = sum(not transfer.amount and _only_names(transfer, acting) for transfer in genuine)
        acting.update(transfer.recipient for transfer in genuine if transfer.amount)
        counterfeit = sum(
            self._is_counterfeit(evidence, transfer) and _only_names(transfer, acting)
            for transfer in evidence.transfers
        )
        reasons = []
        if zero >= self._min_zero_transfers:
            reasons.append(f"{count(zero, 'transfer')} of nothing")
        if counterfeit:
            reasons.append(f"{count(counterfeit, 'transfer')} of a counterfeit token")
        if not reasons:
            return _SILENT
        return Verdict(
            self.NAME,
            Action.REVIEW,
            f"{' and '.join(reasons)} in the names of accounts that pay nothing else and have not "
            "signed the transaction",
        )

    @staticmethod
    def _is_counterfeit(evidence: Evidence, transfer: TransferLike) -> bool:
        fact = evidence.tokens.get(transfer.token)
        return fact is not None and fact.impersonates


def _only_names(transfer: TransferLike, acting: set[str | None]) -> bool:
    """Whether a transfer is in the name of an account that does not act."""
    payer, payee = transfer.sender, transfer.recipient
    return payer not in acting and payee not in (ZERO_ADDRESS, payer)


def _is_payoff(pair: LookAlike) -> bool:
    """Whether a victim pays the imitator of somebody whom it paid before."""
    return pair.account_pays and pair.earlier_was_paid
