"""The report of a benchmark: lines that compare two measurements of one run, as table and JSON."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from src.files import write_file

_UNITS = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6))


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison.

    Attributes:
        group: the benchmark that it belongs to.
        name: what was measured.
        value: ours; in seconds, unless `unit` says otherwise.
        baseline: the other measurement of the same run, in the same unit; None if there is none.
        against: what the baseline is.
        unit: "s", "tx/s" or "MB".
        kind: "cpu" or "wall" for times, else "".
        limit: largest value that the project allows, or None.
        ratio_limit: smallest ratio that the project allows, or None.
    """

    group: str
    name: str
    value: float
    baseline: float | None = None
    against: str = ""
    unit: str = "s"
    kind: str = "cpu"
    limit: float | None = None
    ratio_limit: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times better than the baseline: less time, less memory, more transactions."""
        if not self.baseline or not self.value:
            return None
        more_is_better = self.unit == "tx/s"
        return self.value / self.baseline if more_is_better else self.baseline / self.value

    @property
    def holds(self) -> bool | None:
        """Whether the limits are met; None without one."""
        met = []
        if self.limit is not None:
            met.append(self.value <= self.limit)
        if self.ratio_limit is not None:
            met.append(self.ratio is not None and self.ratio >= self.ratio_limit)
        return all(met) if met else None

    def limits(self) -> str:
        """The limits as text, "" without one."""
        parts = []
        if self.limit is not None:
            parts.append(f"<= {shown(self.limit, self.unit)}")
        if self.ratio_limit is not None:
            parts.append(f">= {self.ratio_limit:g}x")
        return ", ".join(parts)


def shown(value: float, unit: str) -> str:
    """A value with a unit that suits its size."""
    if unit != "s":
        return f"{value:.0f} {unit}"
    name, size = next((pair for pair in _UNITS if value >= pair[1]), _UNITS[-1])
    return f"{value / size:.3g} {name}"


def table(lines: Sequence[Line]) -> str:
    """The lines as a Markdown table."""
    rows = [("", "ours", "", "against", "", "ratio", "limit", "")]
    for line in lines:
        baseline = "" if line.baseline is None else shown(line.baseline, line.unit)
        ratio = "" if line.ratio is None else f"{line.ratio:.3g}x"
        verdict = {None: "", True: "met", False: "MISSED"}[line.holds]
        value = shown(line.value, line.unit)
        rows.append(
            (line.name, value, line.kind, line.against, baseline, ratio, line.limits(), verdict)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    texts.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(texts)


def write_json(path: Path, lines: Sequence[Line], skipped: Sequence[str]) -> None:
    """Write the lines, what was skipped and why, and what they were measured on."""
    document: dict[str, Any] = {
        "environment": {
            "machine": platform.machine(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "numpy": version("numpy"),
            "numba": version("numba"),
            "scikit-learn": version("scikit-learn"),
        },
        "lines": [{**asdict(line), "ratio": line.ratio, "holds": line.holds} for line in lines],
        "skipped": list(skipped),
    }
    write_file(path, (json.dumps(document, indent=2) + "\n").encode())
