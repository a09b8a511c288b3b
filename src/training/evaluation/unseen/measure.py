"""Figures of both models on every set of attacks, on three backgrounds, and of what one adds."""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.datasets.tables import TransactionSet, read_unknown_tokens
from src.datasets.training_set import data_identity, load_background
from src.reports.intervals import share_interval
from src.training.attack.data import REPLAYS_FILE, looks_like_arbitrage
from src.training.attack.fit import AttackParameters
from src.training.evaluation.sets import load_calls_background
from src.training.evaluation.statistics import (
    Bootstrap,
    Scored,
    auc,
    cluster_weights,
    interval,
    ranks,
    recall_at,
)
from src.training.evaluation.unseen.attacks import AttackSet, attack_classes, load_attack_sets
from src.training.evaluation.unseen.cross_fit import (
    ATTACK_SCORE,
    DETECTORS,
    FOREST,
    JointCrossFit,
    joint_cross_fit,
)
from src.training.evaluation.unseen.robustness import robustness
from src.training.fit import CrossFit

RATES = (0.001, 0.004)
TRANSFERS = {"1": (1, 1), "2-4": (2, 4), "5-9": (5, 9), "10-19": (10, 19), "20+": (20, 2**31)}
"""Ranges of the number of transfers, both ends included."""

_RECALL_FOR_ALARMS = 0.6
_MIN_OF_CLASS = 8
_MIN_LONG = 5

Figures = dict[str, Any]

logger = logging.getLogger(__name__)


def _set_figures(
    background: TransactionSet, crossed: JointCrossFit, attacks: AttackSet, repetitions: int
) -> Figures:
    blocks = background.table["block_number"].to_numpy(dtype=np.int64)
    scores = crossed.score(attacks.data, attacks.folds)
    scored = {
        name: Scored(crossed.background[name], blocks, scores[name], attacks.clusters)
        for name in DETECTORS
    }
    long = (background.n_transfers >= _MIN_LONG, attacks.data.n_transfers >= _MIN_LONG)
    bootstraps = {name: Bootstrap(one, repetitions=repetitions) for name, one in scored.items()}
    figures: Figures = {
        "attacks": len(attacks.data),
        "clusters": len(np.unique(attacks.clusters)),
        "detectors": {name: _detector(one, bootstraps[name], long) for name, one in scored.items()},
        "added": _added(bootstraps),
    }
    thresholds = {name: np.quantile(crossed.background[name], 1 - RATES[1]) for name in DETECTORS}
    flagged = {name: scores[name] >= thresholds[name] for name in DETECTORS}
    figures["by_transfers"] = {
        name: _found(
            (attacks.data.n_transfers >= low) & (attacks.data.n_transfers <= high), flagged
        )
        for name, (low, high) in TRANSFERS.items()
    }
    classes = attack_classes(attacks.data)
    figures["by_class"] = {
        name: _found(np.array([name in of for of in classes]), flagged)
        for name in sorted(frozenset().union(*classes))
        if sum(name in of for of in classes) >= _MIN_OF_CLASS
    }
    return figures


def _detector(
    scored: Scored, bootstrap: Bootstrap, long: tuple[NDArray[np.bool_], NDArray[np.bool_]]
) -> Figures:
    weights = cluster_weights(scored.clusters)
    part = scored.where(*long)
    at = np.quantile(scored.exploits, 1 - _RECALL_FOR_ALARMS)
    figures: Figures = {
        "auc": auc(scored.background, scored.exploits),
        "auc_by_cluster": interval(bootstrap.auc(bootstrap.by_cluster)),
        "auc_of_clusters": float(
            np.average(ranks(scored.background, scored.exploits), weights=weights)
        ),
        "auc_5_or_more": auc(part.background, part.exploits) if len(part.exploits) else None,
        "background_at_60%": float(np.mean(scored.background >= at)),
    }
    for rate in RATES:
        found = scored.exploits >= np.quantile(scored.background, 1 - rate)
        figures[f"recall_{rate:.1%}"] = {
            "rows": recall_at(scored, rate),
            "clusters": float(np.average(found, weights=weights)),
            "by_cluster": interval(bootstrap.recall(bootstrap.by_cluster, rate)),
        }
    return figures


def _added(bootstraps: dict[str, Bootstrap]) -> Figures:
    """Attack score minus forest on the same resamples, by cluster."""
    both = [bootstraps[ATTACK_SCORE], bootstraps[FOREST]]
    gain = {"auc": [one.auc(one.by_cluster) for one in both]}
    for rate in RATES:
        gain[f"recall_{rate:.1%}"] = [one.recall(one.by_cluster, rate) for one in both]
    return {name: interval(ours - theirs) for name, (ours, theirs) in gain.items()}


