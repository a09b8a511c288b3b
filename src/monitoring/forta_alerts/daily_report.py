"""A day's alerts as statistics: as text, as a page and as JSON."""

import json
from dataclasses import asdict

import pandas as pd

from src.chain.quantities import dollars
from src.monitoring.forta_alerts.pictures import day_pictures
from src.monitoring.forta_alerts.statistics import DailyStatistics
from src.reports.page import Section, to_html

_SUMMARISED = 5  # of the figures, as they are ordered


def to_json(statistics: DailyStatistics) -> str:
    """The statistics as JSON."""
    return json.dumps(asdict(statistics), indent=1, allow_nan=False) + "\n"


def to_text(statistics: DailyStatistics) -> str:
    """The statistics for the terminal."""
    return "".join(f"{name:<28}{value}\n" for name, value in _figures(statistics))


def to_page(
    table: pd.DataFrame, statistics: DailyStatistics, title: str, *, chain_id: int = 1
) -> str:
    """The statistics and their plots as HTML."""
    figures = _figures(statistics)
    pictures = list(day_pictures(table, statistics).items())
    worst = [
        (entry["tx_hash"], f"{entry['score']:.3f}", str(entry["block"]))
        for entry in statistics.most_anomalous
    ]
    gains = [
        (
            entry["tx_hash"],
            dollars(entry["gained_usd"]),
            "arbitrage" if entry["is_arbitrage"] else "",
            entry["summary"],
        )
        for entry in statistics.largest_gains
    ]
    thresholds = [(name, f"{share:.3%}") for name, share in statistics.by_threshold.items()]
    return to_html(
        title,
        [
            Section("The day", pictures=pictures),
            Section(
                "Most anomalous", (), ("transaction", "score", "block"), worst, chain_id=chain_id
            ),
            Section(
                "Largest gains",
                (),
                ("transaction", "gained", "named", "who gained and lost what"),
                gains,
                chain_id=chain_id,
            ),
            Section("Other thresholds", (), ("threshold", "anomaly rate"), thresholds),
            Section("Figures", (), ("", "value"), figures),
        ],
        summary=[_tile(*figure) for figure in figures[:_SUMMARISED]],
    )


def _tile(name: str, value: str) -> tuple[str, str]:
    """A figure as a tile, which has its interval below it."""
    number, _, interval = value.partition(" (")
    return number, f"{name} ({interval}" if interval else name


def _figures(statistics: DailyStatistics) -> list[tuple[str, str]]:
    deviation = statistics.deviation
    rows = [
        ("transactions", f"{statistics.transactions:,}"),
        ("anomaly rate", _rate(statistics.anomaly_rate)),
        ("anomaly rate in training", f"{statistics.expected_anomaly_rate:.3%}"),
        ("deviation from training", "unknown" if deviation is None else f"{deviation:+.1f}%"),
        ("invalid rate", _rate(statistics.invalid_rate)),
        ("repeated alerts, ignored", f"{statistics.repeated:,}"),
        ("gains and losses stated", f"{statistics.reported:,}"),
        ("of them named as arbitrage", f"{statistics.arbitrage:,}"),
        ("of them with a known gain", f"{statistics.gains_known:,}{_median(statistics)}"),
    ]
    rows += [(f"alerts {name}", f"{count:,}") for name, count in statistics.other.items()]
    rows += [
        (f"by model {name}", f"{count:,}") for name, count in statistics.model_versions.items()
    ]
    return rows


def _median(statistics: DailyStatistics) -> str:
    median = statistics.median_gain_usd
    if median is None:
        return ""
    return f" (median {'-' if median < 0 else ''}{dollars(abs(median))})"


def _rate(rate: tuple[float, float, float]) -> str:
    return f"{rate[0]:.3%} ({rate[1]:.3%} to {rate[2]:.3%})"
