"""Plots of a retraining's report: both models' scores of held-out traffic and of attacks."""

from matplotlib.axes import Axes

from src.reports.pictures import draw
from src.training.evaluation.figures import recall_curves
from src.training.evaluation.statistics import Scored
from src.training.retraining.gate import Judged
from src.training.supervised.figures import confusion_matrix

_CLASSES = ("ordinary", "attack")


def draw_all(old: Judged, new: Judged, alert_budget: float) -> dict[str, bytes]:
    """All plots by file name: comparisons, and the challenger's confusion matrices.

    The attack score's are of the attacks that its model was not trained on.
    """
    found: dict[str, bytes] = {}
    if old.model.manifest.sha256 != new.model.manifest.sha256:
        found |= _compared("anomaly_score", old.scored, new.scored, new.threshold)
    if new.attack is not None:
        found |= _compared("attack_score", old.second, new.second, 1 - alert_budget)
    return found


def _compared(score: str, old: Scored, new: Scored, threshold: float) -> dict[str, bytes]:
    name = score.replace("_", " ")
    curves = {f"champion, {name}": old, f"challenger, {name}": new}
    false, true = (int((side >= threshold).sum()) for side in (new.background, new.exploits))
    confusion = {
        "true_negatives": len(new.background) - false,
        "false_positives": false,
        "false_negatives": len(new.exploits) - true,
        "true_positives": true,
    }
    title = f"Challenger, {name} from {threshold:g}"

    def matrix(axes: Axes) -> None:
        confusion_matrix(axes, confusion, classes=_CLASSES, title=title)

    return {
        f"comparison_{score}.png": draw(lambda axes: recall_curves(axes, curves)),
        f"confusion_matrix_{score}.png": draw(matrix),
    }
