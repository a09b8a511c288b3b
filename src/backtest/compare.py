"""What another model, policy or threshold changes: two runs over the same data, side by side."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from src.backtest.errors import BacktestError
from src.backtest.layouts import unreadable
from src.backtest.output import ALERTS, Output

MINUTES_PER_ALERT = 5.0
_LISTED = 50
_COLUMNS = ["tx_hash", "block_number", "anomaly_score", "action", "prediction"]
_ORDER = {"ALLOW": 0, "REVIEW": 1, "BLOCK": 2}


@dataclass(slots=True)
class Change:
    """Alerts that one run has and the other has not, or has otherwise.

    Attributes:
        counts: by kind: gained, lost, raised, lowered, same.
        listed: some of each kind but the last, first blocks first.
    """

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("gained", "lost", "raised", "lowered", "same"), 0)
    )
    listed: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, kind: str, row: Mapping[str, Any]) -> None:
        """Count one, list it while there is room."""
        self.counts[kind] += 1
        shown = self.listed.setdefault(kind, [])
        if kind != "same" and len(shown) < _LISTED:
            shown.append(dict(row))


def compare(before: Path, after: Path, *, minutes_per_alert: float) -> dict[str, Any]:
    """Compare two finished runs over the same data.

    Raises:
        BacktestError: a run is unfinished or over other data.
    """
    old, new = _summary(before), _summary(after)
    for name in ("data", "first_block", "last_block", "layout"):
        if old["run"][name] != new["run"][name]:
            raise BacktestError(f"{before} and {after} are over different data ({name} differs)")
    change = _changes(before, after)
    caught = {
        key: {t["tx_hash"] for t in run["exploits"]["transactions"] if t["action"] != "ALLOW"}
        for key, run in (("old", old), ("new", new))
    }
    return {
        "asked": {
            name: [old["run"][name], new["run"][name]]
            for name in ("threshold", "model", "model_version", "policy", "policy_name")
            if old["run"][name] != new["run"][name]
        },
        "alerts": [run["review"] + run["block"] for run in (old, new)],
        "block": [run["block"] for run in (old, new)],
        "alerts_a_day": [_a_day(run) for run in (old, new)],
        "hours_a_day": [_a_day(run) * minutes_per_alert / 60 for run in (old, new)],
        "minutes_per_alert": minutes_per_alert,
        "detectors": {
            name: [run["detectors"].get(name, 0) for run in (old, new)]
            for name in sorted(old["detectors"].keys() | new["detectors"].keys())
        },
        "changes": change.counts,
        "transactions": change.listed,
        "exploits": {
            "judged": new["exploits"]["judged"],
            "caught": [len(caught["old"]), len(caught["new"])],
            "gained": sorted(caught["new"] - caught["old"]),
            "lost": sorted(caught["old"] - caught["new"]),
        },
    }


def as_html(comparison: Mapping[str, Any]) -> str:
    """The comparison as one HTML file."""
    rows = [
        *((name, *values) for name, values in comparison["asked"].items()),
        ("alerts", *comparison["alerts"]),
        ("of these to block", *comparison["block"]),
        ("alerts a day", *(f"{value:,.1f}" for value in comparison["alerts_a_day"])),
        (
            f"hours a day to look at them, {comparison['minutes_per_alert']:g} minutes each",
            *(f"{value:,.2f}" for value in comparison["hours_a_day"]),
        ),
        *((f"by {name}", *values) for name, values in comparison["detectors"].items()),
        (
            f"known exploits caught, of {comparison['exploits']['judged']}",
            *comparison["exploits"]["caught"],
        ),
    ]
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows
    )
    lists = "".join(
        f"<h2>{escape(kind)}: {comparison['changes'][kind]:,}</h2><ul>"
        + "".join(f"<li><code>{escape(str(row['tx_hash']))}</code> {escape(_what(row))}</li>"
                  for row in listed)
        + "</ul>"
        for kind, listed in comparison["transactions"].items()
        if kind != "same"
    )  # fmt: skip
    exploits = "".join(
        f"<li>{kind}: <code>{escape(tx_hash)}</code></li>"
        for kind in ("gained", "lost")
        for tx_hash in comparison["exploits"][kind]
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>What if</title><style>'
        "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
        "td,th{padding:.3rem .6rem;border-bottom:1px solid #ccc;text-align:left}"
        "table{border-collapse:collapse}</style></head><body><h1>What if</h1><table><tr><th></th>"
        f"<th>before</th><th>after</th></tr>{body}</table><h2>Known exploits</h2>"
        f"<ul>{exploits or '<li>no change</li>'}</ul>{lists}</body></html>\n"
    )


def as_text(comparison: Mapping[str, Any]) -> str:
    """The comparison in a few lines."""
    counts, exploits = comparison["changes"], comparison["exploits"]
    asked = ", ".join(f"{name} {a} -> {b}" for name, (a, b) in comparison["asked"].items())
    alerts, hours = comparison["alerts"], comparison["hours_a_day"]
    return (
        f"What if: {asked or 'nothing differs'}\n"
        f"  alerts {alerts[0]:,} -> {alerts[1]:,} ({counts['gained']:,} gained, "
        f"{counts['lost']:,} lost, {counts['raised']:,} raised, {counts['lowered']:,} lowered)\n"
        f"  known exploits caught {exploits['caught'][0]} -> {exploits['caught'][1]} of "
        f"{exploits['judged']}\n"
        f"  work {hours[0]:.2f} -> {hours[1]:.2f} hours a day at "
        f"{comparison['minutes_per_alert']:g} minutes an alert\n"
    )


def _what(row: Mapping[str, Any]) -> str:
    score = row["anomaly_score"]
    shown = "not scored" if score is None else f"score {score:.3f}"
    return f"block {row['block_number']:,}, {shown}, {row['before']} -> {row['after']}"


def _changes(before: Path, after: Path) -> Change:
    """Slice by slice, so that memory holds the alerts of one only."""
    change = Change()
    names = sorted(Output(before).entries().keys() | Output(after).entries().keys())
    for name in names:
        old, new = _alerts(before, name), _alerts(after, name)
        for tx_hash in sorted(
            old.keys() | new.keys(), key=lambda tx: ((new.get(tx) or old[tx])["block_number"], tx)
        ):
            one, two = old.get(tx_hash), new.get(tx_hash)
            was, now = (row["action"] if row else "ALLOW" for row in (one, two))
            row = {**(two or one or {}), "before": was, "after": now}
            if was == now:
                change.add("same", row)
            elif was == "ALLOW" or now == "ALLOW":
                change.add("gained" if was == "ALLOW" else "lost", row)
            else:
                change.add("raised" if _ORDER[now] > _ORDER[was] else "lowered", row)
    return change


def _alerts(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    return {
        row["tx_hash"]: row
        for path in sorted((folder / ALERTS).glob(f"day=*/{name}.parquet"))
        for row in _rows(path)
        if row["action"] != "ALLOW"
    }


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(path) as file:
            yield from file.read(_COLUMNS).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error


def _summary(folder: Path) -> dict[str, Any]:
    return Output(folder).summary()


def _a_day(summary: Mapping[str, Any]) -> float:
    return float((summary["review"] + summary["block"]) / (len(summary["days"]) or 1))
