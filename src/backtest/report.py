"""The report of a run as one HTML file that needs nothing else."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
  color: #1b1f24; background: #fff }
h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse; width: 100% } caption { text-align: left; color: #57606a }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #d8dee4; text-align: left;
  vertical-align: top } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
code { font-size: .85em; overflow-wrap: anywhere } .bar { fill: #0969da } .block { fill: #cf222e }
.missed { color: #a40e26; font-weight: 600 } .wide { overflow-x: auto } svg { width: 100% }
@media (prefers-color-scheme: dark) { body { color: #e6edf3; background: #0d1117 }
  th, td { border-color: #30363d } .missed { color: #ff7b72 } caption { color: #8b949e } }
"""
_MOST_DAYS = 400


def report(summary: Mapping[str, Any]) -> str:
    """The summary as HTML."""
    run = summary["run"]
    transactions = summary["transactions"]
    alerts = summary["review"] + summary["block"]
    days = len(summary["days"]) or 1
    share = alerts / transactions if transactions else 0.0
    facts = [
        ("blocks", f"{_number(summary['first_block'])} to {_number(summary['last_block'])}"),
        ("transactions with ERC-20 transfers", _number(transactions)),
        ("ERC-20 transfers", _number(summary["transfers"])),
        ("alerts", f"{_number(alerts)} ({share:.3%}), {alerts / days:,.1f} a day with blocks"),
        ("of these to block", _number(summary["block"])),
        ("anomalies by the model", _number(summary["anomalies"])),
        ("not scored, sender unknown", _number(summary["without_sender"])),
        ("transfers without a transaction", _number(summary["transfers_without_transaction"])),
        ("threshold", f"{run['threshold']:g}"),
        ("model", f"{run['model_version']}, SHA-256 {run['model'][:16]}…"),
        ("policy", f"{run['policy_name']}, SHA-256 {run['policy'][:16]}…"),
        ("data", f"{run['layout']}, {run['data'][:16]}…"),
    ]
    parts = [
        _table("The run", ("", ""), [(escape(a), escape(b)) for a, b in facts]),
        _alerts_a_day(summary["days"]),
        _reasons(summary),
        _exploits(summary["exploits"]),
        _top(summary["top"]),
        _histogram(summary["histogram"], run["threshold"]),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Backtest</title>'
        f"<style>{_STYLE}</style></head><body><h1>Backtest</h1>{''.join(parts)}</body></html>\n"
    )


def _alerts_a_day(days: Mapping[str, Mapping[str, int]]) -> str:
    if not days:
        return ""
    rows = [
        (
            escape(day),
            *(_number(counts[name]) for name in ("transactions", "anomalies", "review", "block")),
        )
        for day, counts in days.items()
    ]
    shown = rows[:_MOST_DAYS]
    highest = max((c["review"] + c["block"] for c in days.values()), default=0) or 1
    width = 1000 / len(days)
    bars = []
    for at, (day, counts) in enumerate(days.items()):
        for kind, top in (("bar", counts["review"] + counts["block"]), ("block", counts["block"])):
            height = 120 * top / highest
            bars.append(
                f'<rect class="{kind}" x="{at * width:.2f}" y="{120 - height:.2f}" '
                f'width="{max(width * 0.9, 0.5):.2f}" height="{height:.2f}">'
                f"<title>{escape(day)}: {top:,}</title></rect>"
            )
    chart = (
        '<svg viewBox="0 0 1000 120" role="img" aria-label="alerts a day" '
        f'preserveAspectRatio="none" height="120">{"".join(bars)}</svg>'
    )
    note = f"the first {_MOST_DAYS} of {len(rows):,} days" if len(shown) < len(rows) else ""
    names = ("day", "transactions", "anomalies", "review", "block")
    return _table("Alerts a day", names, shown, note=note, before=chart, numeric=1)


def _reasons(summary: Mapping[str, Any]) -> str:
    rows = [
        (escape(name), mode, _number(count))
        for mode, found in (("counts", summary["detectors"]), ("shadow", summary["shadow"]))
        for name, count in sorted(found.items(), key=lambda item: (-item[1], item[0]))
    ]
    note = "transactions for which a detector asked for REVIEW or BLOCK; one can have several"
    return _table("By reason", ("detector", "mode", "transactions"), rows, note=note, numeric=2)


def _exploits(exploits: Mapping[str, Any]) -> str:
    if not exploits["listed"]:
        return ""
    rows = [
        (
            f"<code>{escape(row['tx_hash'])}</code>",
            _score(row["anomaly_score"]),
            row["action"] if row["action"] != "ALLOW" else '<span class="missed">missed</span>',
            escape(row["reason"]),
        )
        for row in exploits["transactions"]
    ]
    note = (
        f"{exploits['caught']:,} of {exploits['in_data']:,} caught; "
        f"{exploits['listed'] - exploits['in_data']:,} of the list are not in the data"
    )
    names = ("transaction", "score", "action", "reason")
    return _table("Known exploits", names, rows, note=note)


def _top(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        (
            _score(row["anomaly_score"]),
            f"<code>{escape(row['tx_hash'])}</code>",
            _number(row["block_number"]),
            f"<code>{escape(row['from_address'] or '')}</code>",
            _number(row["n_transfers"]),
            row["action"],
        )
        for row in rows
    ]
    names = ("score", "transaction", "block", "sender", "transfers", "action")
    return _table("Top anomalies", names, cells)


def _histogram(bins: Sequence[int], threshold: float) -> str:
    if not bins:
        return ""
    # Logarithmic: the tail is what matters, and it is a thousandth of the bulk.
    heights = [0 if not count else 10 + 100 * _digits(count) for count in bins]
    highest = max(heights, default=0) or 1
    width = 1000 / len(bins)
    bars = "".join(
        f'<rect class="{"block" if at / len(bins) >= threshold else "bar"}" x="{at * width:.1f}" '
        f'y="{120 - 120 * height / highest:.1f}" width="{width * 0.9:.1f}" '
        f'height="{120 * height / highest:.1f}"><title>{at / len(bins):.2f}: {bins[at]:,}</title>'
        "</rect>"
        for at, height in enumerate(heights)
    )
    return (
        "<h2>Scores</h2><p>0 to 1, logarithmic counts; red from the threshold on.</p>"
        f'<svg viewBox="0 0 1000 120" role="img" aria-label="distribution of scores">{bars}</svg>'
    )


def _table(
    title: str, names: Sequence[str], rows: Iterable[Sequence[str]], *, note: str = "",
    before: str = "", numeric: int | None = None,
) -> str:  # fmt: skip
    def cells(tag: str, row: Sequence[str]) -> str:
        first = len(row) if numeric is None else numeric
        return "".join(
            f"<{tag}{' class=n' if at >= first else ''}>{text}</{tag}>"
            for at, text in enumerate(row)
        )

    head = f"<thead><tr>{cells('th', names)}</tr></thead>" if any(names) else ""
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    caption = f"<caption>{escape(note)}</caption>" if note else ""
    return (
        f'<h2>{escape(title)}</h2>{before}<div class="wide"><table>{caption}{head}'
        f"<tbody>{body}</tbody></table></div>"
    )


def _digits(count: int) -> float:
    return len(str(count)) - 1 + int(str(count)[0]) / 10


def _number(value: int | None) -> str:
    return "none" if value is None else f"{value:,}"


def _score(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
