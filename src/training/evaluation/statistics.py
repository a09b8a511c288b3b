"""Figures of detection quality with bootstrap intervals, by row and by cluster.

Background transactions of one block resemble each other and runs of one attack are the same attack:
so the background is resampled by block, and exploits once by row and once by cluster. Intervals are
the 2.5th to 97.5th percentile.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

REPETITIONS = 1000
RATES = (0.001, 0.004, 0.01, 0.05)
"""Shares of the background flagged, at which recall is stated."""

Interval = tuple[float, float]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scored:
    """One detector's scores of background and exploits, with what resampling needs."""

    background: Floats  # scores, shape (n,)
    blocks: Ints  # the block of each
    exploits: Floats  # scores, shape (m,)
    clusters: Ints  # the cluster of each

    def where(self, background: NDArray[np.bool_], exploits: NDArray[np.bool_]) -> "Scored":
        """A part of both."""
        return Scored(
            self.background[background],
            self.blocks[background],
            self.exploits[exploits],
            self.clusters[exploits],
        )


def auc(background: Floats, exploits: Floats) -> float:
    """Probability that an exploit scores above a background transaction, ties half."""
    return float(np.mean(ranks(background, exploits)))


def ranks(background: Floats, scores: Floats) -> Floats:
    """Share of the background below each score, equal ones half."""
    ordered = np.sort(background)
    below = np.searchsorted(ordered, scores, side="left")
    through = np.searchsorted(ordered, scores, side="right")
    shares: Floats = (below + through) / 2 / len(ordered)
    return shares


def recall_at(scored: Scored, rate: float) -> float:
    """Share of exploits at or above the score that this share of the background exceeds."""
    return float(np.mean(scored.exploits >= np.quantile(scored.background, 1 - rate)))


def cluster_weights(clusters: Ints) -> Floats:
    """Weights with which each cluster counts as one."""
    counts = np.bincount(clusters)
    weights: Floats = 1.0 / counts[clusters]
    return weights


class Bootstrap:
    """Resamples one detector's scores; the resampling is the same for every detector."""

    def __init__(self, scored: Scored, *, repetitions: int = REPETITIONS) -> None:
        random = np.random.default_rng(0)
        self._scored = scored
        order = np.argsort(scored.background, kind="stable")
        self._ordered = scored.background[order]
        self._below = np.searchsorted(self._ordered, scored.exploits, side="left")
        self._through = np.searchsorted(self._ordered, scored.exploits, side="right")
        _, block = np.unique(scored.blocks, return_inverse=True)
        _, cluster = np.unique(scored.clusters, return_inverse=True)
        block_draws = _draws(random, int(block.max()) + 1, repetitions)
        cluster_draws = _draws(random, int(cluster.max()) + 1, repetitions)
        self.by_row = _draws(random, len(scored.exploits), repetitions)
        self.by_cluster = cluster_draws[:, cluster]
        self._background = block_draws[:, block[order]]

    def auc(self, weights: Floats) -> Floats:
        """AUC of each repetition, exploits weighted by `by_row` or `by_cluster`."""
        values = []
        for background, exploits in zip(self._background, weights, strict=True):
            cumulative = np.concatenate([[0.0], np.cumsum(background)])
            share = (cumulative[self._below] + cumulative[self._through]) / 2 / cumulative[-1]
            values.append(np.average(share, weights=exploits))
        return np.array(values)

    def recall(self, weights: Floats, rate: float) -> Floats:
        """Recall at a rate of each repetition; the threshold is resampled too."""
        values = []
        last = len(self._ordered) - 1
        for background, exploits in zip(self._background, weights, strict=True):
            cumulative = np.cumsum(background)
            at = min(int(np.searchsorted(cumulative, (1 - rate) * cumulative[-1])), last)
            flagged = self._scored.exploits >= self._ordered[at]
            values.append(np.average(flagged, weights=exploits))
        return np.array(values)

    def flagged(self, threshold: float) -> Floats:
        """Share of the background at or above a threshold, of each repetition."""
        first = int(np.searchsorted(self._ordered, threshold, side="left"))
        totals = self._background.sum(axis=1)
        shares: Floats = self._background[:, first:].sum(axis=1) / totals
        return shares

    def detected(self, weights: Floats, threshold: float) -> Floats:
        """Share of exploits at or above a threshold, of each repetition."""
        flagged = (self._scored.exploits >= threshold).astype(np.float64)
        shares: Floats = weights @ flagged / weights.sum(axis=1)
        return shares

    def average_precision(self, weights: Floats) -> Floats:
        """Average precision of the first repetitions; of all it would take minutes."""
        labels = np.concatenate([np.zeros(len(self._ordered)), np.ones(len(weights[0]))])
        scores = np.concatenate([self._ordered, self._scored.exploits])
        return np.array(
            [
                average_precision_score(labels, scores, sample_weight=np.concatenate(pair))
                for pair in zip(self._background[:200], weights[:200], strict=True)
            ]
        )


def interval(values: Floats) -> Interval:
    """The central 95%."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _draws(random: np.random.Generator, units: int, repetitions: int) -> Floats:
    """How often each unit is drawn in each repetition."""
    return random.multinomial(units, np.full(units, 1 / units), size=repetitions).astype(np.float64)
