"""One day of a bot's published alerts: `npm run stats -- --bot ID --date D`."""

import argparse
import json
import os
import sys
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from src import cli
from src.detection.forest.manifest import read_manifest
from src.files import write_file
from src.monitoring.forta_alerts.api import DEFAULT_URL, FortaApi
from src.monitoring.forta_alerts.pictures import day_pictures
from src.monitoring.forta_alerts.statistics import DailyStatistics, alerts_table, daily_statistics
from src.reports.page import Section, to_html
from src.settings import load_settings, model_public_key

KEY_VARIABLE = "FORTA_API_KEY"
URL_VARIABLE = "FORTA_API_URL"
_BOT_ID_LENGTH = 66

_DESCRIPTION = """\
Read a day's alerts of a bot from the Forta API and say what they show: the anomaly and invalid
rates, their deviation from training's, severities over the day, scores, other thresholds, and the
five most anomalous transactions.
"""
_EPILOG = f"""\
The key stands in ${KEY_VARIABLE}. notebooks/daily_model_stats.ipynb shows the same, step by step.

example:
  npm run stats -- --bot 0x... --date 2026-01-31 --html day.html

exit codes: 0 done, 1 the API failed or the day has no alerts, 2 wrong usage.
"""


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
        SourceError: the API gives no answer.
    """
    with closing(FortaApi(key, url=url)) as api:
        alerts = api.alerts_of_day(bot, day, chain_id=chain_id)
        return alerts_table(tqdm(alerts, unit="alert", disable=not sys.stderr.isatty()))


def expected_rate(model_path: Path) -> float:
    """The share of training transactions that a model flags at its threshold.

    Raises:
        ModelError: the model has no usable manifest.
    """
    manifest = read_manifest(model_path, model_public_key())
    stated = manifest.training.get("background_share_flagged")
    if isinstance(stated, int | float):
        return float(stated)
    above = [score >= manifest.anomaly_threshold for score in manifest.score_quantiles]
    return sum(above) / len(above)


def to_json(statistics: DailyStatistics) -> str:
    """The statistics for machines."""
    return json.dumps(asdict(statistics), indent=1, allow_nan=False) + "\n"


def to_text(statistics: DailyStatistics) -> str:
    """The statistics for the terminal."""
    return "".join(f"{name:<28}{value}\n" for name, value in _figures(statistics))


def to_page(table: pd.DataFrame, statistics: DailyStatistics, title: str) -> str:
    """The statistics and their pictures for people."""
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


@cli.command("stats")
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parse(arguments)
    rate = options.expected_rate
    if rate is None:
        rate = expected_rate(load_settings().model_path)
    table = fetch_day(
        options.bot,
        options.date,
        key=os.environ.get(KEY_VARIABLE) or None,
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


def _figures(statistics: DailyStatistics) -> list[tuple[str, str]]:
    deviation = statistics.deviation
    rows = [
        ("transactions", f"{statistics.transactions:,}"),
        ("anomaly rate", _rate(statistics.anomaly_rate)),
        ("... in training", f"{statistics.expected_anomaly_rate:.3%}"),
        ("... deviation", "unknown" if deviation is None else f"{deviation:+.1f}%"),
        ("invalid rate", _rate(statistics.invalid_rate)),
        ("repeated alerts, left out", f"{statistics.repeated:,}"),
    ]
    rows += [(f"alerts {name}", f"{count:,}") for name, count in statistics.other.items()]
    rows += [
        (f"by model {name}", f"{count:,}") for name, count in statistics.model_versions.items()
    ]
    return rows


def _rate(rate: tuple[float, float, float]) -> str:
    return f"{rate[0]:.3%} ({rate[1]:.3%} to {rate[2]:.3%})"


def _bot(text: str) -> str:
    bot = text.strip().lower()
    hexadecimal = bot.startswith("0x") and all(digit in "0123456789abcdef" for digit in bot[2:])
    if len(bot) != _BOT_ID_LENGTH or not hexadecimal:
        raise argparse.ArgumentTypeError("a bot id: 0x and 64 hexadecimal digits")
    return bot


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day: YYYY-MM-DD") from None


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("stats", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    add("--bot", type=_bot, required=True, metavar="ID", help="the bot's id")
    add("--date", type=_day, default=yesterday, metavar="D",
        help="the UTC day, YYYY-MM-DD (yesterday)")  # fmt: skip
    add("--chain", type=cli.natural, default=1, metavar="N", help="the chain (1)")
    add("--expected-rate", type=cli.share, metavar="R",
        help="anomaly rate to compare with, 0 to 1 (that of the model's training)")  # fmt: skip
    add("--url", type=cli.http_url, metavar="URL",
        default=os.environ.get(URL_VARIABLE) or DEFAULT_URL,
        help=f"the API (${URL_VARIABLE}, else {DEFAULT_URL})")  # fmt: skip
    add("--html", type=cli.output_file, metavar="FILE", help="write the report with pictures")
    add("--json", type=cli.output_file, metavar="FILE", help="write the figures for machines")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
