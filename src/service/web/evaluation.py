"""The committed evaluation, as far as the pages show it."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from src.registry.bundle import EVALUATION_FILE, bundle_file
from src.settings import PROJECT_ROOT

EVALUATION_PATH = bundle_file(PROJECT_ROOT, EVALUATION_FILE)


@dataclass(frozen=True, slots=True)
class FeatureInTraining:
    """How telling one feature is.

    Attributes:
        background: share of ordinary transactions in which it is not zero.
        exploits: share of known exploits in which it is not zero.
        auc: how well it alone tells them apart.
    """

    background: float
    exploits: float
    auc: float


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value with its 95 % interval."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured of one model.

    Attributes:
        model_sha256: of the model file that was measured.
        background, exploits: transactions that it was measured on.
        auc: of each detector on all transactions.
        recall: of the model, by share of background flagged.
        features: each input by itself.
        background_flagged, exploits_flagged: at the model's threshold.
    """

    model_sha256: str
    background: int
    exploits: int
    auc: tuple[Figure, ...]
    recall: tuple[Figure, ...]
    features: Mapping[str, FeatureInTraining]
    background_flagged: int
    exploits_flagged: int

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Take what is shown. Raises KeyError, TypeError or ValueError for another format."""
        detectors = content["detectors"]
        model = next(iter(detectors.values()))
        flagged = content["by_stratum_at_threshold"]["all"]
        return cls(
            model_sha256=content["model_sha256"],
            background=flagged["background"],
            exploits=flagged["exploits"],
            auc=tuple(
                Figure(name, one["auc"]["all"]["auc"], *one["auc"]["all"]["by_cluster"])
                for name, one in detectors.items()
            ),
            recall=tuple(
                Figure(share, one["recall"], *one["by_cluster"])
                for share, one in model["recall"].items()
            ),
            features={
                name: FeatureInTraining(
                    one["background_not_zero"], one["exploits_not_zero"], one["auc"]
                )
                for name, one in content["single_features"].items()
            },
            background_flagged=flagged["background_flagged"],
            exploits_flagged=flagged["exploits_flagged"],
        )


@functools.lru_cache(maxsize=4)
def read_evaluation(model_sha256: str) -> Evaluation | None:
    """The evaluation of this very model; None where there is none, or it is another one's."""
    try:
        found = Evaluation.from_json(json.loads(EVALUATION_PATH.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.model_sha256 == model_sha256 else None
