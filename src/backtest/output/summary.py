"""The summary of a run, from its decisions and alerts, for the report and for comparisons."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from src.backtest.output.output import ALERTS, DECISIONS
from src.detection.records import Action
from src.history.sources import connect, parquet

_TOP = 20
_BINS = 100
_FORM = (
    """'[{"detector": "VARCHAR", "action": "VARCHAR", "status": "VARCHAR", "reason": "VARCHAR"}]'"""
)
_READ = {
    DECISIONS: "*",
    ALERTS: "* REPLACE ("
    + ", ".join(f"from_json({name}, {_FORM}) AS {name}" for name in ("reasons", "shadow_reasons"))
    + ")",
}
_DAY = "regexp_extract(filename, 'day=([^/]*)/[^/]*$', 1) AS day"
_DAYS = f"""
SELECT day, count(*) AS transactions, count(*) FILTER (prediction = 'ANOMALY') AS anomalies,
    {", ".join(f"count(*) FILTER (action = '{a.name}') AS {a.name.lower()}" for a in Action)},
    count(*) FILTER (anomaly_score IS NULL) AS without_sender
FROM decisions WHERE in_data GROUP BY day ORDER BY day
"""
_HISTOGRAM = f"""
SELECT least(CAST(floor(anomaly_score * {_BINS}) AS INT), {_BINS - 1}) AS bin, count(*) AS n
FROM decisions WHERE in_data AND anomaly_score IS NOT NULL GROUP BY bin
"""
_DETECTORS = """
SELECT verdict.detector AS name, count(*) AS n
FROM (SELECT unnest({column}) AS verdict FROM alerts WHERE in_data)
WHERE verdict.action <> 'ALLOW' GROUP BY name ORDER BY name
"""
_ROWS = """
SELECT tx_hash, d.block_number, d.from_address, d.n_transfers, d.anomaly_score, d.attack_score,
    d.prediction = 'ANOMALY' AS anomaly, d.action,
    CASE WHEN a.reasons[1].status = 'decided' THEN a.reasons[1].reason ELSE '' END AS reason,
    coalesce(a.summary, '') AS summary, a.gained_usd, a.lost_usd, in_data
FROM {decisions} d LEFT JOIN alerts a USING (tx_hash, in_data)
"""
"""What the report shows of a transaction; one that is listed and in the data is there once."""
_BEST = f"""(FROM alerts WHERE prediction = 'ANOMALY' AND in_data
    ORDER BY anomaly_score DESC, block_number, tx_hash LIMIT {_TOP})"""
_KNOWN = """(FROM decisions SEMI JOIN known USING (tx_hash)
    QUALIFY row_number() OVER (PARTITION BY tx_hash ORDER BY in_data DESC) = 1)"""


def summarise(
    run: Mapping[str, Any],
    folder: Path,
    entries: Iterable[Mapping[str, Any]],
    exploits: Collection[str],
    listed: tuple[pa.Table, pa.Table],
) -> dict[str, Any]:
    """Add up what a run has written; depends neither on clocks nor on engines.

    Args:
        run: options of the run.
        folder: of the run.
        entries: its journal.
        exploits: hashes of known exploits.
        listed: decisions and alerts on exploits that are listed with transfers; those that are also
            in the data count once, with the decision on the data.
    """
    entries = list(entries)
    with connect() as engine:
        for name, table in zip((DECISIONS, ALERTS), listed, strict=True):
            engine.register(f"listed_{name}", table)
            paths = [str(path) for path in sorted(folder.glob(f"{name}/*/*.parquet"))]
            sources = {"false": f"(SELECT *, '' AS day FROM listed_{name})"}
            if paths:
                sources["true"] = f"(SELECT *, {_DAY} FROM {parquet(paths)})"
            views = (f"SELECT {_READ[name]}, {i} AS in_data FROM {s}" for i, s in sources.items())
            engine.execute(f"CREATE VIEW {name} AS {' UNION ALL BY NAME '.join(views)}")
        engine.register("known", pa.table({"tx_hash": pa.array(sorted(exploits), pa.string())}))

        def rows(text: str) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = engine.sql(text).to_arrow_table().to_pylist()
            return found

        days = {row.pop("day"): row for row in rows(_DAYS)}
        without_sender = sum(counts.pop("without_sender") for counts in days.values())
        bins = {row["bin"]: row["n"] for row in rows(_HISTOGRAM)}
        detectors, shadow = (
            {row["name"]: row["n"] for row in rows(_DETECTORS.format(column=c))}
            for c in ("reasons", "shadow_reasons")
        )
        order = "ORDER BY anomaly_score DESC, block_number, tx_hash"
        top = rows(f"{_ROWS.format(decisions=_BEST)} {order}")
        known = rows(f"{_ROWS.format(decisions=_KNOWN)} ORDER BY NOT in_data, tx_hash")
    blocks = [entry[name] for entry in entries for name in ("first_block", "last_block")]
    return {
        "run": dict(run),
        "first_block": min(blocks, default=None),
        "last_block": max(blocks, default=None),
        "transactions": sum(counts["transactions"] for counts in days.values()),
        "transfers": sum(entry["transfers"] for entry in entries),
        "without_sender": without_sender,
        "transfers_without_transaction": sum(entry["orphans"] for entry in entries),
        **{
            name: sum(counts[name] for counts in days.values())
            for name in ("anomalies", "review", "block")
        },
        "days": days,
        "detectors": detectors,
        "shadow": shadow,
        "histogram": [bins.get(number, 0) for number in range(_BINS if bins else 0)],
        "top": top,
        "exploits": {
            "listed": len(exploits),
            "in_data": sum(row["in_data"] for row in known),
            "judged": len(known),
            "caught": sum(row["action"] != Action.ALLOW.name for row in known),
            "transactions": known,
        },
    }
