"""Everything about attacks that the models were not fitted on, in one call."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.datasets.tables import TransactionSet
from src.training.attack.data import REPLAYS_FILE
from src.training.attack.fit import AttackParameters
from src.training.evaluation.unseen.attacks import load_attack_sets
from src.training.evaluation.unseen.cross_fit import joint_cross_fit
from src.training.evaluation.unseen.measure import unseen_figures
from src.training.evaluation.unseen.robustness import load_unknown_tokens, robustness
from src.training.fit import CrossFit

logger = logging.getLogger(__name__)


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


def evaluate_unseen(
    folder: Path,
    background: TransactionSet,
    forests: CrossFit,
    data: UnseenData,
    *,
    parameters: AttackParameters | None = None,
    repetitions: int,
) -> dict[str, Any]:
    """Fit the attack trees of each fold and measure both models.

    Raises:
        TableError: a file cannot be read.
    """
    logger.info("fitting the attack trees")
    attacks = load_attack_sets(folder, data.replays, len(forests.models))
    crossed = joint_cross_fit(background, forests, attacks, parameters or AttackParameters())
    figures = unseen_figures(
        folder, data.blocks, background, crossed, attacks, repetitions=repetitions
    )
    unknown = () if data.token_facts is None else load_unknown_tokens(data.token_facts)
    figures["robustness"] = {}
    for evasions in data.evasions:
        logger.info("evasions of %s", evasions.name)
        figures["robustness"][evasions.name] = robustness(
            evasions, crossed, attacks, unknown_tokens=unknown
        )
    return figures
