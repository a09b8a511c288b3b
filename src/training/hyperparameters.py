"""The hyperparameters of the model, with their reasons.

docs/model/MODEL_LOG.md records other values that were tried. The manifest of a model contains its
values.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Selection of the training transactions, token profile, forest and threshold."""

    n_estimators: int = 150  # trees. From 100 to 300 nothing differs beyond the seeds.
    # Rows per tree. More rows contain more rare complex but benign transactions: 64 rows cost 0.02
    # of AUC within five or more transfers; beyond 1,024 nothing is gained.
    max_samples: int = 1024
    max_features: float = 1.0  # share of features a tree sees. Less than all is worse.
    random_state: int = 0  # 0 by convention, never chosen by its result
    # Share of single-transfer transactions that the forest is fitted on. They are two thirds of the
    # traffic and nearly identical: with all of them every split is spent on them; with none the
    # model has never seen one.
    single_transfer_share: float = 0.10
    capped_source: str = "pevm-replay"  # a source of whole blocks full of plain transfers
    capped_source_share: float = 0.10  # its maximum share of the training transactions
    # Tokens with fewer positive transfers in training have no profile.
    min_token_transfers: int = 10
    # Least robust standard deviation of log10(amount): a token that always moved the same amount
    # must not make every other amount extraordinary.
    min_token_scale: float = 0.5
    folds: int = 5  # parts, of whole blocks, for cross-fitted scores
    # The shipped threshold, see docs/model/MODEL_CARD.md for its reason.
    anomaly_threshold: float = 0.675
