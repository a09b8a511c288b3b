"""Both models of each fold, fitted without the fold's blocks and without its attacks."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.datasets.tables import TableError, TransactionSet
from src.detection.attack.ranking import Calibration
from src.training.attack.data import looks_like_arbitrage
from src.training.attack.fit import AttackParameters, fit_trees, outputs_of
from src.training.evaluation.statistics import cluster_weights
from src.training.evaluation.unseen.attacks import AttackSet
from src.training.fit import CrossFit, scores_of

FOREST = "isolation forest"
TREES = "attack trees alone"
ATTACK_SCORE = "attack score"
DETECTORS = (FOREST, TREES, ATTACK_SCORE)

Scores = dict[str, NDArray[np.float64]]
"""By detector."""


@dataclass(frozen=True, slots=True)
class JointCrossFit:
    """The models of all folds, and the background as scored by those that did not see it."""

    forests: CrossFit  # cross-fitted on the background
    trees: dict[int, Any]  # the attack classifier of each fold
    calibration: Calibration  # of both on the cross-fitted background
    background: Scores
    is_arbitrage: NDArray[np.bool_]  # which background transactions look like arbitrage

    def score(
        self,
        data: TransactionSet,
        folds: NDArray[np.int64] | None = None,
        *,
        unknown_tokens: Collection[str] = (),
    ) -> Scores:
        """Score other transactions.

        Args:
            data: the transactions.
            folds: by transaction, the fold that it was held out in: its models score it. None for
                the mean over all folds' models.
            unknown_tokens: those without a reputation. The attack score is then the larger of the
                one with all tokens and the one without these.
        """
        forest, trees = self._outputs(data, folds)
        scores = {
            FOREST: forest,
            TREES: trees,
            ATTACK_SCORE: self.calibration.attack_scores(forest, trees),
        }
        if unknown_tokens:
            batch = data.batch.without(unknown_tokens)
            forest, trees = self._outputs(TransactionSet(data.table, batch), folds)
            known = self.calibration.attack_scores(forest, trees)
            scores[ATTACK_SCORE] = np.maximum(scores[ATTACK_SCORE], known)
        return scores

    def _outputs(
        self, data: TransactionSet, folds: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        both = np.zeros((2, len(data)))
        for fold, model in self.forests.models.items():
            table = model.table(data)
            outputs = np.array(
                [
                    scores_of(model.forest, table[:, model.columns]),
                    outputs_of(self.trees[fold], table),
                ]
            )
            if folds is None:
                both += outputs / len(self.trees)
            else:
                both[:, folds == fold] = outputs[:, folds == fold]
        return both[0], both[1]


def joint_cross_fit(
    background: TransactionSet,
    forests: CrossFit,
    attacks: Sequence[AttackSet],
    parameters: AttackParameters,
) -> JointCrossFit:
    """Fit each fold's trees and score the background.

    The background is what `forests` was cross-fitted on, with `to_address`.

    Raises:
        TableError: all attacks are in one fold.
    """
    numbers = np.concatenate([one.clusters for one in attacks])
    folds = np.concatenate([one.folds for one in attacks])
    if (folds == folds[0]).all():
        raise TableError(
            "the known attacks are all held out together, as they are too few, or of one transfer "
            "graph or protocol: none is left to learn from"
        )
    outputs = np.zeros(len(background))
    looks = looks_like_arbitrage(background, forests.table(background))
    weights = np.where(looks, parameters.arbitrage_weight, 1.0)
    trees = {}
    for fold, model in forests.models.items():
        ordinary = model.table(background)
        known = np.concatenate([model.table(one.data) for one in attacks])[folds != fold]
        allowed, held_out = forests.fold != fold, forests.fold == fold
        classifier = fit_trees(
            (ordinary[allowed], weights[allowed]),
            (known, cluster_weights(numbers[folds != fold])),
            parameters,
        )
        outputs[held_out] = outputs_of(classifier, ordinary[held_out])
        trees[fold] = classifier
    calibration = Calibration.of(forests.scores, outputs)
    scores = {
        FOREST: forests.scores,
        TREES: outputs,
        ATTACK_SCORE: calibration.attack_scores(forests.scores, outputs),
    }
    return JointCrossFit(forests, trees, calibration, scores, looks)
