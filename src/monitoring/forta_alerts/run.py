"""A day's alerts from Forta's API, and their statistics as files."""

import argparse
import os
import sys
from contextlib import closing
from datetime import date
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from src.detection.forest.manifest import read_manifest
from src.files import write_file
from src.monitoring.forta_alerts.api import DEFAULT_URL, FortaApi
from src.monitoring.forta_alerts.daily_report import to_json, to_page, to_text
from src.monitoring.forta_alerts.statistics import (
    alerts_table,
    daily_statistics,
    threshold_in_force,
)
from src.settings import load_settings, model_public_key


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    key = os.environ.get("FORTA_API_KEY") or None
    table = fetch_day(options.bot, options.date, key=key, url=options.url, chain_id=options.chain)
    expected = expected_rate(load_settings().model_path, threshold_in_force(table))
    statistics = daily_statistics(table, expected)
    if options.html:
        title = f"Alerts of {options.date} by {options.bot[:10]}"
        page = to_page(table, statistics, title, chain_id=options.chain)
        write_file(options.html, page.encode())
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


def expected_rate(model_path: Path, threshold: float | None = None) -> float:
    """The share of training transactions that a model flags at a threshold, None for its own.

    Raises:
        ModelError: the model's manifest is unusable.
    """
    manifest = read_manifest(model_path, model_public_key())
    return manifest.share_flagged(manifest.anomaly_threshold if threshold is None else threshold)
