"""Compares two runs over the same data with different models, policies or thresholds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from src.backtest.output.output import ALERTS, Output
from src.cli import CommandError
from src.history.sources import unreadable
from src.reports.page import page, table, transaction

_LISTED = 50
_COLUMNS = ["tx_hash", "block_number", "anomaly_score", "action", "prediction"]
_ORDER = {"ALLOW": 0, "REVIEW": 1, "BLOCK": 2}


@dataclass(slots=True)
class Change:
    """Alerts that differ between the runs.

    Attributes:
        counts: by kind: gained, lost, raised, lowered, same.
        listed: examples of each kind but the last, ordered by block.
    """

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("gained", "lost", "raised", "lowered", "same"), 0)
    )
    listed: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, kind: str, row: Mapping[str, Any]) -> None:
        """Count an alert, and list it if there is room."""
        self.counts[kind] += 1
        shown = self.listed.setdefault(kind, [])
        if kind != "same" and len(shown) < _LISTED:
            shown.append(dict(row))


def compare(before: Path, after: Path, *, minutes_per_alert: float) -> dict[str, Any]:
    """Compare two finished runs over the same data.

    Raises:
        CommandError: a run is unfinished, or the data or the lists of exploits differ.
    """
    old, new = _summary(before), _summary(after)
    if old["run"]["exploits"] != new["run"]["exploits"]:
        raise CommandError(f"{before} and {after} use different lists of exploits")
    for name in ("data", "first_block", "last_block", "layout", "chain_id"):
        if old["run"][name] != new["run"][name]:
            raise CommandError(f"{before} and {after} use different data ({name} differs)")
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
        "chain_id": new["run"]["chain_id"],
        "alerts": [run["review"] + run["block"] for run in (old, new)],
        "block": [run["block"] for run in (old, new)],
        "alerts_a_day": [_a_day(run) for run in (old, new)],
        "hours": [(run["review"] + run["block"]) * minutes_per_alert / 60 for run in (old, new)],
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
    exploits, changes = comparison["exploits"], comparison["changes"]
    facts: list[tuple[str, ...]] = [
        (name, str(old), str(new)) for name, (old, new) in comparison["asked"].items()
    ]
    minutes = f"{comparison['minutes_per_alert']:g} minutes each"
    for name, values, form in (
        ("alerts", comparison["alerts"], ",d"),
        ("of these to block", comparison["block"], ",d"),
        ("alerts a day", comparison["alerts_a_day"], ",.1f"),
        (f"hours to review them, {minutes}", comparison["hours"], ",.1f"),
        ("hours a day", comparison["hours_a_day"], ",.2f"),
        (f"known exploits caught, of {exploits['judged']:,}", exploits["caught"], ",d"),
        *((f"by {name}", values, ",d") for name, values in comparison["detectors"].items()),
    ):
        facts.append((name, *(format(value, form) for value in values)))
    rows = [tuple(map(escape, row)) for row in facts]
    told = [
        (kind, transaction(tx_hash, comparison["chain_id"]))
        for kind in ("gained", "lost")
        for tx_hash in exploits[kind]
    ]
    chain_id = comparison["chain_id"]
    body = table(("", "before", "after"), rows, numeric=1) + "<h2>Known exploits</h2>"
    body += table((), told) if told else '<p class="quiet">the same are caught</p>'
    for kind, listed in comparison["transactions"].items():
        if kind == "same":
            continue
        cells = [
            (
                transaction(str(row["tx_hash"]), chain_id),
                f"{row['block_number']:,}",
                "none" if row["anomaly_score"] is None else f"{row['anomaly_score']:.3f}",
                escape(f"{row['before']} \u2192 {row['after']}"),
            )
            for row in listed
        ]
        note = f"the first {len(cells):,}" if len(cells) < changes[kind] else ""
        names = ("transaction", "block", "score", "action")
        body += f"<h2>Alerts {kind}: {changes[kind]:,}</h2>"
        body += table(names, cells, note=note, numeric=1, until=3)
    return page("What if", body)


def as_text(comparison: Mapping[str, Any]) -> str:
    """The comparison in a few lines."""
    counts, exploits = comparison["changes"], comparison["exploits"]
    asked = ", ".join(f"{name} {a} -> {b}" for name, (a, b) in comparison["asked"].items())
    alerts, hours, a_day = (comparison[name] for name in ("alerts", "hours", "hours_a_day"))
    return (
        f"What if: {asked or 'nothing differs'}\n"
        f"  alerts {alerts[0]:,} -> {alerts[1]:,} ({counts['gained']:,} gained, "
        f"{counts['lost']:,} lost, {counts['raised']:,} raised, {counts['lowered']:,} lowered)\n"
        f"  known exploits caught {exploits['caught'][0]} -> {exploits['caught'][1]} of "
        f"{exploits['judged']}\n"
        f"  work {hours[0]:,.1f} -> {hours[1]:,.1f} hours ({a_day[0]:.2f} -> {a_day[1]:.2f} a "
        f"day) at {comparison['minutes_per_alert']:g} minutes an alert\n"
    )


def _changes(before: Path, after: Path) -> Change:
    """Reads slice by slice, to keep only one slice's alerts in memory."""
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
        raise unreadable(str(path), error) from error


def _summary(folder: Path) -> dict[str, Any]:
    return Output(folder).summary()


def _a_day(summary: Mapping[str, Any]) -> float:
    return float((summary["review"] + summary["block"]) / (len(summary["days"]) or 1))
