"""The bot's finding for each scenario, compared with the expected one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from src.demo.scenarios import NO_FINDING, Played
from src.detection.records import Attribution
from src.utils.constants import ANOMALOUS_ALERT_ID, INVALID_ALERT_ID, NORMAL_ALERT_ID

NORMAL: Final = "NORMAL"
ANOMALOUS: Final = "ANOMALOUS"
INVALID: Final = "INVALID"

_ANSWERS: Final = {
    NORMAL_ALERT_ID: NORMAL,
    ANOMALOUS_ALERT_ID: ANOMALOUS,
    INVALID_ALERT_ID: INVALID,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A scenario with the bot's finding."""

    played: Played  # the scenario and its transaction
    answer: str  # NORMAL, ANOMALOUS, INVALID or `NO_FINDING`
    finding: Mapping[str, Any] | None  # the primary finding as the CLI prints it; None without one

    @property
    def score(self) -> float | None:
        """The anomaly score in [0, 1]; None if there is none."""
        return self._number("anomaly_score")

    @property
    def threshold(self) -> float | None:
        """Scores at or above it are ANOMALOUS."""
        return self._number("anomaly_threshold")

    @property
    def transfers_seen(self) -> float | None:
        """The number of transfers that the bot counted."""
        return self._number("transfer_counts")

    @property
    def reasons(self) -> list[Attribution]:
        """The features with the largest weights, largest first."""
        explanations = json.loads(self._metadata().get("model_explanations", "[]"))
        return [
            Attribution(str(e["feature"]), float(e["value"]), float(e["weight"]))
            for e in explanations
        ]

    @property
    def action(self) -> str:
        """What the finding asks for; empty without one."""
        return str(self._metadata().get("action", ""))

    @property
    def summary(self) -> str:
        """Who gained and lost what, in a sentence; empty where nothing is reported."""
        return str(self._metadata().get("summary", ""))

    @property
    def verdicts(self) -> list[str]:
        """What the detectors that decided say, the deciding one first."""
        found = json.loads(self._metadata().get("reasons", "[]"))
        return [f"{one['detector']}: {one['reason']}" for one in found if "action" in one]

    def as_json(self) -> dict[str, Any]:
        """The output of `--json`: data of the chain and the unchanged finding."""
        return {
            "scenario": self.played.scenario.key,
            "title": self.played.scenario.title,
            "transaction_hash": self.played.transaction_hash,
            "from": self.played.sender,
            "transfers": len(self.played.transfers),
            "tokens": len({transfer.token for transfer in self.played.transfers}),
            "expected": self.played.scenario.expected,
            "answer": self.answer,
            "anomaly_score": self.score,
            "finding": self.finding,
        }

    def _metadata(self) -> Mapping[str, Any]:
        return self.finding["metadata"] if self.finding else {}

    def _number(self, key: str) -> float | None:
        value = self._metadata().get(key)
        return None if value is None else float(value)


def judge(
    played: Sequence[Played], findings: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[Outcome]:
    """Pair every transaction with its primary finding."""
    return [_outcome(one, findings.get(one.transaction_hash, ())) for one in played]


def problems(outcomes: Sequence[Outcome]) -> list[str]:
    """Differences from the expected results, as sentences; empty if there are none."""
    found = []
    for outcome in outcomes:
        scenario, transfers = outcome.played.scenario, len(outcome.played.transfers)
        if scenario.expected not in (None, outcome.answer):
            found.append(f'"{scenario.title}" should be {scenario.expected}, not {outcome.answer}.')
        elif transfers and outcome.finding is None:
            found.append(f'"{scenario.title}" moves tokens, but the bot emitted no finding.')
        seen = outcome.transfers_seen
        if seen is not None and seen != transfers:
            found.append(f'"{scenario.title}" has {transfers} transfers; the bot saw {seen:g}.')
    answers = {outcome.answer for outcome in outcomes}
    missing = [answer for answer in (NORMAL, ANOMALOUS) if answer not in answers]
    return found + [f"No transaction is {answer}." for answer in missing]


def _outcome(played: Played, findings: Sequence[Mapping[str, Any]]) -> Outcome:
    for finding in findings:
        answer = _ANSWERS.get(finding["alertId"])
        if answer is not None:
            return Outcome(played, answer, finding)
    return Outcome(played, NO_FINDING, None)
