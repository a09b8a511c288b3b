"""Retraining of the fraud model: join old and new labelled rows, train, judge, promote or refuse.

Champion and challenger are compared on rows that neither was trained on: a row's side of the split
depends on its digest, and the champion's manifest says where the cut was.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from src.datasets.labelled import LabelledRows, LabelledTable, join_labelled, read_labelled
from src.datasets.tables import TableError
from src.detection.bundle_files import FRAUD_MODEL_FILE
from src.detection.supervised.model import SupervisedModel, load_fraud_model
from src.registry.bundle import REPORT_FILES, fraud_id
from src.registry.data_sets import CheckedData, DataSets, table_of
from src.registry.records import CHAMPION, DataEntry
from src.registry.registry import Registry
from src.registry.sign import sign_model
from src.training.evaluation.statistics import interval
from src.training.retraining.feedback import AllFeedback
from src.training.retraining.gate import Check, another, enough, no_slower, no_worse
from src.training.retraining.outcome import Outcome, settle
from src.training.supervised.run import Options, train
from src.training.supervised.selection import METRICS, Weighted, draw_weights, hold_out

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]

_MAX_REASON = 200  # characters


@dataclass(frozen=True, slots=True)
class FraudTolerances:
    """Tolerances of the gate."""

    # precision_drop, recall_drop, average_precision_drop: largest losses, even if the interval is
    # too wide for a verdict.
    precision_drop: float = 0.05
    recall_drop: float = 0.05
    average_precision_drop: float = 0.02
    brier_rise: float = 0.10  # largest rise of the Brier score, as a share of the champion's
    share_band: float = 2.0  # the mean probability must be within this factor of the share of fraud
    slowdown: float = 1.5  # largest factor on the time of a prediction, unless it is `fast`
    fast: float = 0.002  # in seconds
    # rows, frauds: minimum number of held-out rows, and of frauds among them.
    rows: int = 200
    frauds: int = 20


def retrain_fraud(
    registry: Registry,
    stored: Mapping[Path, DataEntry],
    *,
    new: Sequence[CheckedData] = (),
    feedback: AllFeedback | None = None,
    options: Options | None = None,
    tolerances: FraudTolerances | None = None,
    keep_classifier: bool = False,
    created_at: int,
    dry_run: bool = False,
    repetitions: int = 1000,
    signing_key: str | None = None,
) -> Outcome:
    """Train a challenger, compare it, and promote it or not. If interrupted, the champion stays.

    New data sets are stored once they have been joined with the others. Feedback is used if the
    model's inputs are features of transactions. `keep_classifier`: train the champion's classifier
    only, instead of comparing all four.

    Raises:
        RegistryError, StoreError: there is no champion, or it is incomplete, or was replaced
            meanwhile.
        ValueError: the data is unusable.
    """
    started = time.monotonic()
    entry = registry.entry(CHAMPION)
    with TemporaryDirectory(prefix="retrain-") as temporary:
        work = Path(temporary)
        logger.info("champion %s: downloading and verifying", entry.id)
        champion = load_fraud_model(
            registry.fetch(entry.id, work / "champion"), public_key=registry.public_key
        )
        added = [one for one in new if one.id not in {folder.name for folder in stored}]
        table, ids, notes = _table(champion, stored, added, feedback)
        if not dry_run:
            for one in new:
                DataSets(registry.store).add(one)
        cuts = champion.manifest.training.get("hold_out_cuts")
        split = hold_out(table, None if cuts is None else (float(cuts[0]), float(cuts[1])))
        if cuts is None:
            notes.append("The champion may have been trained on held-out rows: that favours it.")
        options = options or Options()
        if keep_classifier:
            options = replace(options, classifiers=(champion.manifest.classifier,))
        source = {
            "file": ", ".join(ids),
            "label": champion.manifest.label,
            "group": None if table.groups is None else "group",
        }
        bundle = work / "challenger"
        logger.info("training the challenger on %d rows", len(split.train))
        manifest = train(
            table, bundle, source, created_at=created_at, options=options, cuts=split.cuts
        )
        sign_model(bundle / FRAUD_MODEL_FILE, signing_key)
        challenger = load_fraud_model(bundle / FRAUD_MODEL_FILE, public_key=registry.public_key)
        logger.info("judging both")
        checks = judge(
            champion, challenger, table.where(split.test), tolerances, repetitions=repetitions
        )
        checks.append(another([champion.manifest.sha256], [manifest.sha256]))
        outcome = Outcome(
            champion=fraud_id(champion.manifest),
            challenger=fraud_id(manifest),
            checks=tuple(checks),
            dry_run=dry_run,
            data=tuple(ids),
            seconds=time.monotonic() - started,
            notes=tuple(notes),
            pictures={
                name: (bundle / name).read_bytes() for name in REPORT_FILES if name[-4:] == ".png"
            },
        )
        return settle(registry, bundle, outcome)


def judge(
    champion: SupervisedModel,
    challenger: SupervisedModel,
    held_out: LabelledTable,
    tolerances: FraudTolerances | None = None,
    *,
    repetitions: int = 1000,
) -> list[Check]:
    """All checks, in the order of the report. The challenger may be promoted if all pass."""
    allowed = tolerances or FraudTolerances()
    labels = held_out.labels
    checks = [
        enough(
            "held-out rows",
            (len(labels), allowed.rows, "rows"),
            (int(labels.sum()), allowed.frauds, "frauds"),
        )
    ]
    if not checks[0].passed:
        return checks
    sides = (champion, challenger)
    old, new = (side.probabilities(held_out.rows) for side in sides)
    drops = {
        "precision": allowed.precision_drop,
        "recall": allowed.recall_drop,
        "average_precision": allowed.average_precision_drop,
    }
    before, after = (
        Weighted(labels, scores, scores >= side.threshold)
        for side, scores in zip(sides, (old, new), strict=True)
    )
    whole = np.ones(len(labels))
    points = before.metrics(whole), after.metrics(whole)
    errors = (old - labels) ** 2, (new - labels) ** 2
    pairs, rises = [], []
    for weights in draw_weights(len(labels), held_out.groups, 0, repetitions):
        pairs.append((before.metrics(weights), after.metrics(weights)))
        rises.append(float(np.average(errors[1] - errors[0], weights=weights)))
    for metric in METRICS:
        if metric in drops:
            differences = np.array([b[metric] - a[metric] for a, b in pairs])
            checks.append(
                no_worse(
                    metric.replace("_", " "),
                    points[0][metric],
                    points[1][metric],
                    differences[np.isfinite(differences)],
                    drops[metric],
                )
            )
    return [
        *checks,
        _calibration(errors, np.array(rises), allowed),
        _share(labels, old, new, allowed),
        no_slower(
            "time of a prediction",
            [partial(_predict, side, held_out.rows) for side in sides],
            allowed.slowdown,
            allowed.fast,
        ),
    ]


def _calibration(errors: tuple[Floats, Floats], rises: Floats, allowed: FraudTolerances) -> Check:
    before, after = (float(error.mean()) for error in errors)
    low, high = interval(rises)
    most = before * allowed.brier_rise
    return Check(
        "calibration (Brier score)",
        low <= 0 or after - before <= most,
        f"{before:.5f}",
        f"{after:.5f}",
        f"difference {after - before:+.5f}, interval {low:+.5f} to {high:+.5f}, lower is better; "
        f"worse beyond noise by at most {most:.5f}",
    )


def _share(labels: NDArray[np.int64], old: Floats, new: Floats, allowed: FraudTolerances) -> Check:
    share, before, after = float(labels.mean()), float(old.mean()), float(new.mean())
    return Check(
        "mean probability against the share of fraud",
        share / allowed.share_band <= after <= share * allowed.share_band,
        f"{before:.3%}",
        f"{after:.3%}",
        f"{share:.3%} of the held-out rows are fraud; within a factor of {allowed.share_band:g}",
    )


def _predict(model: SupervisedModel, rows: Floats, row: int) -> object:
    return model.probabilities(rows[row][np.newaxis])


def _table(
    champion: SupervisedModel,
    stored: Mapping[Path, DataEntry],
    added: Sequence[CheckedData],
    feedback: AllFeedback | None,
) -> tuple[LabelledTable, list[str], list[str]]:
    """All labelled rows with the champion's inputs, their data sets, and what is to be said.

    A stored table of something else would end every later retraining: it is passed over.
    """
    parts: list[LabelledRows] = []
    notes, ids = [], []
    for folder, entry in stored.items():
        path = table_of(folder, entry)
        try:
            parts.append(_rows(path, entry, champion))
            ids.append(folder.name)
        except TableError as error:
            why = str(error).removeprefix(f"{path}").lstrip(":, ")
            notes.append(
                f"Data set {folder.name} is not trained on, as it does not fit the champion's "
                f"inputs: {why[:_MAX_REASON]}"
            )
    for one in added:
        parts.append(_rows(one.path, one.entry, champion))
        ids.append(one.id)
    if not parts:
        raise ValueError(
            "no labelled data: pass a table with --data FILE --label COLUMN, or store one"
            + "".join(f". {note}" for note in notes)
        )
    if feedback is not None and (given := feedback.of_transactions):
        rows = feedback.labelled(champion.inputs)
        many = len(given.attacks | given.benign)
        if rows is not None:
            parts.append(rows)
        if many:
            used = 0 if rows is None else len(rows.labels)
            notes.append(
                f"{used} of {many} transactions with feedback are rows of the table: the others "
                "have no stored features with the model's inputs."
                if used < many
                else f"{used} transactions with feedback are rows of the table."
            )
    table = join_labelled(parts)
    return table, ids, notes + list(table.notes)


def _rows(path: Path, entry: DataEntry, champion: SupervisedModel) -> LabelledRows:
    if entry.columns is None:
        raise ValueError(f"{path}: no labelled table; name its column with --label")
    return read_labelled(path, entry.columns, inputs=champion.inputs)
