"""Plots of a retraining's report: both models' scores of held-out traffic and of attacks."""

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from src.reports.pictures import draw
from src.training.evaluation.figures import recall_curves
from src.training.evaluation.statistics import Scored
from src.training.retraining.gate import Judged
from src.training.supervised.figures import confusion_matrix

_CLASSES = ("ordinary", "attack")


def draw_all(old: Judged, new: Judged, alert_budget: float) -> dict[str, bytes]:
    """All plots by file name: the comparison, and the challenger's confusion matrices.

    The attack score's are of the attacks that its model was not trained on.
    """
    curves: dict[str, Scored] = {}
    matrices: dict[str, tuple[Scored, float]] = {}
    is_same_forest = old.model.manifest.sha256 == new.model.manifest.sha256
    if is_same_forest:
        curves["anomaly score of both"] = new.scored
    else:
        curves |= {"champion, anomaly score": old.scored, "challenger, anomaly score": new.scored}
        matrices["anomaly score"] = new.scored, new.threshold
    if old.attack is not None:
        curves["champion, attack score"] = old.second
    if new.attack is not None:
        curves["challenger, attack score"] = new.second
        matrices["attack score"] = new.second, 1 - alert_budget
    return {"comparison.png": draw(lambda axes: recall_curves(axes, curves))} | {
        f"confusion_matrix_{name.replace(' ', '_')}.png": draw(partial(_matrix, name, *scored))
        for name, scored in matrices.items()
    }


def _matrix(name: str, scored: Scored, threshold: float, axes: Axes) -> None:
    title = f"Challenger, {name} from {threshold:g}"
    confusion_matrix(axes, _counts(scored, threshold), classes=_CLASSES, title=title)


def _counts(scored: Scored, threshold: float) -> dict[str, int]:
    def flagged(scores: NDArray[np.float64]) -> int:
        return int((scores >= threshold).sum())

    false, true = flagged(scored.background), flagged(scored.exploits)
    return {
        "true_negatives": len(scored.background) - false,
        "false_positives": false,
        "false_negatives": len(scored.exploits) - true,
        "true_positives": true,
    }
