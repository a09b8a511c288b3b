"""The detectors of a policy, ready to judge: the one path from evidence to a decision.

Live handling, replay and batches all decide through `DetectorSuite.decide`.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Self

from src.detection.detectors import DETECTORS
from src.detection.detectors.base import AsksForHoldings, Detector, Equipment, missing
from src.detection.evidence import Evidence
from src.detection.policy import Condition, Match, Mode, Policy, Scope
from src.detection.records import Action, Decision, Status, Verdict, decide

logger = logging.getLogger(__name__)


class DetectorSuite:
    """Runs detectors over evidence. Thread-safe.

    Args:
        counting: the detectors whose actions count.
        shadow: those that are recorded only.
        scopes: for whom which of them do not apply.
        lacking: verdicts for the detectors that lack what they need here.
        least_gains: USD, by detector, see `DetectorPolicy.min_gained_usd`.
    """

    def __init__(
        self,
        counting: Sequence[Detector],
        shadow: Sequence[Detector] = (),
        scopes: Sequence[Scope] = (),
        lacking: Sequence[Verdict] = (),
        least_gains: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self._lacking = tuple(lacking)
        self._least_gains = least_gains
        self._detectors = [(d, False) for d in counting] + [(d, True) for d in shadow]
        self._running = frozenset(detector.NAME for detector, _ in self._detectors)
        self._asking = [d for d, _ in self._detectors if isinstance(d, AsksForHoldings)]
        self._by_sender = _by_address(scopes, Match.SENDER)
        self._by_to = _by_address(scopes, Match.TO)
        self._scoped = bool(scopes)

    @classmethod
    def from_policy(cls, policy: Policy, chain_id: int, equipment: Equipment) -> Self:
        """Make the detectors that a policy has on or in shadow on a chain.

        Raises:
            ValueError: parameters that contradict each other.
        """
        made: dict[Mode, list[Detector]] = {Mode.ON: [], Mode.SHADOW: []}
        lacking = []
        least_gains: dict[str, float] = {}
        for name, entry in policy.for_chain(chain_id).items():
            if entry.mode is Mode.OFF:
                continue
            if why := equipment.lacking(DETECTORS[name].NEEDS):
                lacking.append(replace(missing(name, why), shadow=entry.mode is Mode.SHADOW))
            else:
                made[entry.mode].append(DETECTORS[name].build(entry.parameters, equipment))
                if entry.min_gained_usd is not None:
                    least_gains[name] = entry.min_gained_usd
        scopes = [scope for scope in policy.scopes if not scope.chains or chain_id in scope.chains]
        return cls(made[Mode.ON], made[Mode.SHADOW], scopes, lacking, least_gains)

    @property
    def detectors(self) -> list[tuple[str, Mode]]:
        """Name and mode of each detector that runs."""
        return [
            (detector.NAME, Mode.SHADOW if is_shadow else Mode.ON)
            for detector, is_shadow in self._detectors
        ]

    @property
    def lacking(self) -> dict[str, str]:
        """Why a detector that the policy has on or in shadow has no effect here, by its name."""
        return {verdict.detector: verdict.reason for verdict in self._lacking}

    def runs(self, name: str) -> bool:
        """Whether a detector runs, in whatever mode."""
        return name in self._running

    def holdings(self, evidence: Evidence) -> list[tuple[str, str]]:
        """The accounts and tokens that detectors must find in `Evidence.held`. Never raises."""
        scopes = self._scopes_for(evidence) if self._scoped else ()
        wanted: list[tuple[str, str]] = []
        for detector in self._asking:
            if any(detector.NAME in scope.detectors for scope in scopes):
                continue
            try:
                wanted += detector.holdings(evidence)
            except Exception:  # it then lacks them, which must not cost the others' word
                logger.exception("detector %s failed to say what it must know", detector.NAME)
        return wanted

    def decide(
        self,
        evidence: Evidence,
        *,
        also: Sequence[Verdict] = (),
        with_names: Callable[[str], str] = str,
    ) -> Decision:
        """Judge one transaction. Never raises on what a detector does.

        Args:
            evidence: its facts.
            also: verdicts that come from elsewhere, such as a challenger model's.
            with_names: adds the names of the addresses in a detector's reason.
        """
        scopes = self._scopes_for(evidence) if self._scoped else ()
        verdicts = [*also, *self._lacking]
        for detector, is_shadow in self._detectors:
            try:
                verdict = _out_of_scope(detector.NAME, scopes) if scopes else None
                if verdict is None:
                    verdict = detector.evaluate(evidence)
            # One detector's fault must not cost the others' word; the decision says that it failed.
            except Exception as error:
                logger.exception("detector %s failed", detector.NAME)
                verdict = Verdict(detector.NAME, reason=type(error).__name__, status=Status.FAILED)
            if verdict.reason or verdict.action:  # most are silent, and every microsecond counts
                if "0x" in verdict.reason:
                    verdict = replace(verdict, reason=with_names(verdict.reason))
                verdicts.append(replace(verdict, shadow=True) if is_shadow else verdict)
        return decide(verdicts)

    def weighed(self, decision: Decision, largest_gain_usd: float | None) -> Decision:
        """The decision without those detectors for which too little was gained.

        Args:
            decision: of all detectors.
            largest_gain_usd: what the sender's side, or another account, has gained at most; None
                if unknown, which counts as enough.
        """
        if largest_gain_usd is None or not self._least_gains:
            return decision
        return decide(
            [
                self._weighed(verdict, largest_gain_usd)
                for verdict in (*decision.reasons, *decision.shadow)
            ]
        )

    def _weighed(self, verdict: Verdict, gained: float) -> Verdict:
        least = self._least_gains.get(verdict.detector)
        if least is None or gained >= least or not verdict.action:
            return verdict
        # Rounded down, so that what is less never reads like as much.
        too_little = f"{math.floor(gained):,} USD gained, less than min_gained_usd {least:,.10g}"
        reason = f"{too_little}; {verdict.reason}"
        return replace(verdict, action=Action.ALLOW, reason=reason, status=Status.OUT_OF_SCOPE)

    def _scopes_for(self, evidence: Evidence) -> Sequence[Scope]:
        by_sender = self._by_sender.get(evidence.sender or "", ())
        by_to = self._by_to.get(evidence.to or "", ())
        return [
            scope
            for scope in (*by_sender, *by_to)
            if scope.only_if is None or _holds(scope.only_if, evidence)
        ]


def _holds(condition: Condition, evidence: Evidence) -> bool:
    match condition:
        case Condition.SENDER_PAYS:
            return evidence.sender_pays


def _out_of_scope(name: str, scopes: Sequence[Scope]) -> Verdict | None:
    for scope in scopes:
        if name in scope.detectors:
            reason = f"{scope.name}: {scope.reason}"
            return Verdict(name, reason=reason, status=Status.OUT_OF_SCOPE)
    return None


def _by_address(scopes: Sequence[Scope], match: Match) -> dict[str, tuple[Scope, ...]]:
    found: dict[str, tuple[Scope, ...]] = {}
    for scope in scopes:
        if scope.match in (match, Match.EITHER):
            for address in scope.addresses:
                found[address] = (*found.get(address, ()), scope)
    return found
