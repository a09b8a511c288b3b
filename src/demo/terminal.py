"""The demo's report for a terminal."""

import json
import os
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TextIO

from src.chain.text import sanitise_text
from src.demo.outcome import ANOMALOUS, INVALID, NORMAL, Outcome, Reason

if TYPE_CHECKING:
    from src.demo.guarded import Guarded

_BAR_CELLS: Final = 24
_REASONS: Final = 5
_REASON_CELLS: Final = 16
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_WIDTH: Final = 100
_COLOURS: Final = {NORMAL: "32", ANOMALOUS: "1;31", INVALID: "33"}
_HEADINGS: Final = ("Scenario", "Transaction", "Transfers", "Tokens", "Finding", "Score")


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
        columns = f"  {{:<{titles}}}  {{:<11}}  {{:>9}}  {{:>6}}  {{:<10}}  {{:>5}}"
        self.line(columns.format(*_HEADINGS).rstrip())
        for outcome in outcomes:
            played, score = outcome.played, outcome.score
            tokens = {transfer.token for transfer in played.transfers}
            row = columns.format(
                played.scenario.title,
                shorten(played.transaction_hash),
                len(played.transfers),
                len(tokens),
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

    def drains(self, outcomes: Sequence[Outcome]) -> None:
        """Write what `fresh_contract_drain` says in shadow, one paragraph per transaction."""
        titles = max(len(outcome.played.scenario.title) for outcome in outcomes)
        for outcome in outcomes:
            said = f"REVIEW: {outcome.drain}" if outcome.drain else "nothing"
            first, *rest = textwrap.wrap(sanitise_text(said, 400), _WIDTH - titles - 4)
            row = f"  {outcome.played.scenario.title:<{titles}}  {first}"
            self.line(self._paint(row, _COLOURS[INVALID if outcome.drain else NORMAL]))
            for line in rest:
                self.line(f"  {'':<{titles}}  {line}")

    def guarded(self, results: "Sequence[Guarded]") -> None:
        """Write one paragraph per transaction that was sent through the guard."""
        titles = max(len(one.title) for one in results)
        for one in results:
            mined = f", {one.mined_action} once mined" if one.mined_action else ""
            row = f"  {one.title:<{titles}}  {one.answer:<8}{one.action}{mined}"
            colour = _COLOURS[ANOMALOUS if one.answer == "refused" else NORMAL]
            self.line(self._paint(row, colour))
            for text in (*one.reasons, *([one.note] if one.note else [])):
                for line in textwrap.wrap(sanitise_text(text, 400), _WIDTH - titles - 4):
                    self.line(f"  {'':<{titles}}  {line}")

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
            for text in textwrap.wrap(_meaning(reason.feature), _WIDTH - 6):
                self.line(f"      {text}")
        self.line()
        self.line("  A factor above 1 pushes towards ANOMALOUS, one below 1 towards NORMAL.")

    def finding(self, outcome: Outcome) -> None:
        """Write a finding in full, as JSON."""
        self.heading(f'"{outcome.played.scenario.title}": the finding as Forta receives it')
        # ASCII, so that a token's name cannot control the terminal.
        self.line(textwrap.indent(json.dumps(outcome.finding, indent=2), "  "))

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


def _direction(reason: Reason) -> str:
    return ANOMALOUS if reason.weight > 0 else NORMAL
