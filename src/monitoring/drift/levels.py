"""From where on drift counts."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Levels:
    """Drift thresholds beyond sampling noise, one for watch and one for retrain.

    Attributes:
        psi: population stability index of a column.
        wasserstein: distance in standard deviations of the reference.
        rate: factor between the anomaly rates, if their intervals do not overlap.
        unknown: rise of the share of transactions with tokens unknown to the model.
        least: minimum number of transactions per sample.
    """

    psi: tuple[float, float] = (0.1, 0.25)
    wasserstein: tuple[float, float] = (0.15, 0.5)
    rate: tuple[float, float] = (1.5, 3.0)
    unknown: tuple[float, float] = (0.1, 0.25)
    least: int = 1000
