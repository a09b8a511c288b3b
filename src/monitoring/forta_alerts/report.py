"""A day's alerts as statistics: as text, as a page and as JSON."""

import argparse
import json
import sys
from contextlib import closing
from dataclasses import asdict
from datetime import date
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from src.detection.forest.manifest import read_manifest
from src.files import write_file
from src.monitoring.forta_alerts.api import DEFAULT_URL, FortaApi
from src.monitoring.forta_alerts.pictures import day_pictures
from src.monitoring.forta_alerts.statistics import DailyStatistics, alerts_table, daily_statistics
from src.reports.page import Section, to_html
from src.settings import load_settings, model_public_key


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    rate = options.expected_rate
    if rate is None:
        rate = expected_rate(load_settings().model_path)
    table = fetch_day(
        options.bot,
        options.date,
        key=options.key,
        url=options.url,
        chain_id=options.chain,
    )
    statistics = daily_statistics(table, rate)
    if options.html:
        title = f"Alerts of {options.date} by {options.bot[:10]}"
        write_file(options.html, to_page(table, statistics, title).encode())
    if options.json:
        write_file(options.json, to_json(statistics).encode())
    sys.stdout.write(to_text(statistics))
    return 0


def fetch_day(
    bot: str,
    day: date,
    *,
    key: str | None = None,
    url: str = DEFAULT_URL,
    chain_id: int = 1,
) -> pd.DataFrame:
    """A day's alerts as a table, see `statistics.COLUMNS`.

    Raises:
        SourceError: the API does not answer.
    """
    with closing(FortaApi(key, url=url)) as api:
        alerts = api.alerts_of_day(bot, day, chain_id=chain_id)
        return alerts_table(tqdm(alerts, unit="alert", disable=not sys.stderr.isatty()))


def expected_rate(model_path: Path) -> float:
    """The share of training transactions that a model flags at its threshold.

    Raises:
        ModelError: the model's manifest is unusable.
    """
    manifest = read_manifest(model_path, model_public_key())
    stated = manifest.training.get("background_share_flagged")
    if isinstance(stated, int | float):
        return float(stated)
    above = [score >= manifest.anomaly_threshold for score in manifest.score_quantiles]
    return sum(above) / len(above)


def to_json(statistics: DailyStatistics) -> str:
    """The statistics as JSON."""
    return json.dumps(asdict(statistics), indent=1, allow_nan=False) + "\n"


def to_text(statistics: DailyStatistics) -> str:
    """The statistics for the terminal."""
    return "".join(f"{name:<28}{value}\n" for name, value in _figures(statistics))


def to_page(table: pd.DataFrame, statistics: DailyStatistics, title: str) -> str:
    """The statistics and their plots as HTML."""
    pictures = list(day_pictures(table, statistics).items())
    worst = [
        (entry["tx_hash"], f"{entry['score']:.3f}", str(entry["block"]))
        for entry in statistics.most_anomalous
    ]
    thresholds = [(name, f"{share:.3%}") for name, share in statistics.by_threshold.items()]
    return to_html(
        title,
        [
            Section("Figures", (), ("", ""), _figures(statistics), pictures),
            Section("Other thresholds", (), ("threshold", "anomaly rate"), thresholds),
            Section("Most anomalous", (), ("transaction", "score", "block"), worst),
        ],
    )


def _figures(statistics: DailyStatistics) -> list[tuple[str, str]]:
    deviation = statistics.deviation
    rows = [
        ("transactions", f"{statistics.transactions:,}"),
        ("anomaly rate", _rate(statistics.anomaly_rate)),
        ("... in training", f"{statistics.expected_anomaly_rate:.3%}"),
        ("... deviation", "unknown" if deviation is None else f"{deviation:+.1f}%"),
        ("invalid rate", _rate(statistics.invalid_rate)),
        ("repeated alerts, ignored", f"{statistics.repeated:,}"),
    ]
    rows += [(f"alerts {name}", f"{count:,}") for name, count in statistics.other.items()]
    rows += [
        (f"by model {name}", f"{count:,}") for name, count in statistics.model_versions.items()
    ]
    return rows


def _rate(rate: tuple[float, float, float]) -> str:
    return f"{rate[0]:.3%} ({rate[1]:.3%} to {rate[2]:.3%})"
