"""Train a supervised model: `npm run train:fraud`. Labelled table in, model bundle and report out.

The same rows give the same bytes, in whatever order they come.
"""

import argparse
import json
import os
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from src import cli
from src.detection.bundle_files import manifest_path
from src.detection.supervised.manifest import FraudManifest
from src.files import write_file
from src.registry.sign import configured_key, write_signature
from src.settings import PROJECT_ROOT
from src.training.supervised import report
from src.training.supervised.bundle import MODEL_FILE, write_fraud_bundle
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
from src.training.supervised.table import LabelledTable, load_labelled

DEFAULT_OUT = PROJECT_ROOT / "fraud_model"

_DESCRIPTION = """\
Train a supervised model on a labelled CSV (also .gz) or parquet file: compare four classifiers by
cross-validation, search the best one's parameters, choose a threshold, measure it on rows held out,
and write model, manifest, report and pictures. The same rows give the same bytes.
"""
_EPILOG = """\
examples:
  npm run train:fraud -- --data creditcard.csv --label Class
  npm run train:fraud -- --data accounts.csv.gz --label FLAG --ignore Index Address

A table of labelled token transfers: npm run train:fraud:dataset -- --help

exit codes: 0 trained, 1 the data cannot be used, 2 wrong usage.
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What may be chosen.

    Attributes:
        seed: of every draw.
        folds: of the cross-validation, 2 or more.
        min_precision: the threshold's precision on the training part; None for the best F1.
        trees: in the random forest.
        svm_rows: that the SVM is fitted on at most: its time grows by the square.
        jobs: processes; the bytes are the same.
    """

    seed: int = 0
    folds: int = 5
    min_precision: float | None = None
    trees: int = 200
    svm_rows: int = 10_000
    jobs: int = 1


@cli.command("train:fraud")
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    options = Options(
        given.seed, given.folds, given.min_precision, given.trees, given.svm_rows, given.jobs
    )
    created_at = _created_at(parser, given.created_at)
    started = time.monotonic()

    def say(step: str) -> None:
        sys.stderr.write(f"train:fraud: {time.monotonic() - started:6.1f} s  {step}\n")

    say(f"reading {given.data}")
    key = configured_key()
    table = load_labelled(
        given.data,
        given.label,
        ignore=given.ignore,
        group=given.group,
        positive=given.positive,
    )
    for note in table.notes:
        say(note)
    source = {"file": given.data.name, "label": given.label, "group": given.group}
    manifest = train(table, given.out, source, created_at=created_at, options=options, say=say)
    if key:
        write_signature(manifest_path(given.out / MODEL_FILE), key)
    test = manifest.training["hold_out"]["metrics"]
    figures = ", ".join(f"{metric} {test[metric]['value']:.3f}" for metric in METRICS)
    sys.stdout.write(
        f"{given.out / MODEL_FILE}: {manifest.classifier}, {len(manifest.inputs)} inputs, "
        f"threshold {manifest.threshold:.4f}; held out: {figures}. "
        f"Read {given.out / 'report.md'}.\n"
    )
    return 0


def train(
    table: LabelledTable,
    out: Path,
    source: dict[str, Any],
    *,
    created_at: int,
    options: Options | None = None,
    say: Any = lambda _: None,
) -> FraudManifest:
    """Train on a table and write model, manifest, report and pictures into `out`.

    Args:
        table: see `table.load_labelled`.
        out: a folder, made where it is missing.
        source: `file`, `label` and `group`, as the report names them.
        created_at: the model's version, Unix seconds.
        options: what may be chosen; None for the defaults.
        say: called with a sentence at every step.

    Raises:
        ValueError: the data cannot be used; the message says why.
        OSError: a file cannot be written.
    """
    options = options or Options()
    seed, folds, jobs = options.seed, options.folds, options.jobs
    train_rows, test_rows = hold_out(table, seed)
    check_counts(_part(table, train_rows), folds, f"for {folds} folds of the training part")
    choices = candidates(seed, trees=options.trees, svm_rows=options.svm_rows)
    with warnings.catch_warnings():
        # Slow convergence of a candidate shows in its scores; a line for each fit helps nobody.
        warnings.simplefilter("ignore", ConvergenceWarning)
        compared = compare(
            table, train_rows, choices, folds=folds, seed=seed, jobs=jobs, on_step=say
        )
        for one in compared:
            say(f"{one.name}: average precision {one.mean('average_precision'):.3f}")
        best = max(range(len(compared)), key=lambda at: compared[at].mean("average_precision"))
        chosen = select(
            table,
            train_rows,
            choices[best],
            folds=folds,
            seed=seed,
            min_precision=options.min_precision,
            jobs=jobs,
            on_step=say,
        )
    say("measuring on the rows held out")
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
    write_file(out / "report.md", report.markdown(figures).encode())
    return write_fraud_bundle(
        out / MODEL_FILE,
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
    """Everything that the report says."""
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


def _part(table: LabelledTable, rows: Any) -> LabelledTable:
    groups = None if table.groups is None else table.groups[rows]
    return LabelledTable(table.inputs, table.rows[rows], table.labels[rows], groups, {})


def _created_at(parser: argparse.ArgumentParser, given: int | None) -> int:
    if given is not None:
        return given
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        return int(epoch) if epoch else int(time.time())
    except ValueError:
        parser.error(f"SOURCE_DATE_EPOCH={epoch!r} is not a number of seconds")


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("train:fraud", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("--data", type=cli.path, metavar="FILE", required=True, help="the labelled table")
    add("--label", metavar="COLUMN", required=True, help="the column to predict, 0 or 1")
    add("--positive", metavar="VALUE", help="the label's value that means fraud, if not 1")
    add("--ignore", metavar="COLUMN", nargs="+", default=[], help="columns that are no inputs")
    add(
        "--group",
        metavar="COLUMN",
        help="rows with the same value stay on one side of every split (an account, a block)",
    )
    add(
        "--out",
        type=cli.output_folder,
        metavar="DIR",
        default=str(DEFAULT_OUT),
        help="(fraud_model)",
    )
    add(
        "--min-precision",
        type=cli.number(0, 1, above=True),
        metavar="P",
        help="choose the threshold with the best recall at this precision (default: the best F1)",
    )
    add("--folds", type=cli.whole(2), metavar="N", default=5, help="of cross-validation (5)")
    add("--trees", type=cli.whole(1), metavar="N", default=200, help="of the random forest (200)")
    add(
        "--svm-rows",
        type=cli.whole(10),
        metavar="N",
        default=10_000,
        help="fit the SVM on so many rows at most, the larger class thinned (10,000)",
    )
    add("--seed", type=cli.whole(0), metavar="N", default=0, help="of every draw (0)")
    add("--jobs", type=cli.whole(1), metavar="N", default=1, help="processes (1)")
    add(
        "--created-at",
        type=cli.natural,
        metavar="SECONDS",
        help="the model's version, Unix seconds ($SOURCE_DATE_EPOCH, else now)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
