"""A second model that scores in shadow: recorded beside the first one's word, never counted."""

import logging
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from src.detection.features.definitions import TokenProfile, columns_of, feature_row
from src.detection.forest.model import Model
from src.detection.records import REMEMBERED_ASSESSMENTS, Action, Status, TransferLike, Verdict

logger = logging.getLogger(__name__)

NAME = "challenger"


class Challenger:
    """Scores with its own model, inputs and knowledge of tokens.

    Args:
        model: the challenger; its manifest's threshold decides.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.threshold = model.manifest.anomaly_threshold
        self._profile = TokenProfile.from_manifest(model.manifest)
        self._columns = columns_of(model.inputs)
        self._verdict_of = lru_cache(REMEMBERED_ASSESSMENTS)(self._judge)

    def evaluate(self, transfers: Sequence[TransferLike], sender: str) -> Verdict:
        """Its verdict in shadow, with its score and version in the reason.

        Raises:
            InvalidInput: a feature is missing or not finite.
        """
        row = feature_row(transfers, sender, self._profile)[self._columns]
        return self._verdict_of(row.tobytes())

    def verdict(self, transfers: Sequence[TransferLike], sender: str | None) -> Verdict:
        """As `evaluate`, but whatever goes wrong is a verdict: it must not cost the champion's."""
        if sender is None:
            status, reason = Status.MISSING_INPUTS, "the transaction has no sender"
        else:
            try:
                return self.evaluate(transfers, sender)
            # Also errors that were not foreseen.
            except Exception as error:
                logger.exception("the challenger failed")
                status, reason = Status.FAILED, type(error).__name__
        return Verdict(NAME, reason=reason, status=status, shadow=True)

    def _judge(self, content: bytes) -> Verdict:
        row = np.frombuffer(content, dtype=np.float64)
        score = float(self.model.score(row[np.newaxis])[0])
        is_anomaly = score >= self.threshold
        return Verdict(
            NAME,
            Action.REVIEW if is_anomaly else Action.ALLOW,
            f"model {self.model.version}: anomaly score {score:.3f} is "
            f"{'at or above' if is_anomaly else 'below'} {self.threshold:g}",
            shadow=True,
        )
