"""The demo's report for a terminal."""

import os
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, TextIO

from src.chain.text import sanitise_text
from src.demo.outcome import ANOMALOUS, INVALID, NORMAL, Outcome
from src.detection.records import Action, Attribution

if TYPE_CHECKING:
    from src.demo.guarded import Guarded

_BAR_CELLS: Final = 24
_REASONS: Final = 5
_REASON_CELLS: Final = 16
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_WIDTH: Final = 100
_MAX_TEXT: Final = 600
_COLOURS: Final = {NORMAL: "32", ANOMALOUS: "1;31", INVALID: "33"}
_HEADINGS: Final = ("Scenario", "Transaction", "Transfers", "Action", "Finding", "Score")


class Report:
    """Writes the report to a stream; colours only to a terminal and without `NO_COLOR`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._colours = stream.isatty() and not os.environ.get("NO_COLOR")

    def line(self, text: str = "") -> None:
        """Write one line."""
        print(text, file=self._stream)

    def heading(self, text: str) -> None:
        """Write a heading after an empty line."""
        self.line()
        self.line(self._paint(text, "1"))
        self.line()

    def table(self, outcomes: Sequence[Outcome]) -> None:
        """Write one row per transaction, with its score drawn against the threshold."""
        threshold = next((o.threshold for o in outcomes if o.threshold is not None), None)
        titles = max(len(outcome.played.scenario.title) for outcome in outcomes)
        columns = f"  {{:<{titles}}}  {{:<11}}  {{:>9}}  {{:<6}}  {{:<10}}  {{:>5}}"
        self.line(columns.format(*_HEADINGS).rstrip())
        for outcome in outcomes:
            played, score = outcome.played, outcome.score
            row = columns.format(
                played.scenario.title,
                shorten(played.transaction_hash),
                len(played.transfers),
                outcome.action,
                outcome.answer,
                "" if score is None else f"{score:.3f}",
            )
            picture = "" if score is None else "  " + draw_score(score, threshold)
            self.line(self._paint(row + picture, _COLOURS.get(outcome.answer, "")).rstrip())
        if threshold is not None:
            self.line()
            self.line(
                f"  The line in the bars is the threshold, {threshold:g}: ANOMALOUS at or above it."
            )

    def verdict(self, outcome: Outcome) -> None:
        """Write what a finding says: who gained and lost what, the action, and why."""
        self.heading(f'What the bot says of "{outcome.played.scenario.title}"')
        self._wrapped(outcome.summary, "  ")
        self.line()
        self.line(self._paint(f"  Action {outcome.action}, because of", _COLOURS[ANOMALOUS]))
        for text in outcome.verdicts:
            self._wrapped(text, "  - ")

    def guarded(self, results: "Sequence[Guarded]") -> None:
        """Write one row per transaction that was sent through the guard, and why it is reported."""
        titles = max(len(one.title) for one in results)
        columns = f"  {{:<{titles}}}  {{:<8}}  {{}}"
        self.line(columns.format("Transaction", "Guard", "Decision"))
        for one in results:
            mined = f", {one.mined_action} once mined" if one.mined_action else ""
            colour = _COLOURS[ANOMALOUS if one.answer == "refused" else NORMAL]
            row = columns.format(one.title, one.answer, f"{one.action}{mined}")
            self.line(self._paint(row, colour))
            for text in one.reasons if one.action != Action.ALLOW.name else ():
                self._wrapped(text, "    - ")
            self._wrapped(one.note, "    - ")

    def commands(self, commands: Iterable[tuple[str, str]]) -> None:
        """Write which commands to try next, and for what."""
        self.heading("What next")
        for command, purpose in commands:
            self.line(f"  {command:<32}{purpose}")

    def reasons(self, outcome: Outcome) -> None:
        """Write the features with the largest weights in a transaction's score, as factors."""
        reasons = outcome.reasons[:_REASONS]
        if not reasons:
            return
        self.heading(f'Why "{outcome.played.scenario.title}" is {outcome.answer}')
        names = [sanitise_text(reason.feature) for reason in reasons]
        values = [f"{reason.value:,.6g}" for reason in reasons]
        name_width, value_width = max(map(len, names)), max(map(len, values))
        largest = max(abs(reason.weight) for reason in reasons) or 1.0
        for name, value, reason in zip(names, values, reasons, strict=True):
            cells = round(abs(reason.weight) / largest * _REASON_CELLS)
            bar = self._paint("█" * cells, _COLOURS[_direction(reason)])
            factor = f"score x {reason.factor:.3f}"
            self.line(f"  {name:<{name_width}}  {value:>{value_width}}  {factor}  {bar}")
            self._wrapped(_meaning(reason.feature), "      ")
        self.line()
        self.line("  A factor above 1 pushes towards ANOMALOUS, one below 1 towards NORMAL.")

    def _wrapped(self, text: str, start: str) -> None:
        """Write a text from outside after `start`, its further lines below its first."""
        for line in textwrap.wrap(sanitise_text(text, _MAX_TEXT), _WIDTH - len(start)):
            self.line(start + line)
            start = " " * len(start)

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours and colour else text


def draw_score(score: float, threshold: float | None, cells: int = _BAR_CELLS) -> str:
    """A bar for a score in [0, 1], with a line where the threshold is."""
    eighths = round(min(max(score, 0.0), 1.0) * cells * 8)
    bar = list("█" * (eighths // 8) + _EIGHTHS[eighths % 8])
    bar = (bar + [" "] * cells)[:cells]
    if threshold is not None and 0 <= threshold < 1:
        position = int(threshold * cells)
        bar[position] = "┊" if bar[position] == " " else "╂"
    return "▕" + "".join(bar) + "▏"


def shorten(transaction_hash: str) -> str:
    """A hash shortened to its beginning and end."""
    return f"{transaction_hash[:6]}…{transaction_hash[-4:]}"


def _meaning(feature: str) -> str:
    """The first sentence of a feature's description; empty for an unknown feature."""
    from src.detection.features.definitions import FEATURES  # noqa: PLC0415  brings the kernels

    return FEATURES.get(feature, "").partition(". ")[0]


def _direction(reason: Attribution) -> str:
    return ANOMALOUS if reason.weight > 0 else NORMAL
