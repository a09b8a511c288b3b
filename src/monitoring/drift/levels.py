"""From where on drift counts."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Levels:
    """Drift thresholds beyond sampling noise, one for watch and one for retrain."""

    psi: tuple[float, float] = (0.1, 0.25)  # population stability index of a column
    # Distance in standard deviations of the reference.
    wasserstein: tuple[float, float] = (0.15, 0.5)
    # Factor between the anomaly rates, if their intervals do not overlap.
    rate: tuple[float, float] = (1.5, 3.0)
    # Rise of the share of transactions with tokens unknown to the model.
    unknown: tuple[float, float] = (0.1, 0.25)
    missing: tuple[float, float] = (0.1, 0.25)  # Rise of the share of an input's missing values.
    least: int = 1000  # minimum number of transactions per sample
