"""The manifest beside a model file: what the model is, what it needs, how to know that it is whole.

`isolation_forest.pkl` is described by `isolation_forest.manifest.json`. The manifest is data: it is
parsed and validated before a byte of the model file is looked at.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from src.detection.bundle_files import (
    common_fields,
    finite,
    manifest_text,
    read_manifest_file,
    share,
)
from src.detection.errors import ModelIncompatible
from src.detection.features.reference_values import NO_VALUES, ReferenceValues

FORMAT = 2
"""Also of what the inputs mean: in format 1 they were of the transfers as logged alone."""


@dataclass(frozen=True, slots=True)
class TokenAmounts:
    """How much of one token training transfers moved, on the scale log10(raw amount)."""

    center: float  # median
    scale: float  # robust standard deviation (1.4826 * median absolute deviation), positive


@dataclass(frozen=True, slots=True)
class Manifest:
    """Describes one trained model."""

    model_version: int  # when the model was made, Unix seconds
    sha256: str  # of the model file, hexadecimal
    sklearn_version: str  # that trained it; the installed one must be exactly this
    inputs: tuple[str, ...]  # names of the model's inputs, in the order of its columns
    # Scores from here on are anomalies, unless the operator says otherwise.
    anomaly_threshold: float
    # Scores of the training transactions at equidistant ranks, ascending, from the lowest to the
    # highest.
    score_quantiles: tuple[float, ...]
    golden_rows: tuple[tuple[float, ...], ...]  # inputs of a few rows
    golden_scores: tuple[float, ...]  # their scores, by scikit-learn; the model must reproduce them
    # Training amounts of the tokens that the model knows, by contract address.
    token_amounts: Mapping[str, TokenAmounts]
    # Identity of the data set, hyper-parameters and figures, for people.
    training: Mapping[str, Any] = field(default_factory=dict)
    # What reference tokens were worth; manifests of before it have none.
    reference_values: ReferenceValues = NO_VALUES
    chain_id: int = 1  # whose transactions it was trained on; mainnet in manifests that do not say

    def token_amounts_on(self, chain_id: int) -> Mapping[str, TokenAmounts]:
        """What is usual on a chain: nothing is known of another than the training's."""
        return self.token_amounts if chain_id == self.chain_id else {}

    def share_flagged(self, threshold: float) -> float:
        """Share of the training transactions with a score from a threshold on."""
        stated = self.training.get("background_share_flagged")
        if threshold == self.anomaly_threshold and isinstance(stated, int | float):
            return float(stated)  # the quantiles resolve a thousandth
        return sum(score >= threshold for score in self.score_quantiles) / len(self.score_quantiles)

    def to_json(self) -> str:
        """Serialise; the same manifest gives the same bytes."""
        content = {"format": FORMAT, **asdict(self)}
        content["token_amounts"] = {
            address: [amounts.center, amounts.scale]
            for address, amounts in sorted(self.token_amounts.items())
        }
        return manifest_text(content)


def read_manifest(model_path: Path, public_key: str | None = None) -> Manifest:
    """Read and validate the manifest beside a model file, see `read_manifest_file`.

    Raises:
        ModelMissing, ModelTampered, ModelMalformed: see there.
        ModelIncompatible: it is of an earlier version.
    """
    return read_manifest_file(model_path, public_key, _parse, command="train")


def _parse(content: Any) -> Manifest:
    if content["format"] == 1:
        raise ModelIncompatible(
            "the model was trained by an earlier version, whose features have the same names and "
            "other values: its scores would be wrong. Train a new model with `npm run train`."
        )
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']!r}; this code reads {FORMAT}")
    manifest = Manifest(
        **common_fields(content, "golden_scores"),
        sklearn_version=str(content["sklearn_version"]),
        anomaly_threshold=share("anomaly_threshold", content["anomaly_threshold"]),
        score_quantiles=finite("score_quantiles", content["score_quantiles"]),
        token_amounts={
            str(address): _token_amounts(amounts)
            for address, amounts in content["token_amounts"].items()
        },
        reference_values=(
            ReferenceValues.parse(content["reference_values"])
            if "reference_values" in content
            else NO_VALUES
        ),
        chain_id=int(content.get("chain_id", 1)),
    )
    if len(manifest.score_quantiles) < 2:
        raise ValueError("score_quantiles needs two values at least")
    if list(manifest.score_quantiles) != sorted(manifest.score_quantiles):
        raise ValueError("score_quantiles do not ascend")
    if any(amounts.scale <= 0 for amounts in manifest.token_amounts.values()):
        raise ValueError("token_amounts has a scale that is not positive")
    return manifest


def _token_amounts(amounts: Any) -> TokenAmounts:
    if len(amounts) != 2:
        raise ValueError("token_amounts needs a centre and a scale for each token")
    return TokenAmounts(*finite("token_amounts", amounts))
