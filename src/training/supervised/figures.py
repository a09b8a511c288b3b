"""The fraud report's plots, as PNG bytes by name, without pyplot's global state."""

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from src.reports.pictures import SERIES, draw
from src.training.supervised.selection import METRICS, Comparison

Floats = NDArray[np.float64]


def confusion_matrix(
    axes: Axes,
    confusion: dict[str, int],
    *,
    classes: tuple[str, str] = ("legitimate", "fraud"),
    title: str = "Hold-out",
) -> None:
    """The hold-out at the threshold; shades are shares of the true class."""
    counts = np.array(
        [
            [confusion["true_negatives"], confusion["false_positives"]],
            [confusion["false_negatives"], confusion["true_positives"]],
        ]
    )
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"
        text = f"{count:,}\n{shares[row, column]:.1%}"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    axes.set_xticks([0, 1], classes)
    axes.set_yticks([0, 1], classes)
    axes.set(xlabel="predicted", ylabel="true", title=title)


def comparison_bars(axes: Axes, compared: list[Comparison]) -> None:
    """Cross-validated means of each metric, whiskers one standard deviation over folds."""
    width = 0.8 / len(compared)
    for place, (one, colour) in enumerate(zip(compared, SERIES, strict=False)):
        at = np.arange(len(METRICS)) + (place - (len(compared) - 1) / 2) * width
        means = [one.mean(metric) for metric in METRICS]
        spread = [one.deviation(metric) for metric in METRICS]
        axes.bar(at, means, width, yerr=spread, color=colour, label=one.name, error_kw={"lw": 0.8})
    axes.set_xticks(np.arange(len(METRICS)), [metric.replace("_", " ") for metric in METRICS])
    axes.set(ylim=(0, 1.08), ylabel="cross-validated on the training part")


def precision_recall(
    axes: Axes, curves: dict[str, tuple[NDArray[np.int64], Floats]], threshold: float
) -> None:
    """Precision against recall; a dot at the threshold, a dotted line at the share of fraud."""
    for (name, (labels, probabilities)), colour in zip(curves.items(), SERIES, strict=False):
        precision, recall, _ = precision_recall_curve(labels, probabilities)
        axes.step(recall, precision, where="post", color=colour, label=name)
        flagged = probabilities >= threshold
        if flagged.any():
            caught = labels[flagged].sum()
            axes.plot(caught / labels.sum(), caught / flagged.sum(), "o", color=colour)
        axes.axhline(labels.mean(), color=colour, linewidth=0.8, linestyle=":")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.05), xlabel="recall", ylabel="precision")


def draw_all(
    compared: list[Comparison],
    confusion: dict[str, int],
    curves: dict[str, tuple[NDArray[np.int64], Floats]],
    threshold: float,
) -> dict[str, bytes]:
    """All plots by file name."""
    return {
        "comparison.png": draw(lambda axes: comparison_bars(axes, compared)),
        "confusion_matrix.png": draw(lambda axes: confusion_matrix(axes, confusion)),
        "precision_recall.png": draw(lambda axes: precision_recall(axes, curves, threshold)),
    }
