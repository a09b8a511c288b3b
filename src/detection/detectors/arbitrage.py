"""Atomic arbitrage: tokens go round a circle of traders, and one currency of the origin's grows."""

from collections.abc import Mapping
from typing import ClassVar

from src.detection.detectors.base import AlertSpec, Detector, Parameter
from src.detection.evidence import Evidence
from src.detection.records import NATIVE, ZERO_ADDRESS, Action, Verdict

_SILENT = Verdict("arbitrage")

_DUST = 10**-6
"""Of what a transaction moves of a token: a rounding, or a fee on a transfer."""

_BESIDES = 0.1
"""Of the profit's value: what else may remain. A tip to the block's producer may be all of it."""


class ArbitrageDetector(Detector):
    """Names atomic arbitrage. Informational: it asks for `ALLOW` and lowers no other detector.

    Two or more outsiders trade: each ends poorer of one token and richer of another (an exchange
    that holds several pools, of as many tokens as it is poorer of). Nobody else ends poorer of
    anything. The origin's side ends richer of one token with a reference value; or, where the side
    ends as it began, one vault that pays in first does.

    A thief can pay its victim with dust of another token, and put a trader of its own into the
    circle. So the profit must be a small share of what the traders took in of the same token: to
    dress up loot, a thief would have to own ten times as much. And what is worth more than a
    trader's day is never called arbitrage.
    """

    NAME: ClassVar[str] = "arbitrage"
    ALERT: ClassVar[AlertSpec | None] = None
    LABEL: ClassVar[str] = "arbitrage"
    SUMMARY: ClassVar[str] = "Names atomic arbitrage; asks for nothing."
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "max_margin": Parameter(0.1, 0.0, 1.0, "Largest profit, as a share of what was paid in."),
        "max_profit": Parameter(5.0, 0.0, 1e6, "Largest profit, ETH by the reference values."),
    }

    def __init__(self, max_margin: float, max_profit: float) -> None:
        self._max_margin = max_margin
        self._max_profit = max_profit

    def evaluate(self, evidence: Evidence) -> Verdict:
        """See `Detector`."""
        transfers = evidence.credible_transfers
        moved, wrapped = evidence.moved, evidence.wrapped_native
        if len(transfers) < 3 or len(moved) < 2:
            return _SILENT
        others = {
            party: _changes(changes, moved, wrapped)
            for party, changes in evidence.gains.others.items()
        }
        traders = _traders(others)
        if traders is None or len(traders) < 2:
            return _SILENT
        owner, profits = evidence.gains.side, _changes(evidence.gains.own, moved, wrapped)
        if not profits:
            vault = _vault(evidence, {p: c for p, c in others.items() if c and p not in traders})
            if vault is None:
                return _SILENT
            owner, profits = frozenset({vault}), others[vault]
        token = _profit_of(evidence, profits)
        if token is None or _deals_both_ways(evidence, others, traders, owner):
            return _SILENT
        paid_in = sum(max(others[party].get(token, 0), 0) for party in traders)
        profit = profits[token]
        if profit > self._max_margin * paid_in:
            return _SILENT
        if profit * evidence.value_of(token) > self._max_profit:
            return _SILENT
        return Verdict(
            self.NAME,
            Action.ALLOW,
            f"arbitrage: {len(traders)} traders in a circle, and {profit / paid_in:.2%} of token "
            f"{token} that was paid in remains as profit",
        )


def _changes(
    changes: Mapping[str, int], moved: Mapping[str, int], wrapped: str | None
) -> dict[str, int]:
    """Without dust; the native currency counts as its wrapped form."""
    merged = dict(changes)
    if wrapped is not None and NATIVE in merged:
        merged[wrapped] = merged.get(wrapped, 0) + merged.pop(NATIVE)
    return {t: change for t, change in merged.items() if abs(change) > _DUST * moved.get(t, 0)}


def _traders(others: Mapping[str, Mapping[str, int]]) -> frozenset[str] | None:
    """The outsiders that end poorer of something; None where one was not paid for it."""
    traders = set()
    for party, changes in others.items():
        lost = sum(change < 0 for change in changes.values())
        if lost and len(changes) != 2 * lost:
            return None
        if lost:
            traders.add(party)
    return frozenset(traders)


def _vault(evidence: Evidence, takers: Mapping[str, Mapping[str, int]]) -> str | None:
    """The one outsider that pays in before it is paid, and ends richer; None without it."""
    found = []
    for party, changes in takers.items():
        token = max(changes, key=lambda t: changes[t] * evidence.value_of(t))
        order = [
            moved.sender == party
            for moved in evidence.credible_transfers
            if moved.token == token and party in (moved.sender, moved.recipient)
        ]
        if order and order[0] and not order[-1]:
            found.append(party)
    return found[0] if len(found) == 1 else None


def _profit_of(evidence: Evidence, profits: Mapping[str, int]) -> str | None:
    """The token that grew; None where others grew or shrank as well, or nothing is left."""
    values = {token: change * evidence.value_of(token) for token, change in profits.items()}
    if not all(values.values()):
        return None
    token = max(values, key=lambda t: values[t])
    for other, value in values.items():
        is_tip = other == evidence.wrapped_native and value < 0
        if other != token and abs(value) > _BESIDES * values[token] and not is_tip:
            return None
    return token if sum(values.values()) > 0 else None


def _deals_both_ways(
    evidence: Evidence,
    others: Mapping[str, Mapping[str, int]],
    traders: frozenset[str],
    owner: frozenset[str],
) -> bool:
    """Whether a trader gives and takes of one token, or the owner mints or burns one.

    A price is manipulated by buying and selling to the same trader.
    """
    gave = {(moved.sender, moved.token) for moved in evidence.credible_transfers}
    took = {(moved.recipient, moved.token) for moved in evidence.credible_transfers}
    if any(party in traders and token in others[party] for party, token in gave & took):
        return True
    ours = {*owner, evidence.parties.agent}
    return any(
        ZERO_ADDRESS in ends and not ours.isdisjoint(ends)
        for ends in ((dealing.sender, dealing.recipient) for dealing in evidence.dealings)
    )
