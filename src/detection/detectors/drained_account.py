"""Who loses tokens at once and did not order it: one account many, or many accounts to few."""

from collections.abc import Mapping
from typing import ClassVar, Self

from src.detection.detectors.base import AlertSpec, Equipment, Need, Parameter, count
from src.detection.evidence import Evidence
from src.detection.records import Action, Verdict

_SILENT = Verdict("drained_account")


class DrainedAccountDetector:
    """`REVIEW` when an account that has not signed loses several tokens and gets none.

    Or when many such accounts lose tokens to few: a router with a missing check spends the
    allowances that its users gave it. Custodians collect deposits in the same way, by senders with
    many transactions.

    Tokens without a reputation do not count, nor does a trifle that they get. Balances are not in a
    transaction's events: what is seen is that tokens leave one-sidedly, not how much is left.
    """

    NAME: ClassVar[str] = "drained_account"
    ALERT: ClassVar[AlertSpec | None] = AlertSpec(
        "DRAINED-ACCOUNT",
        "Drained Account",
        "{sender} executed tx that drains an account",
    )
    SUMMARY: ClassVar[str] = (
        "An account that did not sign loses several tokens and receives none, or many such "
        "accounts lose to few."
    )
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "min_tokens": Parameter(3, 1, 1000, "Tokens lost from which to review.", whole=True),
        "min_accounts": Parameter(
            5, 2, 1000, "Accounts that lose, for each that gains, from which to review.", whole=True
        ),
        "max_nonce": Parameter(
            1000,
            0,
            1e9,
            "Earlier transactions of the sender up to which to review what many accounts lose.",
            whole=True,
        ),
    }
    NEEDS: ClassVar[frozenset[Need]] = frozenset()

    def __init__(self, min_tokens: float, min_accounts: float, max_nonce: float) -> None:
        self._min_tokens = min_tokens
        self._min_accounts = min_accounts
        self._max_nonce = max_nonce

    @classmethod
    def build(cls, parameters: Mapping[str, float | None], equipment: Equipment) -> Self:  # noqa: ARG003
        """See `Detector`."""
        return cls(**parameters)  # type: ignore[arg-type]

    def evaluate(self, evidence: Evidence) -> Verdict:
        """See `Detector`."""
        verdict = self._many_tokens(evidence)
        return verdict if verdict.action else self._many_accounts(evidence)

    def _many_tokens(self, evidence: Evidence) -> Verdict:
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

    def _many_accounts(self, evidence: Evidence) -> Verdict:
        sender, nonce = evidence.sender, evidence.nonce
        if sender is None or (nonce is not None and nonce > self._max_nonce):
            return _SILENT
        if len({one.sender for one in evidence.credible_transfers}) < self._min_accounts:
            return _SILENT
        own = evidence.gains.own
        losers, winners, traders = 0, int(any(change > 0 for change in own.values())), 0
        for account, changes in evidence.gains.others.items():
            kept = {t: n for t, n in changes.items() if not evidence.is_negligible(t, n)}
            gains, loses = (any(n > 0 for n in kept.values()), any(n < 0 for n in changes.values()))
            traders += gains and loses  # pools that the loot is sold to, among others
            winners += gains and not loses
            losers += loses and not gains and account not in (sender, evidence.to)
        if not winners + traders or losers < self._min_accounts * max(winners, 1):
            return _SILENT
        return Verdict(
            self.NAME,
            Action.REVIEW,
            f"{count(losers, 'account')} that have not signed lose tokens to "
            f"{count(winners + traders, 'other')} and receive nothing, by a sender whose nonce is "
            f"{'unknown' if nonce is None else f'{nonce:,}'}",
        )
