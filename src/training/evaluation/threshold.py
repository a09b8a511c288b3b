"""From an alert budget to a threshold: `npm run threshold -- --alerts-per-day N`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from src import cli
from src.detection.forest.manifest import read_manifest
from src.files import reason
from src.registry.bundle import EVALUATION_FILE, bundle_file
from src.settings import load_settings

_DESCRIPTION = """\
Find the threshold at which the model raises as many false alerts as you can look at, and the share
of known exploits that it then flags. Read from the evaluation beside the model.
"""
_EPILOG = """\
examples:
  npm run threshold -- --alerts-per-day 200
  npm run threshold -- --rate 0.004

Use the threshold:  ANOMALY_THRESHOLD=0.7 npm start

exit codes: 0 found, 1 no evaluation of this model or no such threshold, 2 wrong usage.
"""


class NoThreshold(ValueError):
    """The evaluation does not reach as far as the budget asks."""


def threshold_for(figures: dict[str, Any], rate: float) -> dict[str, Any]:
    """The lowest evaluated threshold that flags at most this share of ordinary transactions.

    Raises:
        NoThreshold: the evaluation is of too few transactions to state such a rate, or the rate is
            above that of the lowest threshold evaluated.
    """
    transactions = figures["data"]["background"]["transactions"]
    if rate * transactions < 1:
        raise NoThreshold(
            f"a share of {rate:.3g} is less than one of the {transactions:,} transactions of the "
            "evaluation: it says nothing about so rare alerts"
        )
    points: list[dict[str, Any]] = figures["operating_points"]
    if rate > points[0]["background"]:
        raise NoThreshold(
            f"a share of {rate:.3g} is above that of the lowest threshold evaluated, "
            f"{points[0]['threshold']:g} ({points[0]['background']:.2%})"
        )
    if rate < points[-1]["background"]:
        raise NoThreshold(f"no threshold evaluated flags as little as a share of {rate:.3g}")
    return next(point for point in points if point["background"] <= rate)


@cli.options("threshold", _DESCRIPTION, _EPILOG, run="src.training.evaluation.threshold")
def main(parser: cli.Parser) -> None:
    """Declare the command's options."""
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument(
        "--alerts-per-day", type=cli.positive_number, metavar="N", help="false alerts a day"
    )
    budget.add_argument(
        "--rate", type=cli.number(0, 1, above=True), metavar="R", help="share flagged, e.g. 0.004"
    )
    add = parser.add_argument
    parser.common("--model")
    add("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    settings = load_settings()
    model_path = options.model or settings.model_path
    manifest = read_manifest(model_path, settings.model_public_key)
    figures = _evaluation_of(bundle_file(model_path.parent, EVALUATION_FILE), manifest.sha256)
    a_day = figures["data"]["transactions_with_transfers_a_day"]
    rate = options.rate if options.rate is not None else options.alerts_per_day / a_day
    point = threshold_for(figures, rate)
    if options.json:
        sys.stdout.write(json.dumps({"transactions_a_day": a_day, **point}) + "\n")
        return 0
    low, high = point["background_by_block"]
    sys.stdout.write(
        f"ANOMALY_THRESHOLD={point['threshold']:g}\n"
        f"  ordinary transactions flagged: {point['background']:.2%} (95%: {low:.2%} to {high:.2%})"
        f", {point['background'] * a_day:,.0f} a day ({low * a_day:,.0f} to {high * a_day:,.0f}) "
        f"of {a_day:,.0f} with token transfers\n"
        f"  known exploits flagged: {point['recall']:.0%} (95%: {point['by_row'][0]:.0%} to "
        f"{point['by_row'][1]:.0%} by row, {point['by_cluster'][0]:.0%} to "
        f"{point['by_cluster'][1]:.0%} by cluster)\n"
    )
    return 0


def _evaluation_of(path: Path, sha256: str) -> dict[str, Any]:
    try:
        figures: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise NoThreshold(
            f"{path} is missing: make it with `npm run evaluate -- --model-card`"
        ) from None
    except ValueError as error:
        raise NoThreshold(f"{path}: {reason(error)}") from error
    if figures.get("model_sha256") != sha256:
        raise NoThreshold(
            f"{path} is of another model: evaluate this one with `npm run evaluate -- --model-card`"
        )
    return figures


if __name__ == "__main__":
    sys.exit(main())
