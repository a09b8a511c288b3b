"""The summary of a run's journal, for the report and for comparisons."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

TOP = 20


def summarise(
    run: Mapping[str, Any],
    entries: Iterable[Mapping[str, Any]],
    exploits: frozenset[str],
    listed: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Add up the journal's entries, in order of the blocks.

    The summary is deterministic: it does not depend on clocks or engines.

    Args:
        run: options of the run.
        entries: the journal.
        exploits: hashes of known exploits.
        listed: decisions on exploits that are listed with transfers; those that are also in the
            data count once, with the decision on the data.
    """
    totals: Counter[str] = Counter()
    days: dict[str, Counter[str]] = {}
    detectors: Counter[str] = Counter()
    shadow: Counter[str] = Counter()
    histogram: list[int] = []
    top: list[dict[str, Any]] = []
    hits: dict[str, dict[str, Any]] = {}
    blocks: list[int] = []
    for entry in entries:
        for name in ("transactions", "transfers", "without_sender", "orphans"):
            totals[name] += entry[name]
        for day, counts in entry["days"].items():
            days.setdefault(day, Counter()).update(counts)
        detectors.update(entry["detectors"])
        shadow.update(entry["shadow"])
        bins = entry["histogram"]
        histogram = [a + b for a, b in zip(histogram or [0] * len(bins), bins, strict=True)]
        top += entry["top"]
        hits.update({row["tx_hash"]: row for row in entry["exploits"]})
        blocks += [entry["first_block"], entry["last_block"]]
    top.sort(key=lambda row: (-row["anomaly_score"], row["block_number"], row["tx_hash"]))
    known = [{**hits[tx_hash], "in_data": True} for tx_hash in sorted(hits)]
    apart = {row["tx_hash"]: row for row in listed if row["tx_hash"] not in hits}
    known += [{**apart[tx_hash], "in_data": False} for tx_hash in sorted(apart)]
    caught = [row["tx_hash"] for row in known if row["action"] != "ALLOW"]
    return {
        "run": dict(run),
        "first_block": min(blocks, default=None),
        "last_block": max(blocks, default=None),
        **{name: totals[name] for name in ("transactions", "transfers", "without_sender")},
        "transfers_without_transaction": totals["orphans"],
        "anomalies": sum(counts["anomalies"] for counts in days.values()),
        "review": sum(counts["review"] for counts in days.values()),
        "block": sum(counts["block"] for counts in days.values()),
        "days": {day: dict(sorted(counts.items())) for day, counts in sorted(days.items())},
        "detectors": dict(sorted(detectors.items())),
        "shadow": dict(sorted(shadow.items())),
        "histogram": histogram,
        "top": top[:TOP],
        "exploits": {
            "listed": len(exploits),
            "in_data": len(hits),
            "judged": len(known),
            "caught": len(caught),
            "transactions": known,
        },
    }
