"""Does the result rest on an artefact? Features left out, and data split by era, source and origin.

A result that came of where the rows come from (period, provider, log-derived or call-derived,
tokens known or not) would fall in one of these.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from src.datasets.tables import TransactionSet
from src.detection.features.definitions import FOREST_INPUTS, TokenProfile, feature_table
from src.training.evaluation.sets import call_view, load_calls_background
from src.training.evaluation.statistics import auc
from src.training.fit import cross_fit, fit, profile_tokens
from src.training.hyperparameters import Hyperparameters
from src.training.reference_values import load_reference_values

GROUPS: dict[str, tuple[str, ...]] = {
    "round trips": ("reverse_hops", "reverse_share", "repaid_hops", "restored_balances"),
    "round trips without own money": ("unfunded_returns", "unfunded_pair_hops"),
    "repeats": ("pair_hops", "edge_repeats", "legs_per_token"),
    "flow": ("pass_through", "through_degree", "density"),
    "roles": ("origin_absent", "outsider_loss", "unattended_loss", "origin_free_gain"),
    "amounts (all token knowledge)": ("foreign_excess", "taken_excess"),
}
"""The features by what they look at."""

_DOMINANT = "once-upon-context"
_MIN_ROWS = 200
_RATE = 0.004

logger = logging.getLogger(__name__)

Row = dict[str, Any]
Mask = NDArray[np.bool_]


def ablations(
    folder: Path,
    background: TransactionSet,
    exploits: TransactionSet,
    parameters: Hyperparameters,
) -> list[Row]:
    """Run them all: name, AUC, AUC within five or more transfers, recall at 0.4%."""
    rows: list[Row] = []
    for name, group in GROUPS.items():
        logger.info("without %s", name)
        left = [feature for feature in FOREST_INPUTS if feature not in group]
        crossed = cross_fit(background, parameters, features=left)
        rows.append(
            _row(f"without {name}", background, crossed.scores, exploits, crossed.score(exploits))
        )
    for name, train, test, tested in splits(background, exploits, parameters.capped_source):
        logger.info("%s", name)
        if min(train.sum(), test.sum()) >= _MIN_ROWS and tested.any():
            rows.append(_split(name, background, train, test, exploits, tested, parameters))
    rows.extend(_views(folder, background, exploits, parameters))
    return rows


def _row(
    name: str,
    background: TransactionSet,
    scores: NDArray[np.float64],
    exploits: TransactionSet,
    exploit_scores: NDArray[np.float64],
    *,
    tested: Mask | None = None,
    rows: Mask | None = None,
) -> Row:
    counts = background.n_transfers if rows is None else background.n_transfers[rows]
    theirs = exploits.n_transfers if tested is None else exploits.n_transfers[tested]
    if not (counts >= 5).any() or not (theirs >= 5).any():
        within_five = None
    else:
        within_five = auc(scores[counts >= 5], exploit_scores[theirs >= 5])
    return {
        "name": name,
        "background": len(scores),
        "exploits": len(exploit_scores),
        "auc": auc(scores, exploit_scores),
        "auc_5_or_more": within_five,
        "recall": float(np.mean(exploit_scores >= np.quantile(scores, 1 - _RATE))),
    }


def splits(
    background: TransactionSet, exploits: TransactionSet, capped: str
) -> Sequence[tuple[str, Mask, Mask, Mask]]:
    """Name, background to train on, background and exploits to test on; `capped` is a source."""
    years = pd.to_datetime(background.table["block_timestamp"].astype("int64"), unit="s").dt.year
    year = years.to_numpy()
    source = background.table["source"].to_numpy(dtype=str)
    dates = exploits.table["date"].astype("string")
    dated = pd.to_datetime(dates, format="ISO8601", errors="coerce", utc=True).dt.year.to_numpy()
    everything = np.ones(len(exploits), dtype=bool)
    return (
        ("trained to 2021, tested from 2022", year <= 2021, year >= 2022, everything),
        ("trained from 2022, tested to 2021", year >= 2022, year <= 2021, everything),
        ("trained to 2022, tested from 2023", year <= 2022, year >= 2023, everything),
        (
            "trained to 2022, tested from 2023, exploits dated from 2023",
            year <= 2022,
            year >= 2023,
            np.asarray(dated >= 2023),
        ),
        (
            "largest source left out and tested",
            source != _DOMINANT,
            source == _DOMINANT,
            everything,
        ),
        (
            "trained on the largest source alone",
            source == _DOMINANT,
            source != _DOMINANT,
            everything,
        ),
        (f"{capped} left out and tested", source != capped, source == capped, everything),
    )


def _split(
    name: str,
    background: TransactionSet,
    train: Mask,
    test: Mask,
    exploits: TransactionSet,
    tested: Mask,
    parameters: Hyperparameters,
) -> Row:
    model = fit(background, parameters, allowed=train)
    scores = model.score(background)[test]
    exploit_scores = model.score(exploits)[tested]
    return _row(name, background, scores, exploits, exploit_scores, tested=tested, rows=test)


def _views(
    folder: Path,
    background: TransactionSet,
    exploits: TransactionSet,
    parameters: Hyperparameters,
) -> list[Row]:
    """Log-derived against call-derived: what the exploits lack must not be what is found."""
    logger.info("the call view")
    shown = call_view(background)
    crossed = cross_fit(shown, parameters)
    name = "trained and tested on the call view (no mints, no burns)"
    rows = [_row(name, shown, crossed.scores, exploits, crossed.score(exploits))]
    calls = load_calls_background(folder)
    if calls is None:
        return rows
    crossed = cross_fit(calls, parameters)
    name = "trained and tested on call-derived background"
    rows.append(_row(name, calls, crossed.scores, exploits, crossed.score(exploits)))
    logger.info("telling logs from calls")
    rows.append(_derivation_guess(background, calls, parameters))
    return rows


def _derivation_guess(
    background: TransactionSet, calls: TransactionSet, parameters: Hyperparameters
) -> Row:
    """How well a classifier tells log-derived from call-derived background by our features.

    0.5 is a coin; the sets are of the same years and folds are of whole blocks.
    """
    every_row = np.arange(len(background))
    profile = TokenProfile.from_amounts(
        profile_tokens(background, every_row, parameters), load_reference_values()
    )
    times = background.table["block_timestamp"].astype("int64")
    years = pd.to_datetime(times, unit="s").dt.year.to_numpy()
    same_years = (years >= 2020) & (years <= 2022)
    if same_years.sum() < _MIN_ROWS:
        same_years[:] = True
    table = np.concatenate(
        [feature_table(background.batch, profile)[same_years], feature_table(calls.batch, profile)]
    )
    is_call = np.concatenate([np.zeros(int(same_years.sum())), np.ones(len(calls))])
    blocks = np.concatenate(
        [
            background.table["block_number"].to_numpy(dtype=np.int64)[same_years],
            calls.table["block_number"].to_numpy(dtype=np.int64),
        ]
    )
    classifier = RandomForestClassifier(100, random_state=0, min_samples_leaf=5)
    guesses = cross_val_predict(
        classifier, table, is_call, groups=blocks, cv=GroupKFold(5), method="predict_proba"
    )
    return {
        "name": "a classifier tells log-derived from call-derived background (0.5: cannot)",
        "background": len(table),
        "exploits": 0,
        "auc": float(roc_auc_score(is_call, guesses[:, 1])),
        "auc_5_or_more": None,
        "recall": None,
    }