def _found(mask: NDArray[np.bool_], flagged: dict[str, NDArray[np.bool_]]) -> Figures:
    return {"attacks": int(mask.sum())} | {
        name: int(flags[mask].sum()) for name, flags in flagged.items()
    }


def _alarms(crossed: JointCrossFit) -> Figures:
    """How many of the alarms on cross-fitted background look like arbitrage."""
    figures: Figures = {}
    for name in DETECTORS:
        scores = crossed.background[name]
        for rate in RATES:
            flagged = scores >= np.quantile(scores, 1 - rate)
            figures[f"{name} {rate:.1%}"] = {
                "alarms": int(flagged.sum()),
                "arbitrage": int((flagged & crossed.is_arbitrage).sum()),
            }
    return figures


def _backgrounds(
    folder: Path, blocks: Path | None, background: TransactionSet, crossed: JointCrossFit
) -> dict[str, Figures]:
    """What thresholds that were set on the first background flag of others."""
    others = {"whole blocks, cross-fitted": (background, crossed.background, crossed.is_arbitrage)}
    more = {}
    if (calls := load_calls_background(folder)) is not None:
        more["whole blocks rebuilt from calls"] = calls
    if blocks is not None:
        further = load_background(blocks)
        identity = data_identity(further, np.arange(len(further)))
        dates = " to ".join(dict.fromkeys((identity["first_date"], identity["last_date"])))
        more[f"{identity['blocks']} whole blocks of {dates}"] = further
    for name, data in more.items():
        is_arbitrage = looks_like_arbitrage(data, crossed.forests.table(data))
        others[name] = (data, crossed.score(data), is_arbitrage)
    figures: dict[str, Figures] = {}
    for name, (data, scores, is_arbitrage) in others.items():
        figures[name] = {"transactions": len(data), "arbitrage": int(is_arbitrage.sum())}
        for detector in DETECTORS:
            threshold = np.quantile(crossed.background[detector], 1 - RATES[1])
            flagged = scores[detector] >= threshold
            labelled = data.table.get("mev_label")
            figures[name][detector] = {
                "flagged": int(flagged.sum()),
                "interval": share_interval(int(flagged.sum()), len(data)),
                "arbitrage": int((flagged & is_arbitrage).sum()),
                "labelled_mev": None
                if labelled is None
                else [int(flagged[labelled.notna()].sum()), int(labelled.notna().sum())],
            }
    return figures


@dataclass(frozen=True, slots=True)
class UnseenData:
    """Where data besides the data set lie; what is None or empty is left out."""

    replays: Path | None = None  # a folder of exploit replays
    blocks: Path | None = None  # a folder of whole blocks that no model is fitted on
    evasions: Sequence[Path] = ()  # folders of rewritten attacks
    token_facts: Path | None = None  # a table of which tokens have a reputation

    @classmethod
    def beside(cls, folder: Path) -> "UnseenData":
        """The folders `data-replays` and `data-blocks` beside a data set, where they are there."""
        replays, blocks = folder.parent / "data-replays", folder.parent / "data-blocks"
        return cls(
            replays if (replays / REPLAYS_FILE).is_file() else None,
            blocks if blocks.is_dir() else None,
        )

    @classmethod
    def of(cls, options: argparse.Namespace) -> "UnseenData":
        """What a command's options name, else what is beside its data set."""
        beside = cls.beside(options.data)
        return cls(
            replays=options.replays or beside.replays,
            blocks=options.blocks or beside.blocks,
            evasions=options.robustness,
            token_facts=getattr(options, "token_facts", None),
        )


def evaluate_unseen(
    folder: Path,
    background: TransactionSet,
    forests: CrossFit,
    data: UnseenData,
    *,
    parameters: AttackParameters | None = None,
    repetitions: int,
) -> Figures:
    """Fit the attack trees of each fold and measure both models.

    Raises:
        TableError: a file cannot be read.
    """
    unknown = () if data.token_facts is None else read_unknown_tokens(data.token_facts)
    logger.info("fitting the attack trees")
    attacks = load_attack_sets(folder, data.replays, len(forests.models))
    crossed = joint_cross_fit(background, forests, attacks, parameters or AttackParameters())
    sets: Figures = {}
    for one in attacks:
        logger.info("%s", one.name)
        sets[one.name] = _set_figures(background, crossed, one, repetitions)
    figures: Figures = {
        "sets": sets,
        "alarms": _alarms(crossed),
        "backgrounds": _backgrounds(folder, data.blocks, background, crossed),
        "robustness": {},
    }
    for evasions in data.evasions:
        logger.info("evasions of %s", evasions.name)
        figures["robustness"][evasions.name] = robustness(
            evasions, crossed, attacks, unknown_tokens=unknown
        )
    return figures
