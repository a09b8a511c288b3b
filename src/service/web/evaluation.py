"""The parts of the committed evaluation that the pages show."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from src.registry.bundle import EVALUATION_FILE, bundle_file
from src.settings import PROJECT_ROOT

EVALUATION_PATH = bundle_file(PROJECT_ROOT, EVALUATION_FILE)
SHARES = ("0.1%", "0.4%")


@dataclass(frozen=True, slots=True)
class FeatureInTraining:
    """How well one feature separates exploits from ordinary transactions."""

    background: float  # share of ordinary transactions in which it is not zero
    exploits: float  # share of known exploits in which it is not zero
    auc: float  # of this feature alone


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value with its 95 % interval."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class UnseenSet:
    """Attacks that took no part in training the models that score them."""

    name: str
    attacks: int
    # The share found, by detector and then by the share of ordinary transactions flagged.
    found: Mapping[str, Mapping[str, Figure]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The evaluation of one model."""

    model_sha256: str  # of the evaluated model file
    # background, exploits: number of evaluated transactions.
    background: int
    exploits: int
    auc: tuple[Figure, ...]  # of each detector on all transactions
    recall: tuple[Figure, ...]  # of the model, by share of background flagged
    features: Mapping[str, FeatureInTraining]  # each input on its own
    # background_flagged, exploits_flagged: at the model's threshold.
    background_flagged: int
    exploits_flagged: int
    # Sets of attacks, those that were new when the inputs were formed first.
    unseen: tuple[UnseenSet, ...]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Parse an evaluation. Raises KeyError, TypeError or ValueError for another format."""
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
            unseen=tuple(
                sorted(
                    (
                        UnseenSet(
                            name,
                            one["attacks"],
                            {
                                detector: {share: _recall(share, own) for share in SHARES}
                                for detector, own in one["detectors"].items()
                            },
                        )
                        for name, one in content.get("unseen", {}).get("sets", {}).items()
                    ),
                    key=lambda one: one.name.startswith("older"),
                )
            ),
        )


def _recall(share: str, own: Mapping[str, Any]) -> Figure:
    recall = own[f"recall_{share}"]
    return Figure(share, recall["rows"], *recall["by_cluster"])


def read_evaluation(model_sha256: str, path: Path = EVALUATION_PATH) -> Evaluation | None:
    """The evaluation of this model; None if there is none, or it is for another model.

    Args:
        model_sha256: of the model file.
        path: of the evaluation; the shipped model's.
    """
    try:
        found = Evaluation.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if found.model_sha256 == model_sha256 else None


def read_checks(path: Path) -> list[dict[str, Any]]:
    """The checks that a retraining stored with a challenger; none if there are none.

    Each has a `name`, what the `champion` and the `challenger` reached, and whether it `passed`.
    """
    names = ("name", "champion", "challenger", "passed")
    try:
        checks = json.loads(path.read_text(encoding="utf-8"))["checks"]
        return [{name: one[name] for name in names} for one in checks]
    except (OSError, ValueError, KeyError, TypeError):
        return []
