"""The hyperparameters of the model, with their reasons.

docs/model/MODEL_LOG.md records other values that were tried. The manifest of a model contains its
values.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Selection of the training transactions, token profile, forest and threshold.

    Attributes:
        n_estimators: trees. From 100 to 300 nothing differs beyond the seeds.
        max_samples: rows per tree. More rows contain more rare complex but benign transactions:
            64 rows cost 0.02 of AUC within five or more transfers; beyond 1,024 nothing is gained.
        max_features: share of features a tree sees. Less than all is worse.
        random_state: 0 by convention, never chosen by its result.
        single_transfer_share: share of single-transfer transactions that the forest is fitted on.
            They are two thirds of the traffic and nearly identical: with all of them every split
            is spent on them; with none the model has never seen one.
        capped_source: a source of whole blocks full of plain transfers ...
        capped_source_share: ... and its maximum share of the training transactions.
        min_token_transfers: tokens with fewer positive transfers in training have no profile.
        min_token_scale: least robust standard deviation of log10(amount): a token that always moved
            the same amount must not make every other amount extraordinary.
        folds: parts, of whole blocks, for cross-fitted scores.
        anomaly_threshold: the shipped threshold, see docs/model/MODEL_CARD.md for its reason.
    """

    n_estimators: int = 150
    max_samples: int = 1024
    max_features: float = 1.0
    random_state: int = 0
    single_transfer_share: float = 0.10
    capped_source: str = "pevm-replay"
    capped_source_share: float = 0.10
    min_token_transfers: int = 10
    min_token_scale: float = 0.5
    folds: int = 5
    anomaly_threshold: float = 0.675
