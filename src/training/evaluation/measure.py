"""The evaluation itself: data in, one JSON-ready dictionary of figures out.

Background scores are cross-fitted: a transaction is scored by a model that saw neither it nor its
block. Exploits were never fitted; their score is the mean of the folds' models. Baselines are
scored in the same folds, and every interval comes from the same resampling.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from src.datasets.tables import TableError, TransactionSet
from src.datasets.training_set import data_identity, load_background
from src.detection.features.definitions import FOREST_INPUTS
from src.reports.intervals import share_interval
from src.training.attack.data import looks_like_arbitrage
from src.training.evaluation.ablations import ablations
from src.training.evaluation.baselines import (
    largest_single_token_count,
    transfer_count,
    vocabulary_scores,
)
from src.training.evaluation.sets import (
    clusters,
    load_benign_fixtures,
    load_calls_background,
    load_exploits,
    load_protocol_history,
    load_unusual_defi,
    to_router,
)
from src.training.evaluation.statistics import (
    RATES,
    Bootstrap,
    Scored,
    auc,
    cluster_weights,
    interval,
    recall_at,
)
from src.training.evaluation.unseen.cross_fit import FOREST
from src.training.evaluation.unseen.measure import TRANSFERS, UnseenData, evaluate_unseen
from src.training.fit import CrossFit, cross_fit
from src.training.hyperparameters import Hyperparameters

STRATA = {"all": (1, 2**31), "5+": (5, 2**31), **TRANSFERS}
"""Ranges of the number of transfers, both ends included."""

_MIN_ROWS = 5  # a stratum with fewer of either kind gets no figure
_CURVE = tuple(np.round(np.arange(0.40, 0.9001, 0.005), 3).tolist())
_FOLD_SEEDS = (1, 2, 3)
_SLOTS_A_DAY = 7200  # 12 seconds each

Figures = dict[str, Any]

logger = logging.getLogger(__name__)


def evaluate(
    folder: Path,
    *,
    parameters: Hyperparameters | None = None,
    unseen: UnseenData | None = None,
    repetitions: int = 1000,
) -> tuple[Figures, dict[str, Scored]]:
    """Evaluate the model that these parameters give on a folder's data.

    `unseen` says where replays, further blocks and rewritten attacks lie; None for the folders that
    lie beside this one.

    Returns:
        The figures as JSON values, and the scores of the forest and the baselines behind the
        pictures (not for publication).

    Raises:
        TableError: the folder has no background or no exploits.
    """
    parameters = parameters or Hyperparameters()
    logger.info("reading")
    background = load_background(folder)
    exploits = load_exploits(folder)
    if exploits is None:
        raise TableError(
            f"{folder}: no known exploits (exploit_transactions.csv.gz, exploit_transfers.csv.gz): "
            "nothing to evaluate against"
        )
    logger.info("fitting the folds")
    crossed = cross_fit(background, parameters)
    logger.info("baselines")
    blocks = background.table["block_number"].to_numpy(dtype=np.int64)
    groups = clusters(exploits)
    raw = {
        FOREST: (crossed.scores, crossed.score(exploits)),
        "transfer count": (transfer_count(background), transfer_count(exploits)),
        "largest single-token count": (
            largest_single_token_count(background),
            largest_single_token_count(exploits),
        ),
        "token vocabulary": vocabulary_scores(background, crossed, exploits, folder),
    }
    detectors = {name: Scored(ours, blocks, theirs, groups) for name, (ours, theirs) in raw.items()}
    masks = {name: (_in_stratum(background, name), _in_stratum(exploits, name)) for name in STRATA}
    figures: Figures = {
        "data": {
            "background": data_identity(background, np.arange(len(background))),
            "exploits": len(exploits),
            "exploit_clusters": int(groups.max()) + 1,
            "exploit_derivations": {
                str(name): int(count)
                for name, count in exploits.table["derivation"].value_counts().items()
            },
            "transactions_with_transfers_a_day": float(
                _SLOTS_A_DAY * len(background) / len(np.unique(blocks))
            ),
        },
        "threshold": parameters.anomaly_threshold,
    }
    logger.info("intervals")
    figures["detectors"] = {
        name: _detector_figures(scored, masks, repetitions) for name, scored in detectors.items()
    }
    figures["paired_differences"] = _paired(detectors, masks, repetitions)
    thresholds = sorted({*_CURVE, parameters.anomaly_threshold})
    figures["operating_points"] = _operating_points(detectors[FOREST], thresholds, repetitions)
    figures["by_stratum_at_threshold"] = _flagged_by_stratum(
        detectors[FOREST], masks, parameters.anomaly_threshold
    )
    figures["unseen"] = evaluate_unseen(
        folder,
        background,
        crossed,
        unseen or UnseenData.beside(folder),
        repetitions=repetitions,
    )
    logger.info("other sets")
    figures["hard_cases"] = _hard_cases(folder, background, crossed, parameters.anomaly_threshold)
    figures["other_sets"] = _other_sets(folder, detectors[FOREST], crossed, repetitions)
    figures["single_features"] = _single_features(crossed, background, exploits)
    logger.info("other seeds")
    figures["seeds"] = [
        _short(cross_fit(background, replace(parameters, random_state=seed)), exploits)
        for seed in _FOLD_SEEDS
    ]
    logger.info("ablations")
    figures["ablations"] = ablations(folder, background, exploits, parameters)
    return figures, detectors


def _in_stratum(data: TransactionSet, name: str) -> NDArray[np.bool_]:
    low, high = STRATA[name]
    return (data.n_transfers >= low) & (data.n_transfers <= high)


def _detector_figures(
    scored: Scored,
    masks: dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    repetitions: int,
) -> Figures:
    strata: Figures = {}
    for name, (background, exploits) in masks.items():
        if min(background.sum(), exploits.sum()) < _MIN_ROWS:
            continue
        part = scored.where(background, exploits)
        bootstrap = Bootstrap(part, repetitions=repetitions)
        strata[name] = {
            "background": len(part.background),
            "exploits": len(part.exploits),
            "auc": auc(part.background, part.exploits),
            "by_row": interval(bootstrap.auc(bootstrap.by_row)),
            "by_cluster": interval(bootstrap.auc(bootstrap.by_cluster)),
        }
    bootstrap = Bootstrap(scored, repetitions=repetitions)
    recall = {
        f"{rate:.1%}": {
            "threshold": float(np.quantile(scored.background, 1 - rate)),
            "recall": recall_at(scored, rate),
            "by_row": interval(bootstrap.recall(bootstrap.by_row, rate)),
            "by_cluster": interval(bootstrap.recall(bootstrap.by_cluster, rate)),
        }
        for rate in RATES
    }
    labels = np.concatenate([np.zeros(len(scored.background)), np.ones(len(scored.exploits))])
    precision = {
        "value": float(
            average_precision_score(labels, np.concatenate([scored.background, scored.exploits]))
        ),
        "by_row": interval(bootstrap.average_precision(bootstrap.by_row)),
        "by_cluster": interval(bootstrap.average_precision(bootstrap.by_cluster)),
    }
    return {"auc": strata, "recall": recall, "average_precision": precision}


def _paired(
    detectors: dict[str, Scored],
    masks: dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    repetitions: int,
) -> Figures:
    """AUC of the forest minus a baseline's on the same resamples, by cluster."""
    differences: Figures = {}
    for name, scored in detectors.items():
        if name == FOREST:
            continue
        differences[name] = {}
        for stratum in ("all", "5+"):
            if stratum not in masks or not masks[stratum][1].any():
                continue
            ours, theirs = (
                Bootstrap(part.where(*masks[stratum]), repetitions=repetitions)
                for part in (detectors[FOREST], scored)
            )
            gap = ours.auc(ours.by_cluster) - theirs.auc(theirs.by_cluster)
            differences[name][stratum] = interval(gap)
    return differences


