"""The evaluation's pictures, as PNG bytes by name. No state of pyplot is touched."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from src.reports.pictures import ALARM, BLUE, SERIES, USUAL, draw
from src.training.evaluation.statistics import Scored


def draw_all(figures: dict[str, Any], detectors: dict[str, Scored]) -> dict[str, bytes]:
    """Draw every picture of a report, by file name."""
    forest = next(iter(detectors.values()))
    return {
        "scores.png": draw(lambda axes: score_distributions(axes, forest, figures["threshold"])),
        "recall.png": draw(lambda axes: recall_curves(axes, detectors)),
        "strata.png": draw(lambda axes: strata_bars(axes, figures["detectors"]), inches=(9, 4)),
        "budget.png": draw(lambda axes: alert_budget(axes, figures)),
        "ablations.png": draw(lambda axes: ablation_dots(axes, figures), inches=(9, 5)),
    }


def score_distributions(axes: Axes, scored: Scored, threshold: float) -> None:
    """Histograms of background and exploits, each as shares of its own, counts on a log axis."""
    bins = np.linspace(0.25, 0.9, 66).tolist()
    for scores, colour, label in (
        (scored.background, USUAL, f"background ({len(scored.background):,})"),
        (scored.exploits, ALARM, f"exploits ({len(scored.exploits)})"),
    ):
        weights = np.full(len(scores), 1 / len(scores))
        axes.hist(scores, bins=bins, weights=weights, color=colour, alpha=0.7, label=label)
    axes.axvline(threshold, color="black", linewidth=1, label=f"threshold {threshold:g}")
    axes.axvline(0.5, color="black", linewidth=1, linestyle=":", label="0.5")
    axes.set(yscale="log", xlabel="anomaly score", ylabel="share of its group")


def recall_curves(axes: Axes, detectors: dict[str, Scored]) -> None:
    """Exploits flagged against background flagged, log axis: the left end is where bots live."""
    rates = np.logspace(-3.5, 0, 200)
    for (name, scored), colour in zip(detectors.items(), SERIES, strict=False):
        thresholds = np.quantile(scored.background, 1 - rates)
        recall = (scored.exploits[None, :] >= thresholds[:, None]).mean(axis=1)
        axes.plot(rates, recall, label=name, color=colour)
    axes.axvline(0.004, color="black", linewidth=1, linestyle=":")
    axes.set(xscale="log", xlabel="share of background flagged", ylabel="share of exploits flagged")


def strata_bars(axes: Axes, detectors: dict[str, Any]) -> None:
    """AUC by number of transfers with intervals by row."""
    strata = list(next(iter(detectors.values()))["auc"])
    width = 0.8 / len(detectors)
    for place, (name, colour) in enumerate(zip(detectors, SERIES, strict=False)):
        rows = [detectors[name]["auc"][stratum] for stratum in strata]
        values = np.array([row["auc"] for row in rows])
        spread = np.array([row["by_row"] for row in rows]).T
        errors = np.abs(spread - values)
        at = np.arange(len(strata)) + (place - (len(detectors) - 1) / 2) * width
        axes.bar(at, values, width, yerr=errors, color=colour, label=name, error_kw={"lw": 0.8})
    axes.set_xticks(np.arange(len(strata)), strata)
    axes.axhline(0.5, color="black", linewidth=0.5, linestyle=":")
    axes.set(ylim=(0, 1.02), xlabel="ERC-20 transfers in the transaction", ylabel="AUC")


def alert_budget(axes: Axes, figures: dict[str, Any]) -> None:
    """Share of background and of exploits flagged, by threshold, with intervals."""
    points = figures["operating_points"]
    thresholds = [point["threshold"] for point in points]
    for key, spread, colour, label in (
        ("background", "background_by_block", USUAL, "background"),
        ("recall", "by_cluster", ALARM, "exploits"),
    ):
        low, high = np.array([point[spread] for point in points]).T
        axes.plot(thresholds, [point[key] for point in points], color=colour, label=label)
        axes.fill_between(thresholds, low, high, color=colour, alpha=0.2)
    axes.axvline(figures["threshold"], color="black", linewidth=1)
    axes.set(yscale="log", ylim=(1e-4, 1.2), xlabel="threshold", ylabel="share flagged")


def ablation_dots(axes: Axes, figures: dict[str, Any]) -> None:
    """AUC without feature groups and over splits of the data."""
    rows = [row for row in figures["ablations"] if row["exploits"]]
    names = [row["name"] for row in rows]
    values = [row["auc"] for row in rows]
    axes.plot(values, np.arange(len(rows)), "o", color=BLUE)
    axes.grid(axis="y", linewidth=0.3)
    axes.set_yticks(np.arange(len(rows)), names, fontsize=7)
    full = next(iter(figures["detectors"].values()))["auc"]["all"]["auc"]
    axes.axvline(full, color="black", linewidth=1)
    axes.set(xlim=(min(0.9, *values), 1.0), xlabel="AUC (line: the full model, cross-fitted)")
    axes.invert_yaxis()
