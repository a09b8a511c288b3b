"""A training run of a supervised model: labelled table in, model bundle and report out."""

import argparse
import json
import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from src import cli
from src.datasets.columns import Columns
from src.datasets.labelled import LabelledTable, load_labelled
from src.detection.bundle_files import DRIFT_FILE, FRAUD_MODEL_FILE
from src.detection.supervised.manifest import FraudManifest
from src.files import write_file
from src.monitoring.drift.inputs import sample_of_inputs
from src.monitoring.drift.levels import Levels
from src.registry.sign import configured_key, sign_model
from src.training.supervised.bundle import write_fraud_bundle
from src.training.supervised.candidates import candidates
from src.training.supervised.figures import draw_all
from src.training.supervised.selection import (
    METRICS,
    Comparison,
    Selection,
    check_counts,
    compare,
    figures_of,
    hold_out,
    select,
)
from src.training.supervised.training_report import markdown

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the training."""

    seed: int = 0  # of all random draws
    folds: int = 5  # of the cross-validation, 2 or more
    # The threshold's precision on the training part; None for the best F1.
    min_precision: float | None = None
    trees: int = 200  # in the random forest
    jobs: int = 1  # number of processes; does not change the result
    classifiers: tuple[str, ...] = ()  # names of those to compare; empty for all four


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    chosen = Options(
        options.seed,
        options.folds,
        options.min_precision,
        options.trees,
        options.jobs,
    )
    cli.log_to_stderr()
    key = configured_key()
    table = load_labelled(
        options.data,
        Columns(options.label, tuple(options.ignore), options.group, options.positive),
    )
    for note in table.notes:
        logger.info("%s", note)
    source = {"file": options.data.name, "label": options.label, "group": options.group}
    manifest = train(table, options.out, source, created_at=options.created_at, options=chosen)
    sign_model(options.out / FRAUD_MODEL_FILE, key)
    test = manifest.training["hold_out"]["metrics"]
    figures = ", ".join(f"{metric} {test[metric]['value']:.3f}" for metric in METRICS)
    sys.stdout.write(
        f"{options.out / FRAUD_MODEL_FILE}: {manifest.classifier}, {len(manifest.inputs)} inputs, "
        f"threshold {manifest.threshold:.4f}; hold-out: {figures}. "
        f"Read {options.out / 'report.md'}.\n"
    )
    return 0


def train(
    table: LabelledTable,
    out: Path,
    source: dict[str, Any],
    *,
    created_at: int,
    options: Options | None = None,
    cuts: tuple[float, float] | None = None,
) -> FraudManifest:
    """Train on a table and write model, manifest, report and plots into `out`.

    `source` is what the report names: `file`, `label` and `group`. `cuts` are those of an earlier
    split that is to be repeated, see `Split`.

    Raises:
        ValueError: the data is unusable; the message says why.
        OSError: a file is not writable.
    """
    options = options or Options()
    seed, folds, jobs = options.seed, options.folds, options.jobs
    split = hold_out(table, cuts)
    train_rows, test_rows = split.train, split.test
    check_counts(
        table.where(train_rows),
        folds,
        f"for {folds} folds of the training part",
    )
    choices = [
        one
        for one in candidates(seed, trees=options.trees)
        if not options.classifiers or one.name in options.classifiers
    ]
    with warnings.catch_warnings():
        # Slow convergence of a candidate shows in its scores; a warning per fit does not help.
        warnings.simplefilter("ignore", ConvergenceWarning)
        compared = compare(table, train_rows, choices, folds=folds, seed=seed, jobs=jobs)
        best = max(range(len(compared)), key=lambda at: compared[at].mean("average_precision"))
        chosen = select(
            table,
            train_rows,
            choices[best],
            folds=folds,
            seed=seed,
            min_precision=options.min_precision,
            jobs=jobs,
        )
    labels = table.labels[test_rows]
    probabilities = chosen.pipeline.predict_proba(table.rows[test_rows])[:, 1]
    groups = None if table.groups is None else table.groups[test_rows]
    test = figures_of(labels, probabilities, chosen.threshold, groups, seed)
    figures = _figures(table, (train_rows, test_rows), source, options, compared, chosen, test)
    curves = {
        "held out": (labels, probabilities),
        "training part, out of fold": (table.labels[train_rows], chosen.out_of_fold),
    }
    pictures = draw_all(compared, test["confusion"], curves, chosen.threshold)
    out.mkdir(parents=True, exist_ok=True)
    for name, content in pictures.items():
        write_file(out / name, content)
    text = json.dumps(figures, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    write_file(out / "report.json", text.encode())
    write_file(out / "report.md", markdown(figures).encode())
    # Of rows that the model was not fitted on: it is too sure of the others. The folds' models are
    # others than this one, so theirs stand in only where too few rows are held out.
    seen = (table.rows[test_rows], probabilities)
    if len(test_rows) < Levels().least:
        seen = (table.rows[train_rows], chosen.out_of_fold)
    reference = sample_of_inputs(
        str(created_at), table.inputs, *seen, threshold=chosen.threshold, as_reference=True
    )
    write_file(out / DRIFT_FILE, reference.to_json().encode())
    return write_fraud_bundle(
        out / FRAUD_MODEL_FILE,
        name=chosen.winner.name,
        pipeline=chosen.pipeline,
        inputs=table.inputs,
        label=str(source["label"]),
        threshold=chosen.threshold,
        training_rows=table.rows[train_rows],
        model_version=created_at,
        training={
            "data": figures["data"],
            "imputer": "median of the training part",
            "missing_values": table.missing,
            "parameters": chosen.parameters,
            "threshold_rule": _threshold_rule(options),
            "seed": seed,
            "folds": folds,
            "cross_validated": {
                one["name"]: one["average_precision"] for one in figures["comparison"]
            },
            "hold_out": test,
            "hold_out_cuts": list(split.cuts),
        },
    )


def _figures(
    table: LabelledTable,
    rows: tuple[Any, Any],
    source: dict[str, Any],
    options: Options,
    compared: list[Comparison],
    chosen: Selection,
    test: dict[str, Any],
) -> dict[str, Any]:
    """The contents of the report."""
    train_rows, test_rows = rows
    return {
        "data": {
            **source,
            "sha256": table.identity(),
            "rows": len(table.rows),
            "fraud": int(table.labels.sum()),
            "training_rows": len(train_rows),
            "training_fraud": int(table.labels[train_rows].sum()),
            "hold_out_rows": len(test_rows),
            "hold_out_fraud": int(table.labels[test_rows].sum()),
            "hold_out_fraud_groups": _fraud_groups(table, test_rows),
            "missing_values": table.missing,
            "notes": list(table.notes),
        },
        "inputs": list(table.inputs),
        "seed": options.seed,
        "folds": options.folds,
        "min_precision": options.min_precision,
        "comparison": [
            {
                "name": one.name,
                **{
                    metric: {"mean": one.mean(metric), "deviation": one.deviation(metric)}
                    for metric in METRICS
                },
            }
            for one in compared
        ],
        "classifier": chosen.winner.name,
        "parameters": chosen.parameters,
        "grid": chosen.grid,
        "threshold": chosen.threshold,
        "hold_out": test,
    }


def _threshold_rule(options: Options) -> str:
    if options.min_precision is None:
        return "best F1 of the training part's out-of-fold probabilities"
    return f"best recall at a precision of {options.min_precision:g}, out of fold"


def _fraud_groups(table: LabelledTable, rows: Any) -> int | None:
    if table.groups is None:
        return None
    return len(np.unique(table.groups[rows][table.labels[rows] == 1]))