def _operating_points(scored: Scored, thresholds: list[float], repetitions: int) -> list[Figures]:
    """What each threshold flags of background and exploits: what an alert budget is read from."""
    bootstrap = Bootstrap(scored, repetitions=repetitions)
    weights = cluster_weights(scored.clusters)
    return [
        {
            "threshold": threshold,
            "background": float(np.mean(scored.background >= threshold)),
            "background_by_block": interval(bootstrap.flagged(threshold)),
            "recall": float(np.mean(scored.exploits >= threshold)),
            "by_row": interval(bootstrap.detected(bootstrap.by_row, threshold)),
            "by_cluster": interval(bootstrap.detected(bootstrap.by_cluster, threshold)),
            "recall_of_clusters": float(np.average(scored.exploits >= threshold, weights=weights)),
        }
        for threshold in thresholds
    ]


def _flagged_by_stratum(
    scored: Scored,
    masks: dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    threshold: float,
) -> Figures:
    return {
        name: {
            "background": int(background.sum()),
            "background_flagged": int((scored.background[background] >= threshold).sum()),
            "exploits": int(exploits.sum()),
            "exploits_flagged": int((scored.exploits[exploits] >= threshold).sum()),
        }
        for name, (background, exploits) in masks.items()
    }


def _hard_cases(
    folder: Path, background: TransactionSet, crossed: CrossFit, threshold: float
) -> list[Figures]:
    """Benign transactions that look unusual, and how many of them are flagged.

    `counted` says whether the group belongs to the benign hard cases of the goal; the others are
    stated for honesty.
    """
    cases: list[Figures] = []

    def add(name: str, scores: NDArray[np.float64], *, counted: bool = True) -> None:
        if len(scores):
            flagged = int((scores >= threshold).sum())
            cases.append(
                {
                    "name": name,
                    "transactions": len(scores),
                    "flagged": flagged,
                    "interval": share_interval(flagged, len(scores)),
                    "highest": float(scores.max()),
                    "counted": counted,
                }
            )

    fixtures = load_benign_fixtures(folder)
    if fixtures is not None:
        add("airdrops, batch payments, random (real logs)", crossed.score(fixtures))
    history = load_protocol_history(folder)
    if history is not None:
        benign = (history.table["label"] == "history").to_numpy(dtype=bool)
        add("benign history of an attacked protocol", crossed.score(history)[benign])
    routed = to_router(background)
    add("aggregator and router swaps", crossed.scores[routed])
    calls = load_calls_background(folder)
    if calls is not None and "mev_label" in calls.table.columns:
        labelled = calls.table["mev_label"].notna().to_numpy(dtype=bool)
        add("labelled MEV", crossed.score(calls)[labelled])
    add(
        "bot-like: sender absent, 3+ transfers, no known router (mostly arbitrage)",
        crossed.scores[looks_like_arbitrage(background, crossed.table(background))],
        counted=False,
    )
    unusual = load_unusual_defi(folder)
    if unusual is not None:
        add("unusual DeFi (robustness set)", crossed.score(unusual), counted=False)
    return cases


