"""Plots of a day's statistics, as PNG bytes."""

from collections.abc import Callable

import matplotlib.dates
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from src.monitoring.forta_alerts.statistics import DailyStatistics, by_hour, primary
from src.reports.pictures import ALARM, BLUE, SEVERITIES, USUAL, YELLOW, draw
from src.utils.constants import ANOMALOUS_ALERT_ID, INVALID_ALERT_ID, NORMAL_ALERT_ID

_INCHES = (8.0, 3.2)


def day_pictures(table: pd.DataFrame, statistics: DailyStatistics) -> dict[str, bytes]:
    """All plots by caption."""
    pictures: dict[str, Callable[[Axes], object]] = {
        "Share of each alert id": lambda axes: _shares(axes, statistics),
        "Alerts per hour, by severity": lambda axes: _hours(axes, table),
        "Anomaly rate, compared with training": lambda axes: _rates(axes, statistics),
        "Anomaly scores": lambda axes: _scores(axes, table, statistics),
        "Anomaly rate at other thresholds": lambda axes: _thresholds(axes, statistics),
    }
    return {caption: draw(paint, inches=_INCHES) for caption, paint in pictures.items()}


def _shares(axes: Axes, statistics: DailyStatistics) -> None:
    kinds = (NORMAL_ALERT_ID, ANOMALOUS_ALERT_ID, INVALID_ALERT_ID)
    shares = [statistics.counts[kind] / statistics.transactions for kind in kinds]
    bars = axes.barh(kinds, shares, color=(USUAL, ALARM, YELLOW))
    axes.bar_label(bars, [f"{share:.2%}" for share in shares], padding=4)
    axes.set(xlabel="share of transactions", xlim=(0, 1.15))
    axes.invert_yaxis()


def _hours(axes: Axes, table: pd.DataFrame) -> None:
    hours = by_hour(table)
    bottom = np.zeros(len(hours))
    for severity in hours.columns:
        counts = hours[severity].to_numpy(dtype=np.float64)
        axes.bar(
            hours.index.to_numpy(), counts, width=1 / 26, bottom=bottom, align="edge",
            color=SEVERITIES[str(severity)], label=str(severity).lower(),
        )  # fmt: skip
        bottom += counts
    clock = matplotlib.dates.DateFormatter("%H:%M")  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(clock)
    axes.set(ylabel="alerts per hour", xlabel="UTC")


def _rates(axes: Axes, statistics: DailyStatistics) -> None:
    rate, low, high = statistics.anomaly_rate
    axes.bar(
        ["training", "this day"],
        [statistics.expected_anomaly_rate, rate],
        yerr=[[0, max(0.0, rate - low)], [0, max(0.0, high - rate)]],
        color=(USUAL, ALARM),
        capsize=6,
    )
    if statistics.deviation is not None:
        axes.set_title(f"{statistics.deviation:+.0f}%")
    axes.set(ylabel="share of anomalies")


def _scores(axes: Axes, table: pd.DataFrame, statistics: DailyStatistics) -> None:
    scores = primary(table)["score"].dropna()
    axes.hist(scores, bins=np.linspace(0.2, 1, 81).tolist(), color=USUAL)
    axes.set(yscale="log", xlabel="anomaly score", ylabel="transactions")
    _mark_threshold(axes, statistics)


def _thresholds(axes: Axes, statistics: DailyStatistics) -> None:
    thresholds = [float(threshold) for threshold in statistics.by_threshold]
    shares = np.array(list(statistics.by_threshold.values()))
    axes.plot(thresholds, np.where(shares > 0, shares, np.nan), marker="o", color=BLUE)
    axes.axhline(statistics.expected_anomaly_rate or np.nan, color="black", linewidth=1, ls=":")
    axes.set(yscale="log", xlabel="threshold", ylabel="share of anomalies")
    _mark_threshold(axes, statistics)


def _mark_threshold(axes: Axes, statistics: DailyStatistics) -> None:
    """A line at the threshold in force, if the alerts state it."""
    if statistics.threshold is not None:
        label = f"threshold in force, {statistics.threshold:g}"
        axes.axvline(statistics.threshold, color=ALARM, linewidth=1.2, ls="--", label=label)
