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

import numpy as np
from numpy.typing import NDArray

from src.registry.drift_reference import Categories, Distribution, Floats, Noise

Masks = Sequence[NDArray[np.bool_]]

_MIN_MASS = 0.02
_NOISE_QUANTILE = 0.95


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


def distributions(observed: Mapping[str, Floats], halves: Masks) -> dict[str, Distribution]:
    """Each column that has a finite value, with its noise, measured between halves of the rows."""
    columns = {}
    for name, every in observed.items():
        present = np.isfinite(every)
        values = every[present]
        if len(values):
            measured = [
                _raw(Distribution.of(values[half]), Distribution.of(values[~half]))
                for half in (one[present] for one in halves)
                if half.any() and not half.all()
            ]
            columns[name] = replace(Distribution.of(values), noise=_noise(measured))
    return columns


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