def _other_sets(
    folder: Path, scored: Scored, crossed: CrossFit, repetitions: int
) -> dict[str, Figures]:
    """Like with like, another chain, real logs."""
    others: dict[str, Scored] = {}
    calls = load_calls_background(folder)
    if calls is not None:
        blocks = calls.table["block_number"].to_numpy(dtype=np.int64)
        like = replace(scored, background=crossed.score(calls), blocks=blocks)
        others["exploits against call-derived background"] = like
    bsc = load_exploits(folder, "bsc")
    if bsc is not None:
        other = replace(scored, exploits=crossed.score(bsc), clusters=clusters(bsc))
        others["BSC exploits against mainnet background"] = other
    sets: dict[str, Figures] = {}
    for name, other in others.items():
        bootstrap = Bootstrap(other, repetitions=repetitions)
        sets[name] = {
            "background": len(other.background),
            "exploits": len(other.exploits),
            "auc": auc(other.background, other.exploits),
            "by_cluster": interval(bootstrap.auc(bootstrap.by_cluster)),
        }
    history = load_protocol_history(folder)
    if history is not None:
        labels = history.table["label"].to_numpy(dtype=str)
        for label in sorted(set(labels) - {"history"}):
            ours = crossed.score(history)[labels == label]
            sets[f"protocol history with real logs, {label}"] = {
                "exploits": len(ours),
                "auc": auc(scored.background, ours),
                "scores": [round(float(score), 3) for score in sorted(ours)],
            }
    return sets


def _single_features(
    crossed: CrossFit, background: TransactionSet, exploits: TransactionSet
) -> dict[str, Figures]:
    """What each feature alone does, by the first fold's model."""
    model = next(iter(crossed.models.values()))
    ours, theirs = model.features(background), model.features(exploits)
    return {
        name: {
            "auc": auc(ours[:, column], theirs[:, column]),
            "background_not_zero": float(np.mean(ours[:, column] > 0)),
            "exploits_not_zero": float(np.mean(theirs[:, column] > 0)),
        }
        for column, name in enumerate(FOREST_INPUTS)
    }


def _short(crossed: CrossFit, exploits: TransactionSet) -> Figures:
    scores = crossed.score(exploits)
    return {
        "auc": auc(crossed.scores, scores),
        "recall": float(np.mean(scores >= np.quantile(crossed.scores, 0.996))),
        "threshold": float(np.quantile(crossed.scores, 0.996)),
    }
