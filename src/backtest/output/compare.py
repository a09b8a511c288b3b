"""Compares two runs over the same data with different models, policies or thresholds."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import duckdb

from src.backtest.output.output import ALERTS, Output
from src.cli import CommandError
from src.history.sources import connect, parquet, unreadable
from src.reports.page import page, table, transaction

_LISTED = 50
_KINDS = ("gained", "lost", "raised", "lowered", "same")
_NO_ALERTS = (
    "'' AS tx_hash, 0 AS block_number, 0.0 AS anomaly_score, '' AS action, '' AS prediction"
)
_CHANGES = """
WITH old AS (SELECT * FROM {old} WHERE action <> 'ALLOW'),
new AS (SELECT * FROM {new} WHERE action <> 'ALLOW'),
latest AS (FROM new UNION ALL BY NAME SELECT * FROM old ANTI JOIN new USING (tx_hash)),
changes AS (SELECT tx_hash, l.block_number, l.anomaly_score, l.action, l.prediction,
    coalesce(old.action, 'ALLOW') AS before, coalesce(new.action, 'ALLOW') AS after,
    CASE WHEN before = after THEN 'same' WHEN before = 'ALLOW' THEN 'gained'
        WHEN after = 'ALLOW' THEN 'lost' WHEN after = 'BLOCK' THEN 'raised' ELSE 'lowered' END
    AS kind FROM latest l LEFT JOIN old USING (tx_hash) LEFT JOIN new USING (tx_hash))
SELECT *, count(*) OVER (PARTITION BY kind) AS n FROM changes
QUALIFY row_number() OVER (PARTITION BY kind ORDER BY block_number, tx_hash) <= {listed}
ORDER BY block_number, tx_hash
"""


def compare(before: Path, after: Path, *, minutes_per_alert: float) -> dict[str, Any]:
    """Compare two finished runs over the same data.

    Raises:
        CommandError: a run is unfinished, or the data or the lists of exploits differ.
    """
    old, new = Output(before).summary(), Output(after).summary()
    if old["run"]["exploits"] != new["run"]["exploits"]:
        raise CommandError(f"{before} and {after} use different lists of exploits")
    for name in ("data", "first_block", "last_block", "layout", "chain_id"):
        if old["run"][name] != new["run"][name]:
            raise CommandError(f"{before} and {after} use different data ({name} differs)")
    counts, listed = _changes(before, after)
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
        "changes": counts,
        "transactions": listed,
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


def _changes(before: Path, after: Path) -> tuple[dict[str, int], dict[str, list[dict[str, Any]]]]:
    """How many alerts changed, and the first of each kind, by block."""
    counts, listed = dict.fromkeys(_KINDS, 0), dict[str, list[dict[str, Any]]]()
    with connect() as engine:
        try:
            text = _CHANGES.format(old=_alerts(before), new=_alerts(after), listed=_LISTED)
            rows = engine.sql(text).to_arrow_table().to_pylist()
        except duckdb.Error as error:
            raise unreadable(str(after), error) from error
    for row in rows:
        kind = row.pop("kind")
        counts[kind] = row.pop("n")
        if kind != "same":
            listed.setdefault(kind, []).append(row)
    return counts, listed


def _alerts(folder: Path) -> str:
    """The alerts of a run, as a table of the engine."""
    paths = [str(path) for path in sorted((folder / ALERTS).glob("*/*.parquet"))]
    return parquet(paths) if paths else f"(SELECT {_NO_ALERTS} WHERE false)"


def _a_day(summary: Mapping[str, Any]) -> float:
    return float((summary["review"] + summary["block"]) / (len(summary["days"]) or 1))
