"""Who loses tokens and did not order it: many tokens of one, few of many, nearly all of it."""

from collections.abc import Mapping
from typing import ClassVar, Final, NamedTuple

from src.detection.detectors.base import (
    AlertSpec,
    Detector,
    Need,
    Parameter,
    count,
    missing,
    percentage,
)
from src.detection.evidence import Evidence
from src.detection.records import NATIVE, ZERO_ADDRESS, Action, Verdict

MAX_LOSSES: Final = 4
"""Asked for in one transaction, the most valuable first: each costs the node two requests."""

_FAIR_SHARE: Final = 0.5
"""Of what was lost: whoever gives less than this for it has not bought it."""

_SILENT = Verdict("drained_account")
_NOT_EMPTIED = Verdict("emptied_account")


class DrainedAccountDetector(Detector):
    """`REVIEW` when an account that has not signed loses several tokens and gets none.

    Or when many such accounts lose tokens to few: a router with a missing check spends the
    allowances that its users gave it. Custodians collect deposits in the same way, by senders with
    many transactions.

    Tokens without a reputation do not count, nor does a trifle that they get. Whoever withdraws
    from a pool or from vaults burns shares of it: each token burnt pays for one account's loss, or
    for all that an account loses of other tokens. Balances are not in a transaction's events: what
    is seen is that tokens leave one-sidedly, not how much is left.
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
            4, 2, 1000, "Accounts that lose, for each that gains, from which to review.", whole=True
        ),
        "max_nonce": Parameter(
            1000,
            0,
            1e9,
            "Earlier transactions of the sender up to which to review what many accounts lose.",
            whole=True,
        ),
    }

    def __init__(self, min_tokens: float, min_accounts: float, max_nonce: float) -> None:
        self._min_tokens = min_tokens
        self._min_accounts = min_accounts
        self._max_nonce = max_nonce

    def evaluate(self, evidence: Evidence) -> Verdict:
        """See `Detector`."""
        verdict = self._many_tokens(evidence)
        return verdict if verdict.action else self._many_accounts(evidence)

    def _many_tokens(self, evidence: Evidence) -> Verdict:
        if len(evidence.transfers) < self._min_tokens or len(evidence.moved) < self._min_tokens:
            return _SILENT
        ours = (evidence.sender, evidence.to, evidence.parties.agent)
        burnt: set[str] | None = None
        for account, changes in evidence.balances.items():
            if len(changes) < self._min_tokens or account in ours:
                continue
            lost = {token for token, amount in changes.items() if amount < 0}
            gained = [(token, amount) for token, amount in changes.items() if amount > 0]
            if len(lost) < self._min_tokens:
                continue
            burnt = _burnt(evidence) if burnt is None else burnt
            if not burnt - lost and all(evidence.is_negligible(*gain) for gain in gained):
                return Verdict(
                    self.NAME,
                    Action.REVIEW,
                    f"{account} loses {count(len(lost), 'token')}, receives "
                    f"{'next to nothing' if gained else 'none'} and has not signed",
                )
        return _SILENT

    def _many_accounts(self, evidence: Evidence) -> Verdict:
        sender, nonce = evidence.sender, evidence.nonce
        if sender is None or (nonce is not None and nonce > self._max_nonce):
            return _SILENT
        if len({one.sender for one in evidence.credible_transfers}) < self._min_accounts:
            return _SILENT
        losers, traders = 0, 0
        winners = [{token for token, change in evidence.gains.own.items() if change > 0}]
        taken: set[str] = set()
        for account, changes in evidence.gains.others.items():
            kept = {t: n for t, n in changes.items() if not evidence.is_negligible(t, n)}
            gained = {token for token, change in kept.items() if change > 0}
            lost = {token for token, change in changes.items() if change < 0}
            if gained and lost:
                traders += 1  # pools that the loot is sold to, among others
            elif gained:
                winners.append(gained)
            elif lost and account not in (sender, evidence.to):
                losers += 1
                taken |= lost
        # Whoever gets a receipt, or what the sender gives away, does not share the loot.
        sharing = sum(any(t in taken or evidence.value_of(t) for t in gained) for gained in winners)
        unpaid = losers - len(_burnt(evidence))
        if not sharing + traders or unpaid < self._min_accounts * max(sharing, 1):
            return _SILENT
        return Verdict(
            self.NAME,
            Action.REVIEW,
            f"{count(losers, 'account')} that have not signed lose tokens to "
            f"{count(sharing + traders, 'other')} and receive nothing{evidence.left_out}, by a "
            f"sender whose nonce is {'unknown' if nonce is None else f'{nonce:,}'}",
        )


def _burnt(evidence: Evidence) -> set[str]:
    """Tokens that somebody ends poorer of and nobody richer: shares, given up for what they pay."""
    every = [evidence.gains.own, *evidence.gains.others.values()]
    gained = {token for changes in every for token, change in changes.items() if change > 0}
    wrapping = {NATIVE, evidence.wrapped_native}
    return {token for changes in every for token in changes} - gained - wrapping


class Loss(NamedTuple):
    """What one account loses of one token."""

    account: str
    token: str
    amount: int  # raw units


class EmptiedAccountDetector(Detector):
    """`REVIEW` when somebody else's account is emptied of a valuable token.

    Thefts from bridges, vaults and wallets are often one plain transfer, which looks like a
    payment. What tells them apart is what remains. So the node is asked what the account held a
    block and 100 blocks before (it may be emptied in parts), where a sender of few transactions
    moves much that is not its own, and neither it nor the account gets or gives anything like its
    worth in return. Tokens without a reference value count as worthless there: a thief can pay with
    a token of its own.
    """

    NAME: ClassVar[str] = "emptied_account"
    ALERT: ClassVar[AlertSpec | None] = AlertSpec(
        "EMPTIED-ACCOUNT",
        "Emptied Account",
        "{sender} executed tx that empties an account of a valuable token",
    )
    SUMMARY: ClassVar[str] = (
        "An account that did not sign loses nearly all that it held of a valuable token."
    )
    NEEDS: ClassVar[frozenset[Need]] = frozenset({Need.REFERENCE_VALUES})
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "min_value": Parameter(
            20, 0.01, 1e9, "ETH, by the model's reference values, that is lost at least."
        ),
        "min_share": Parameter(
            0.9, 0.01, 1, "Share that is lost of what the account held within 100 blocks."
        ),
        "max_nonce": Parameter(
            1000, 0, 1e9, "Earlier transactions of the sender up to which to review.", whole=True
        ),
    }

    def __init__(self, min_value: float, min_share: float, max_nonce: float) -> None:
        self._min_value = min_value
        self._min_share = min_share
        self._max_nonce = max_nonce

    def holdings(self, evidence: Evidence) -> list[tuple[str, str]]:
        """See `AsksForHoldings`: of those that lose much for nothing."""
        return [(loss.account, loss.token) for loss in self.losses(evidence)[:MAX_LOSSES]]

    def losses(self, evidence: Evidence) -> list[Loss]:
        """What may be all that an account held, the most valuable first."""
        sender, values = evidence.sender, evidence.values
        if sender is None or (evidence.nonce is not None and evidence.nonce > self._max_nonce):
            return []
        moved = sum(
            one.amount * values.get(one.token, 0.0)
            for one in evidence.credible_transfers
            if one.sender not in (sender, ZERO_ADDRESS)
        )
        if moved < self._min_value:
            return []  # nearly always, and quickly
        spent = _worth(evidence, evidence.gains.own, -1)
        found = []
        for account, changes in evidence.gains.others.items():
            lost = _worth(evidence, changes, -1)
            if max(spent, _worth(evidence, changes, 1)) >= _FAIR_SHARE * lost:
                continue
            for token, change in changes.items():
                worth = -change * evidence.value_of(token)
                if worth >= self._min_value and token != NATIVE:
                    found.append((worth, Loss(account, token, -change)))
        return [loss for _, loss in sorted(found, reverse=True)]

    def evaluate(self, evidence: Evidence) -> Verdict:
        """See `Detector`."""
        unknown = False
        for account, token, amount in self.losses(evidence):
            held = evidence.held.get((account, token))
            if held is None:
                unknown = True
                continue
            before, earlier = held
            if before < amount / 2:
                continue  # it passes on what has just come in
            most, remains = max(before, earlier or 0), max(0, before - amount)
            if most - remains >= self._min_share * most:
                share = f"{percentage(100 * (most - remains) / most)}%" if remains else "all"
                what = f"{share} of the token {token} that it held,"
                gone = ""
                if most > before:
                    what = f"the token {token}"
                    gone = f"; {share} of what it held 100 blocks before is gone"
                nonce = evidence.nonce
                ordered = "" if nonce is None else f"; the sender's nonce is {nonce:,}"
                return Verdict(
                    self.NAME,
                    Action.REVIEW,
                    f"{account}, which has not signed, loses {what} for nothing of like worth"
                    f"{evidence.left_out}{gone}{ordered}",
                )
            unknown |= earlier is None
        if unknown:
            return missing(self.NAME, "what the account held that loses so much is unknown")
        return _NOT_EMPTIED


def _worth(evidence: Evidence, changes: Mapping[str, int], sign: int) -> float:
    """ETH that the gains (1) or losses (-1) are worth, as far as the tokens' values are known."""
    return sum(
        abs(change) * evidence.value_of(token)
        for token, change in changes.items()
        if change * sign > 0
    )
