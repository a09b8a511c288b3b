"""What phished allowances are spent for: by the phisher's own account, or shared by a drainer.

The victim of approval phishing signs an allowance for an account of the phisher's, which then moves
the tokens itself, mostly to a third account. (Chainalysis, "Targeted Approval Phishing Scams See
Explosive Growth", 2023: more than a billion dollars since 2021.)

Drainers are rented: a phishing site makes its victim sign an approval, and the operator's contract
then moves the tokens and divides them at once, mostly 20% for the operator and 80% for the
affiliate who brought the victim. (He et al., "Unmasking the Shadow Economy: A Deep Dive into
Drainer-as-a-Service Phishing on Ethereum", 2025: 76,582 victims.)
"""

from collections.abc import Mapping
from typing import ClassVar, Final, Self

from src.detection.detectors.base import (
    AlertSpec,
    Detector,
    Equipment,
    Need,
    Parameter,
    count,
    percentage,
)
from src.detection.evidence import Evidence
from src.detection.records import ZERO_ADDRESS, Action, Verdict

STEPS: Final = 200
"""Drainers' shares are multiples of half a percent."""

MIN_LOSS: Final = 100 * STEPS
"""Raw units: of less, too many shares are round."""

_ALLOWED = Verdict("approval_phishing")
_UNSHARED = Verdict("drainer_split")


class ApprovalPhishingDetector(Detector):
    """`REVIEW` when the sender calls a token itself and so moves what belongs to another account.

    Allowances are for contracts, which their owners call. Custodians such as exchanges collect
    deposits the same way, by accounts with many transactions: busy senders are left alone. So
    are tokens without a reference value, many of which have functions of their own that look alike.
    """

    NAME: ClassVar[str] = "approval_phishing"
    ALERT: ClassVar[AlertSpec | None] = AlertSpec(
        "APPROVAL-PHISHING",
        "Possible Approval Phishing",
        "{sender} executed tx that spends another account's tokens",
    )
    SUMMARY: ClassVar[str] = "The sender itself spends another account's allowance."
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "max_nonce": Parameter(
            1000, 0, 1e9, "Earlier transactions of the sender up to which to review.", whole=True
        ),
    }
    NEEDS: ClassVar[frozenset[Need]] = frozenset({Need.REFERENCE_VALUES})

    def __init__(self, max_nonce: int) -> None:
        self._max_nonce = max_nonce

    def evaluate(self, evidence: Evidence) -> Verdict:
        """See `Detector`."""
        if len(evidence.transfers) != 1:
            return _ALLOWED
        (moved,) = evidence.transfers
        nonce = evidence.nonce
        if moved.token != evidence.to or evidence.sender is None or nonce is None:
            return _ALLOWED
        if moved.sender in (evidence.sender, moved.token, ZERO_ADDRESS):
            return _ALLOWED
        if moved.recipient in (moved.sender, ZERO_ADDRESS) or nonce > self._max_nonce:
            return _ALLOWED
        if not moved.amount or not evidence.value_of(moved.token):
            return _ALLOWED
        return Verdict(
            self.NAME,
            Action.REVIEW,
            f"the sender, with {count(nonce, 'transaction')} before, calls token {moved.token} "
            f"itself and moves what {moved.sender} has to {moved.recipient}: the allowance may "
            "have been phished",
        )


class DrainerSplitDetector(Detector):
    """`REVIEW` when an account that has not signed loses a token to two others in round shares.

    It gets nothing in the transaction, the two give nothing, and neither is the sender: a seller
    whose royalties come out of the price takes part in person. Trifles and tokens without a
    reputation do not count. In a transaction of many transfers some shares are round by chance.
    """

    NAME: ClassVar[str] = "drainer_split"
    ALERT: ClassVar[AlertSpec | None] = AlertSpec(
        "DRAINER-SPLIT",
        "Possible Wallet Drainer",
        "{sender} executed tx that shares out an account's tokens",
    )
    SUMMARY: ClassVar[str] = (
        "An account that did not sign loses a token to two others, in shares as drainers take them."
    )
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "min_share": Parameter(0.1, 0.01, 0.5, "Smallest share of the smaller part."),
        "max_share": Parameter(0.4, 0.01, 0.5, "Largest share of the smaller part."),
        "max_transfers": Parameter(
            20, 2, 1000, "Transfers up to which a transaction is looked at.", whole=True
        ),
    }

    def __init__(self, min_share: float, max_share: float, max_transfers: int) -> None:
        self._shares = range(round(min_share * STEPS), round(max_share * STEPS) + 1)
        self._max_transfers = max_transfers

    @classmethod
    def build(cls, parameters: Mapping[str, float | None], equipment: Equipment) -> Self:  # noqa: ARG003
        """See `Detector`."""
        low, high = float(parameters["min_share"] or 0), float(parameters["max_share"] or 0)
        if low > high:
            raise ValueError("min_share is larger than max_share")
        return cls(low, high, int(parameters["max_transfers"] or 0))

    def evaluate(self, evidence: Evidence) -> Verdict:
        """See `Detector`."""
        transfers = evidence.credible_transfers
        if evidence.sender is None:
            return _UNSHARED  # who knows who takes part
        if not len(evidence.moved) < len(transfers) <= self._max_transfers:
            return _UNSHARED
        changed: dict[str, list[tuple[int, str]]] = {}
        for account, changes in evidence.balances_with_native.items():
            for token, change in changes.items():
                if change:
                    changed.setdefault(token, []).append((change, account))
        for token, parts in changed.items():
            if len(parts) != 3:
                continue
            (lost, victim), (less, one), (more, other) = sorted(parts)
            if less < 0 or less + more != -lost or not self._is_round(less, -lost):
                continue
            if self._is_taken(evidence, victim, one, other):
                return Verdict(
                    self.NAME,
                    Action.REVIEW,
                    f"{victim} loses token {token}, gets nothing for it{evidence.left_out} and has "
                    f"not signed: {one} gets {percentage(100 * less / -lost)}% of it and {other} "
                    "the rest, as wallet drainers share their loot",
                )
        return _UNSHARED

    def _is_round(self, part: int, total: int) -> bool:
        """Whether a part is a multiple of half a percent, rounded to a raw unit."""
        nearest = (STEPS * part + total // 2) // total
        is_near = abs(STEPS * part - nearest * total) <= STEPS
        return nearest in self._shares and is_near and total >= MIN_LOSS

    @staticmethod
    def _is_taken(evidence: Evidence, victim: str, one: str, other: str) -> bool:
        """Whether the first did not take part and got nothing, and the others gave nothing."""
        if victim in (evidence.sender, evidence.to, evidence.parties.agent):
            return False
        if evidence.sender in (one, other):
            return False
        balances = evidence.balances_with_native
        gained = [(token, n) for token, n in balances[victim].items() if n > 0]
        given = [item for who in (one, other) for item in balances[who].items() if item[1] < 0]
        return all(evidence.is_negligible(*change) for change in gained + given)
