"""One day of a bot's published alerts: `npm run stats -- --bot ID --date D`."""

import argparse
import os
import re
import sys
from datetime import UTC, date, datetime, timedelta

from src import cli
from src.monitoring.forta_alerts.api import DEFAULT_URL

URL_VARIABLE = "FORTA_API_URL"

_DESCRIPTION = """\
Read a day's alerts of a bot from the Forta API and report statistics: the anomaly and invalid
rates, their deviation from training, severities over the day, scores, other thresholds, and the
five most anomalous transactions.
"""

_EPILOG = """\
Set the API key in $FORTA_API_KEY. notebooks/daily_model_stats.ipynb shows the same, step by step.

example:
  npm run stats -- --bot 0x... --date 2026-01-31 --html day.html

exit codes: 0 done, 1 the API failed or the day has no alerts, 2 wrong usage.
"""


def _bot(text: str) -> str:
    bot = text.strip().lower()
    if not re.fullmatch("0x[0-9a-f]{64}", bot):
        raise argparse.ArgumentTypeError(f"{text!r} is not a bot id: 0x and 64 hexadecimal digits")
    return bot


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day: YYYY-MM-DD") from None


@cli.options("stats", _DESCRIPTION, _EPILOG, run="src.monitoring.forta_alerts.run")
def main(parser: cli.Parser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    add("--bot", type=_bot, required=True, metavar="ID", help="the bot's id")
    add("--date", type=_day, default=yesterday, metavar="D",
        help="the UTC day, YYYY-MM-DD (yesterday)")  # fmt: skip
    add("--chain", type=cli.chain, default=1, metavar="CHAIN", help="id or name (1)")
    add("--url", type=cli.http_url, metavar="URL",
        default=os.environ.get(URL_VARIABLE) or DEFAULT_URL,
        help=f"the API (${URL_VARIABLE}, else {DEFAULT_URL})")  # fmt: skip
    add("--html", type=cli.output_file, metavar="FILE", help="write the report with plots as HTML")
    add("--json", type=cli.output_file, metavar="FILE", help="write the statistics as JSON")


if __name__ == "__main__":
    sys.exit(main())
