"""The report of a run as a self-contained HTML file."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import log10
from typing import Any

from src.chain.quantities import dollars
from src.detection.detectors.base import shown_score
from src.reports.page import page, table, tiles, transaction

_HEIGHT = 120  # of a chart, in its own units; its width is 1000
_MAX_DAYS = 4_000


def report(summary: Mapping[str, Any]) -> str:
    """The summary as HTML."""
    parts = [
        _headline(summary),
        _alerts_a_day(summary["days"]),
        _histogram(summary["histogram"], summary["run"]["threshold"]),
        _reasons(summary),
        _exploits(summary["exploits"], summary["run"]),
        _top(summary["top"], summary["run"]),
        _run(summary),
    ]
    return page("Backtest", "".join(parts))


def _headline(summary: Mapping[str, Any]) -> str:
    transactions = summary["transactions"]
    alerts = summary["review"] + summary["block"]
    days = len(summary["days"]) or 1
    share = alerts / transactions if transactions else 0.0
    exploits = summary["exploits"]
    figures = [
        (_number(alerts), f"alerts, {share:.3%} of transactions"),
        (f"{alerts / days:,.1f}", f"alerts per day, over {days:,} days with blocks"),
        (_number(summary["block"]), "of the alerts ask to block"),
        (_number(summary["anomalies"]), "anomalies by the model"),
    ]
    if exploits["judged"]:
        caught = f"{exploits['caught']:,} of {exploits['judged']:,}"
        figures.append((caught, "known exploits caught"))
    blocks = f"{_number(summary['first_block'])} to {_number(summary['last_block'])}"
    said = (
        f"{_number(transactions)} transactions with {_number(summary['transfers'])} ERC-20 "
        f"transfers in blocks {blocks}."
    )
    return f'<p class="quiet">{escape(said)}</p>{tiles(figures)}'


def _alerts_a_day(days: Mapping[str, Mapping[str, int]]) -> str:
    if not days:
        return ""
    highest = max(c["review"] + c["block"] for c in days.values()) or 1
    width = 1000 / len(days)
    bars = []
    for at, (day, counts) in enumerate(days.items()):
        told = f"{day}: {counts['review']:,} to review, {counts['block']:,} to block"
        for kind, top in (("bar", counts["review"] + counts["block"]), ("stop", counts["block"])):
            if top:
                bars.append(_bar(kind, at * width, width, top / highest, told))
    names = list(days)
    rows = [
        (
            escape(day),
            *(_number(counts[name]) for name in ("transactions", "anomalies", "review", "block")),
        )
        for day, counts in list(days.items())[-_MAX_DAYS:]
    ]
    left_out = len(days) - len(rows)
    by_day = table(
        ("day", "transactions", "anomalies", "review", "block"),
        rows,
        note=f"without the first {left_out:,}" if left_out else "",
        numeric=1,
    )
    return (
        f'<h2>Alerts a day</h2><p class="quiet"><span class="key">review</span> and '
        f'<span class="key s">block</span>, at most {highest:,} a day; without days that have no '
        f"blocks</p>{_chart(bars, 'alerts per day')}{_axis(names[0], names[-1])}"
        f"<details><summary>The {len(days):,} days as a table</summary>{by_day}</details>"
    )


def _reasons(summary: Mapping[str, Any]) -> str:
    found = [
        (name, mode, count)
        for mode, counts in (("counts", summary["detectors"]), ("shadow", summary["shadow"]))
        for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
    highest = max((count for *_, count in found), default=1)
    rows = [
        (
            f"<code>{escape(name)}</code>",
            mode,
            _number(count),
            f'<svg viewBox="0 0 1000 10" preserveAspectRatio="none" height="12">'
            f'<rect class="bar" width="{1000 * count / highest:.0f}" height="10"/></svg>',
        )
        for name, mode, count in found
    ]
    note = "transactions for which a detector asks for REVIEW or BLOCK; one can have several"
    shown = table(("detector", "mode", "transactions", ""), rows, note=note, numeric=2, until=3)
    return f"<h2>By reason</h2>{shown}"


def _exploits(exploits: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    if not exploits["listed"]:
        return ""
    in_data, judged = exploits["in_data"], exploits["judged"]
    note = f"{exploits['caught']:,} of {judged:,} caught"
    if judged > in_data:
        note += f"; {judged - in_data:,} of these are not in the data but listed with transfers"
    unseen = exploits["listed"] - judged
    if unseen:
        note += f"; {unseen:,} more are listed by their hashes alone and not in the data"
    # Missed exploits first: they matter most to the reader.
    order = {"ALLOW": 0, "REVIEW": 1, "BLOCK": 2}
    rows = [
        (
            '<span class="missed">missed</span>' if row["action"] == "ALLOW" else row["action"],
            _score(row["anomaly_score"]),
            _score(row["attack_score"], 4),
            transaction(row["tx_hash"], run["chain_id"]),
            _number(row["block_number"]) if row["in_data"] else "listed",
            f'<span class="sentence long">{escape(_reason(row, run["threshold"]))}</span>',
        )
        for row in sorted(
            exploits["transactions"],
            key=lambda row: (order[row["action"]], row["anomaly_score"] or 0.0, row["tx_hash"]),
        )
    ]
    names = ("action", "score", "attack score", "transaction", "block", "reason")
    return f"<h2>Known exploits</h2>{table(names, rows, note=note)}"


def _top(rows: Sequence[Mapping[str, Any]], run: Mapping[str, Any]) -> str:
    cells = [
        (
            _score(row["anomaly_score"]),
            _score(row["attack_score"], 4),
            row["action"],
            f'<span class="sentence long">{escape(row["summary"])}</span>',
            transaction(row["tx_hash"], run["chain_id"]),
            _number(row["block_number"]),
            _number(row["n_transfers"]),
            *(_dollars(row[name]) for name in ("gained_usd", "lost_usd")),
        )
        for row in rows
    ]
    names = (
        "score", "attack score", "action", "who gained and lost what", "transaction", "block",
        "transfers", "gained", "lost",
    )  # fmt: skip
    note = (
        "npm run report -- HASH --store STORE draws one of them; gains and losses at fixed prices, "
        "since a history holds no others: listed stablecoins at one dollar, anything else is "
        "unknown; without native value and gas"
    )
    return f"<h2>Top anomalies</h2>{table(names, cells, note=note, numeric=5)}"


def _reason(row: Mapping[str, Any], threshold: float) -> str:
    """Why a known exploit was caught or missed."""
    if row["action"] != "ALLOW":
        return str(row["reason"])
    if row["anomaly_score"] is None:
        return "not scored, its sender is not known, and no detector asks for a review"
    if row["anomaly"]:
        return f"an anomaly, but the policy asks for no review: {row['reason']}"
    return f"its score is below the threshold of {threshold:g}, and no detector asks for a review"


def _histogram(bins: Sequence[int], threshold: float) -> str:
    if not any(bins):
        return ""
    # Logarithmic, since the tail matters and is a thousandth of the bulk.
    heights = [1 + log10(count) if count else 0.0 for count in bins]
    highest, width = max(heights), 1000 / len(bins)
    bars = [
        _bar(
            "stop" if at / len(bins) >= threshold else "bar",
            at * width,
            width,
            height / highest,
            f"{at / len(bins):.2f}: {bins[at]:,}",
        )
        for at, height in enumerate(heights)
        if height
    ]
    return (
        '<h2>Scores</h2><p class="quiet">transactions by anomaly score, logarithmic; '
        f'<span class="key s">at or above the threshold</span> of {threshold:g}</p>'
        f"{_chart(bars, 'distribution of scores')}{_axis('0', '0.25', '0.5', '0.75', '1')}"
    )


def _run(summary: Mapping[str, Any]) -> str:
    run = summary["run"]
    facts = [
        ("threshold", f"{run['threshold']:g}"),
        ("model", f"{run['model_version']}, SHA-256 {run['model']}"),
        ("policy", f"{run['policy_name']}, SHA-256 {run['policy']}"),
        ("data", f"{run['layout']}, SHA-256 of its files' footers {run['data']}"),
        ("chain", str(run["chain_id"])),
        ("not scored, sender unknown", _number(summary["without_sender"])),
        ("transfers without a transaction", _number(summary["transfers_without_transaction"])),
    ]
    rows = [(escape(a), f'<span class="long">{escape(b)}</span>') for a, b in facts]
    return f"<h2>The run</h2>{table((), rows)}"


def _bar(kind: str, left: float, width: float, share: float, told: str) -> str:
    height = _HEIGHT * share
    return (
        f'<rect class="{kind}" x="{left:.2f}" y="{_HEIGHT - height:.2f}" '
        f'width="{max(width * 0.9, 0.5):.2f}" height="{height:.2f}">'
        f"<title>{escape(told)}</title></rect>"
    )


def _chart(bars: Iterable[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 1000 {_HEIGHT}" role="img" aria-label="{escape(label)}" '
        f'preserveAspectRatio="none" height="{_HEIGHT}">{"".join(bars)}</svg>'
    )


def _axis(*names: str) -> str:
    return f'<div class="axis">{"".join(f"<span>{escape(name)}</span>" for name in names)}</div>'


def _number(value: int | None) -> str:
    return "none" if value is None else f"{value:,}"


def _dollars(value: float | None) -> str:
    return "unknown" if value is None else dollars(value)


def _score(value: float | None, digits: int = 3) -> str:
    return "none" if value is None else escape(shown_score(value, digits))
