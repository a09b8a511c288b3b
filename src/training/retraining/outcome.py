"""The result of a retraining, and its report."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from src.files import write_file
from src.registry.registry import Registry, code_version
from src.reports.page import Section, to_html
from src.training.retraining.gate import Check

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a retraining."""

    champion: str  # id of the champion at the start
    challenger: str  # id of the new model
    checks: tuple[Check, ...]  # results of the gate
    dry_run: bool  # whether promotion was disabled
    data: tuple[str, ...]  # ids of the data sets
    seconds: float  # until both were judged
    unknown_feedback: tuple[str, ...] = ()  # transaction hashes that are in no data set
    promoted: bool = False  # whether the challenger became champion
    notes: tuple[str, ...] = ()  # what else a reader should know, one sentence each
    # Plots of the report by file name.
    pictures: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def to_json(outcome: Outcome) -> str:
    """The result as JSON, which is stored with the challenger as its evaluation."""
    content = {**asdict(outcome), "passed": outcome.passed}
    content["pictures"] = sorted(outcome.pictures)
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def to_markdown(outcome: Outcome) -> str:
    """The result as Markdown, for the terminal and for pull requests."""
    lines = [
        f"## {verdict(outcome)}",
        "",
        "| check | | champion | challenger | |",
        "|---|---|---|---|---|",
    ]
    lines += [" ".join(["|", " | ".join(row), "|"]) for row in _rows(outcome)]
    for paragraph in _paragraphs(outcome):
        lines += ["", paragraph]
    return "\n".join(lines) + "\n"


def to_page(outcome: Outcome) -> str:
    """The result as an HTML page."""
    paragraphs = [
        f"Champion {outcome.champion}, challenger {outcome.challenger}, data sets "
        f"{', '.join(outcome.data)}, {outcome.seconds:.0f} s."
    ]
    paragraphs += _paragraphs(outcome)
    header = ("check", "", "champion", "challenger", "")
    pictures = [
        (Path(name).stem.replace("_", " "), content) for name, content in outcome.pictures.items()
    ]
    section = Section(verdict(outcome), paragraphs, header, _rows(outcome), pictures)
    passed = sum(check.passed for check in outcome.checks)
    summary = [
        (verdict(outcome).split(":")[0], f"challenger {outcome.challenger}"),
        (f"{passed} of {len(outcome.checks)}", "checks passed"),
    ]
    return to_html("Retraining", [section], summary=summary)


def verdict(outcome: Outcome) -> str:
    """The result in one line."""
    failed = [check.name for check in outcome.checks if not check.passed]
    if failed:
        return f"Refused: {outcome.challenger} fails {', '.join(failed)}"
    if outcome.dry_run:
        return f"Would be promoted: {outcome.challenger}"
    return f"Promoted: {outcome.challenger}"


def _rows(outcome: Outcome) -> list[tuple[str, str, str, str, str]]:
    return [
        (
            check.name,
            "ok" if check.passed else "FAILED",
            check.champion,
            check.challenger,
            check.why,
        )
        for check in outcome.checks
    ]


def _paragraphs(outcome: Outcome) -> list[str]:
    return [*outcome.notes, *([_unknown(outcome)] if outcome.unknown_feedback else [])]


def _unknown(outcome: Outcome) -> str:
    shown = ", ".join(outcome.unknown_feedback[:5])
    return (
        f"{len(outcome.unknown_feedback)} transactions with feedback are in no data set ({shown}): "
        "collect their blocks to use it."
    )


def write(outcome: Outcome, folder: Path) -> None:
    """Write the report as HTML, Markdown and JSON, with its pictures."""
    write_file(folder / "retraining.json", to_json(outcome).encode())
    write_file(folder / "retraining.md", to_markdown(outcome).encode())
    write_file(folder / "retraining.html", to_page(outcome).encode())
    for name, content in outcome.pictures.items():
        write_file(folder / name, content)


def settle(registry: Registry, bundle: Path, outcome: Outcome) -> Outcome:
    """Store the challenger with its evaluation, and promote it if it passed; not in a dry run.

    Raises:
        RegistryError, StoreError: the champion was replaced meanwhile, or the store failed.
    """
    if outcome.dry_run:
        return outcome
    logger.info("storing the challenger %s", outcome.challenger)
    entry = registry.add(bundle, code_version=code_version(), evaluation=to_json(outcome).encode())
    registry.challenge(entry.id, reason="retraining")
    if not outcome.passed:
        return outcome
    logger.info("promoting it")
    reason = "retraining: every check passed"
    registry.promote(entry.id, expected=outcome.champion, reason=reason)
    return replace(outcome, promoted=True)
