"""The training report of a supervised model as Markdown, from its JSON."""

from typing import Any

from src.reports.markdown import plain, table
from src.training.supervised.selection import METRICS

Figures = dict[str, Any]

FEW_FRAUDS = 50  # in the hold-out, below which intervals are too wide to compare models by

_TITLES = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "average_precision": "average precision",
}


def markdown(figures: Figures) -> str:
    """The report."""
    data, test = figures["data"], figures["hold_out"]
    units = "group" if data["group"] else "row"
    parts = [
        f"# Supervised model on {plain(data['file'])}, label {plain(data['label'])}",
        f"{data['rows']:,} rows, {data['fraud']:,} of them fraud "
        f"({data['fraud'] / data['rows']:.2%}), {len(figures['inputs'])} inputs. "
        f"{data['training_rows']:,} rows for training, {data['hold_out_rows']:,} held out "
        f"({data['hold_out_fraud']:,} fraud), a quarter of each class by digests"
        + (f", each {plain(data['group'])} whole on one side" if data["group"] else "")
        + f"; SHA-256 of the data `{data['sha256'][:16]}...`, seed {figures['seed']}.",
        "## The four classifiers",
        f"Cross-validated in {figures['folds']} folds of the training part, mean and standard "
        "deviation over the folds; precision, recall and F1 at probability 0.5. Each is the last "
        "step of a pipeline whose imputer (median) and StandardScaler are fitted on the fold's "
        "training rows only. Accuracy is omitted: if fraud is rare, a classifier that never "
        "predicts fraud has a high one.",
        _comparison_table(figures),
        "![comparison](comparison.png)",
        f"**{figures['classifier']}** has the highest average precision. Its grid search, by the "
        "same folds:",
        _grid_table(figures),
        "## The threshold",
        _threshold_text(figures),
        "## Held-out rows",
        f"Never seen before this table was made; 95% bootstrap intervals, resampled by {units}.",
        _hold_out_table(test),
        _confusion_text(test["confusion"]),
        "![confusion matrix](confusion_matrix.png)",
        "![precision and recall](precision_recall.png)",
        "## What to beware of",
        "\n".join(f"- {plain(caveat)}" for caveat in caveats(figures)),
        "## Inputs",
        ", ".join(map(plain, figures["inputs"])),
    ]
    return "\n\n".join(parts) + "\n"


def caveats(figures: Figures) -> list[str]:
    """Limitations of the figures."""
    data, test = figures["data"], figures["hold_out"]
    share = test["share_of_fraud"]
    precision = test["metrics"]["precision"]["value"]
    recall = test["metrics"]["recall"]["value"]
    found = list(data["notes"])
    found.append(
        f"Precision holds at this table's share of fraud ({share:.2%}) only. "
        + _rarer(test["confusion"], recall, precision)
    )
    found.append(
        "The probability is one among rows as they were in training; where fraud is rarer, it is "
        "too high."
    )
    if data["hold_out_fraud"] < FEW_FRAUDS:
        groups = data["hold_out_fraud_groups"]
        found.append(
            f"Only {data['hold_out_fraud']} frauds are held out"
            + (f", of {groups} groups" if groups else "")
            + ": the intervals are wide, and a difference between two models within them means "
            "nothing."
        )
    if not data["group"]:
        found.append(
            "Rows were split at random. Where rows depend on each other (the same account, card, "
            "attack or day), the figures are too good: name that column with --group."
        )
    if any(low == high for low, high in (m["interval"] for m in test["metrics"].values())):
        found.append(
            "An interval without width comes from rows without an error: resampling them shows "
            "none, more rows may."
        )
    found.append(
        "The split is not by time: how the model does on the fraud of next year was not measured."
    )
    return found


def _rarer(confusion: dict[str, int], recall: float, precision: float) -> str:
    alarms = confusion["false_positives"]
    legitimate = alarms + confusion["true_negatives"]
    rate = alarms / legitimate
    if not alarms:
        # No false alarm among n says that the rate is below about 3 / n.
        return (
            f"No false alarm among {legitimate:,} legitimate rows: the true rate may be up to "
            f"{3 / legitimate:.3%}."
        )
    at_one_in_a_thousand = 0.001 * recall / (0.001 * recall + 0.999 * rate)
    return (
        f"With the same rates ({rate:.2%} of legitimate rows flagged), where one row in a thousand "
        f"is fraud it would be {at_one_in_a_thousand:.0%} instead of {precision:.0%}."
    )


def _threshold_text(figures: Figures) -> str:
    wanted = figures["min_precision"]
    rule = (
        "the best F1"
        if wanted is None
        else f"the best recall at a precision of at least {wanted:g}"
    )
    return (
        f"Probabilities from **{figures['threshold']:.4f}** on are fraud: it gives {rule} on the "
        "training part's out-of-fold probabilities (each row's by a model that had not seen it). "
        "The hold-out had no part in it."
    )


def _comparison_table(figures: Figures) -> str:
    rows = [
        [one["name"]]
        + [f"{one[metric]['mean']:.3f} ± {one[metric]['deviation']:.3f}" for metric in METRICS]
        for one in figures["comparison"]
    ]
    return table(["classifier", *(_TITLES[metric] for metric in METRICS)], rows)


def _grid_table(figures: Figures) -> str:
    rows = [
        [
            ", ".join(f"{name}={value}" for name, value in sorted(one["parameters"].items())),
            f"{one['average_precision']:.4f} ± {one['deviation']:.4f}",
        ]
        for one in figures["grid"]
    ]
    return table(["parameters", "average precision"], rows)


def _hold_out_table(test: Figures) -> str:
    rows = []
    for metric in METRICS:
        found = test["metrics"][metric]
        low, high = found["interval"]
        rows.append([_TITLES[metric], f"{found['value']:.3f}", f"{low:.3f} to {high:.3f}"])
    rows.append(["area under the ROC curve", f"{test['roc_auc']:.4f}", ""])
    rows.append(["Brier score of the probability", f"{test['brier']:.4f}", ""])
    return table(["metric", "value", "95% interval"], rows)


def _confusion_text(confusion: dict[str, int]) -> str:
    caught, missed = confusion["true_positives"], confusion["false_negatives"]
    alarms, passed = confusion["false_positives"], confusion["true_negatives"]
    return (
        f"{caught:,} of {caught + missed:,} frauds found, {alarms:,} false alarms among "
        f"{alarms + passed:,} legitimate rows."
    )
