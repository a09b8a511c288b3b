"""The second opinion: the attack model beside the forest in use, or an own classifier."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.detection.attack.assessment import AttackAssessor
from src.detection.attack.model import AttackModel, load_attack_model
from src.detection.bundle_files import ATTACK_MODEL_FILE
from src.detection.detectors.base import SupervisedModel
from src.detection.detectors.supervised import ATTACK_REVIEW_AT, SupervisedDetector
from src.detection.errors import InvalidInput, ModelIncompatible, ModelMissing
from src.detection.evidence import credible
from src.detection.features.definitions import FEATURE_NAMES, TokenProfile, columns_of, feature_row
from src.detection.forest.model import Model
from src.detection.policy import Policy
from src.detection.records import REMEMBERED_ASSESSMENTS, Assessment, AttackAssessment, TransferLike
from src.detection.supervised.model import load_fraud_model

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenedAttackModel:
    """An attack model, or why there is none."""

    model: AttackModel | None  # None where there is none that fits the forest
    problem: str = ""  # why, for people; "" where there is one


def open_attack_model(
    named: Path | None, forest_path: Path, forest: Model, public_key: str | None
) -> OpenedAttackModel:
    """The attack model that a setting names, else the one beside the forest.

    What an operator named must work. The one beside the forest may be missing, or be that of
    another forest that lay there before: the bot then runs without attack scores, and says so at
    the start and with every transaction. A file that was changed or is no model is always refused.

    Args:
        named: ATTACK_MODEL_PATH.
        forest_path: the forest's file.
        forest: the forest in use.
        public_key: whose signature the manifest must carry; None if it needs none.

    Raises:
        ModelMissing, ModelIncompatible: the named one.
        ModelTampered, ModelMalformed: either.
    """
    path = forest_path.with_name(ATTACK_MODEL_FILE) if named is None else named
    try:
        model = load_attack_model(path, forest, public_key=public_key)
    except (ModelMissing, ModelIncompatible) as error:
        if named is not None:
            raise
        logger.warning("no attack scores: %s", error)
        missing = isinstance(error, ModelMissing)
        return OpenedAttackModel(
            None,
            "no attack model is loaded"
            if missing
            else "the attack model is not one for this isolation forest",
        )
    logger.info("attack model %s: %d trees", model.version, model.trees.n_trees)
    return OpenedAttackModel(model)


class SecondOpinion:
    """Attack scores of single transactions. Thread-safe.

    Args:
        opened: the attack model, or why there is none.
        forest: the forest in use.
        profile: what it knows of tokens' amounts.
        explain_from: attack score from which a score is explained.
        remembered: how many assessments are kept.
    """

    def __init__(
        self,
        opened: OpenedAttackModel,
        forest: Model,
        profile: TokenProfile,
        *,
        explain_from: float,
        remembered: int = REMEMBERED_ASSESSMENTS,
    ) -> None:
        self.model, self.problem = opened.model, opened.problem
        self._forest = forest
        self._profile = profile
        if opened.model is None:
            self._assessor = None
            return
        self._assessor = AttackAssessor(
            opened.model, explain_from=explain_from, remembered=remembered
        )
        self._columns, self._forest_columns = (
            np.array(columns_of(model.inputs), dtype=np.intp) for model in (opened.model, forest)
        )

    def assess(
        self,
        transfers: Sequence[TransferLike],
        sender: str | None,
        row: NDArray[np.float64],
        assessment: Assessment | None,
        unknown: frozenset[str],
    ) -> AttackAssessment | None:
        """The attack score of one transaction; None where there is no model or no valid input.

        Args:
            transfers: in log order.
            sender: the transaction's.
            row: its features, in the order of FEATURE_NAMES.
            assessment: the forest's.
            unknown: tokens without a reputation.
        """
        if self._assessor is None or assessment is None or sender is None:
            return None
        try:
            whole = self._assessor.assess(row[self._columns], assessment.score)
            part = credible(transfers, unknown)
            if len(part) == len(transfers):
                return whole
            row = feature_row(part, sender, self._profile)
            score = self._forest.score(row[np.newaxis, self._forest_columns])
            known = self._assessor.assess(row[self._columns], float(score[0]))
        except InvalidInput:
            return None
        return max(whole, known, key=lambda one: one.score)


def open_own_classifier(path: Path | None, public_key: str | None) -> SupervisedModel | None:
    """The operator's own classifier, which must live on a transaction's features.

    Raises:
        ModelIncompatible: it does not; ModelMissing, ModelTampered, ModelMalformed: see `errors`.
    """
    if path is None:
        return None
    supervised = load_fraud_model(path, public_key=public_key)
    unknown = [name for name in supervised.inputs if name not in FEATURE_NAMES]
    if unknown:
        raise ModelIncompatible(
            f"{path.name} needs inputs that a transaction does not have: {', '.join(unknown[:5])}. "
            "Train it on token transfers: npm run train:fraud:dataset, then npm run train:fraud"
        )
    return supervised


def explained_from(policy: Policy, chain_id: int, own: SupervisedModel | None) -> float:
    """Attack score from which the `supervised` detector asks for more than `ALLOW` on a chain."""
    entry = policy.for_chain(chain_id).get(SupervisedDetector.NAME)
    review_at = None if entry is None or own is not None else entry.parameters["review_at"]
    return ATTACK_REVIEW_AT if review_at is None else review_at
