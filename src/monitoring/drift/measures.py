"""Effect sizes of drift: how far two samples differ, not how certain the difference is.

A test's p-value falls with the sample size until everything is "significant"; effect sizes do not
grow with it. They have a floor of sampling noise, which is measured between halves of the reference
and subtracted: transactions of one block resemble each other, so the noise is several times that of
independent ones, and formulas for independent samples would raise false alarms.

Population stability index: sum over bins of (q - p) ln(q / p), the symmetric Kullback-Leibler
divergence of the binned samples; customary readings are 0.1 for some drift and 0.25 for a lot. Its
noise goes with 1/n + 1/m (Yurdakul, "Statistical properties of the population stability index",
2018).

Wasserstein distance in standard deviations of the reference: how far the mass moved. Its noise goes
with the root of 1/n + 1/m.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Masks = Sequence[NDArray[np.bool_]]

MAX_POINTS = 256
_DECIMALS = 6
_MIN_MASS = 0.02
_NOISE_QUANTILE = 0.95


@dataclass(frozen=True, slots=True)
class Noise:
    """The measures without drift: factors of 1/n + 1/m, and of its square root."""

    psi: float = 0.0
    wasserstein: float = 0.0


@dataclass(frozen=True, slots=True)
class Distribution:
    """One column of a sample as points with weights: small enough to be kept with a model."""

    values: Floats  # ascending, distinct, shape (k,), k at most 2 * `MAX_POINTS`
    shares: Floats  # of each, adding up to 1
    size: int  # number of observations
    noise: Noise = Noise()  # of this column

    @classmethod
    def of(cls, observations: Floats) -> Self:
        """Summarise observations.

        Frequent values are kept exactly: most traffic has the same few shapes. If there are too
        many others, neighbours are merged.
        """
        rounded = np.round(observations.astype(np.float64), _DECIMALS) + 0.0
        values, counts = np.unique(rounded, return_counts=True)
        if len(values) > MAX_POINTS:
            often = counts * MAX_POINTS >= len(observations)
            rare = np.repeat(values[~often], counts[~often])
            sizes = np.bincount(np.arange(len(rare)) % MAX_POINTS)  # of the groups
            starts = np.cumsum(sizes) - sizes
            medians = rare[starts + (sizes - 1) // 2] / 2 + rare[starts + sizes // 2] / 2
            points = np.concatenate([values[often], medians])
            weights = np.concatenate([counts[often], sizes])
            values, inverse = np.unique(points, return_inverse=True)
            counts = np.bincount(inverse, weights=weights)
        return cls(values, counts / counts.sum(), len(observations))

    def with_noise(self, observations: Floats, halves: Masks) -> Self:
        """A copy with its noise, measured between halves of the observations."""
        measured = [
            _raw(self.of(observations[half]), self.of(observations[~half]))
            for half in halves
            if half.any() and not half.all()
        ]
        return replace(self, noise=_noise(measured))

    @property
    def spread(self) -> float:
        """Standard deviation."""
        mean = float(self.values @ self.shares)
        return float(np.sqrt(np.maximum(0.0, ((self.values - mean) ** 2) @ self.shares)))


@dataclass(frozen=True, slots=True)
class Categories:
    """The number of occurrences of each category."""

    counts: Mapping[str, int]  # by name
    size: int  # number of transactions
    noise: Noise = Noise()  # of this mix


@dataclass(frozen=True, slots=True)
class Effect:
    """How far one column moved."""

    psi: float  # population stability index
    psi_noise: float  # its value without drift
    wasserstein: float | None = None  # in standard deviations of the reference; None for categories
    wasserstein_noise: float = 0.0  # its value without drift

    @property
    def psi_excess(self) -> float:
        """Beyond noise."""
        return max(0.0, self.psi - self.psi_noise)

    @property
    def wasserstein_excess(self) -> float:
        """Beyond noise."""
        return max(0.0, (self.wasserstein or 0.0) - self.wasserstein_noise)


def effect(reference: Distribution, current: Distribution) -> Effect:
    """The drift of a numeric column."""
    psi, distance = _raw(reference, current)[:2]
    scarcity = 1 / reference.size + 1 / current.size
    noise = reference.noise
    return Effect(psi, noise.psi * scarcity, distance, noise.wasserstein * scarcity**0.5)


def categorical_effect(reference: Categories, current: Categories) -> Effect:
    """The drift of a mix of categories; those below 2% of the reference are merged."""
    scarcity = 1 / reference.size + 1 / current.size
    return Effect(_categorical_psi(reference, current), reference.noise.psi * scarcity)


def categorical_noise(halves: Sequence[tuple[Categories, Categories]]) -> Noise:
    """The noise of a mix, measured between halves of a sample."""
    return _noise(
        [
            (_categorical_psi(one, other), 0.0, 1 / one.size + 1 / other.size)
            for one, other in halves
        ]
    )


def bin_edges(reference: Distribution) -> Floats:
    """Upper ends of all bins but the last, such that each contains enough mass of the reference.

    Most inputs are counts and mostly zero, so all deciles would be the same value. Instead, each
    distinct value starts as a bin, and neighbouring bins are merged until each contains enough, for
    at most about ten bins. Values above a dominating value form a bin, however rare they are, and
    so do those on either side of the only one.
    """
    if len(reference.values) == 1:
        return np.array([np.nextafter(reference.values[0], -np.inf), reference.values[0]])
    least = max(_MIN_MASS, (1 - float(reference.shares.max())) / 10)
    edges, held = [], 0.0
    for value, share in zip(reference.values, reference.shares, strict=True):
        held += share
        if held >= least:
            edges.append(value)
            held = 0.0
    if len(edges) > 1 and held < least:
        edges.pop()  # merge the rest into the last bin
    return np.array(edges)


def _raw(reference: Distribution, current: Distribution) -> tuple[float, float, float]:
    """Stability index, distance, and 1/n + 1/m."""
    from scipy.stats import wasserstein_distance  # noqa: PLC0415  slow: not for every start

    edges = bin_edges(reference)
    p, q = (_binned(side, edges) for side in (reference, current))
    distance = wasserstein_distance(
        reference.values, current.values, reference.shares, current.shares
    )
    # A constant reference has no spread; then the measure is the distance itself.
    spread = reference.spread or 1.0
    scarcity = 1 / reference.size + 1 / current.size
    return _psi(p, q, reference.size, current.size), float(distance) / spread, scarcity


def _noise(measured: Sequence[tuple[float, float, float]]) -> Noise:
    if not measured:
        return Noise()
    psi = [index / scarcity for index, _, scarcity in measured]
    distances = [distance / scarcity**0.5 for _, distance, scarcity in measured]
    return Noise(
        float(np.quantile(psi, _NOISE_QUANTILE)), float(np.quantile(distances, _NOISE_QUANTILE))
    )


def _categorical_psi(reference: Categories, current: Categories) -> float:
    total = sum(reference.counts.values()) or 1
    kept = sorted(n for n, count in reference.counts.items() if count / total >= _MIN_MASS)

    def shares(counts: Mapping[str, int]) -> Floats:
        many = sum(counts.values()) or 1
        own = [counts.get(name, 0) / many for name in kept]
        return np.array([*own, max(0.0, 1 - sum(own))])

    return _psi(shares(reference.counts), shares(current.counts), reference.size, current.size)


def _binned(side: Distribution, edges: Floats) -> Floats:
    where = np.searchsorted(edges, side.values, side="left")
    summed = np.bincount(where, weights=side.shares, minlength=len(edges) + 1)
    return summed.astype(np.float64)


def _psi(p: Floats, q: Floats, n: int, m: int) -> float:
    """Adds half an observation to each bin, so that an empty bin does not give infinity."""
    bins = len(p)
    p = (p * n + 0.5) / (n + 0.5 * bins)
    q = (q * m + 0.5) / (m + 0.5 * bins)
    return float(np.sum((q - p) * np.log(q / p)))
