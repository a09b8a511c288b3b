"""A supervised model: loading a verified bundle, predicting from named inputs. Pure once loaded.

    model = load_fraud_model(Path("fraud_model/fraud_model.npz"))
    model.predict({"Time": 0.0, "V1": -1.36, ..., "Amount": 149.62})  # {"prediction": 0}
    model.predict_proba(...)                                          # 0.0134...

Inputs go by name, their order does not matter. The probability is one among rows as they were in
training: where fraud is rarer than there, it is too high.

InvalidInput (ValueError)
+-- InvalidInputs   names what is missing, unknown, not numeric, not finite
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from src.detection.bundle_files import (
    check_golden,
    check_sklearn,
    golden_outputs,
    read_vouched_file,
)
from src.detection.errors import InvalidInput, ModelMalformed
from src.detection.npz import read_arrays
from src.detection.supervised.manifest import FraudManifest, read_fraud_manifest
from src.detection.supervised.pipeline import FittedPipeline

# Trees reproduce scikit-learn's bits; sums of products differ in the last ones between processors.
_GOLDEN_TOLERANCE: Final = 1e-9
_SHOWN = 8  # names in a message: the rest are counted, a request can hold any number of them
_SHOWN_CHARACTERS = 64


class InvalidInputs(InvalidInput):
    """Inputs that the model cannot take, by what is wrong with them, sorted by name.

    Attributes:
        missing: inputs of the model that were not given.
        unknown: names given that are no input of the model.
        not_numeric: given as something else than a number (text, null, true and false).
        not_finite: NaN, infinite, or too large for the model to tell apart.
    """

    def __init__(
        self,
        *,
        missing: tuple[str, ...] = (),
        unknown: tuple[str, ...] = (),
        not_numeric: tuple[str, ...] = (),
        not_finite: tuple[str, ...] = (),
    ) -> None:
        self.missing = missing
        self.unknown = unknown
        self.not_numeric = not_numeric
        self.not_finite = not_finite
        kinds = {
            "missing": missing,
            "not an input of the model": unknown,
            "not a number": not_numeric,
            "not finite": not_finite,
        }
        super().__init__(
            "; ".join(f"{kind}: {_list(names)}" for kind, names in kinds.items() if names)
        )


@dataclass(frozen=True, slots=True)
class SupervisedModel:
    """A supervised model that has been verified and is ready to predict."""

    manifest: FraudManifest
    pipeline: FittedPipeline

    @property
    def version(self) -> str:
        """When the model was made, Unix seconds, as findings carry it."""
        return str(self.manifest.model_version)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in the order of the columns."""
        return self.manifest.inputs

    @property
    def threshold(self) -> float:
        """Probabilities from here on are predicted as fraud."""
        return self.manifest.threshold

    def predict_proba(self, inputs: Mapping[str, object]) -> float:
        """Probability of fraud, 0 to 1, of exactly the model's inputs, given by name.

        Raises:
            InvalidInputs: names what is missing, unknown, not numeric or not finite.
        """
        return self._probability(inputs, refuse_unknown=True)

    def predict(self, inputs: Mapping[str, object]) -> dict[str, int]:
        """`{"prediction": 0}` or `{"prediction": 1}` (fraud); raises as `predict_proba` does."""
        return {"prediction": int(self.predict_proba(inputs) >= self.threshold)}

    def probability(self, features: Mapping[str, float]) -> float:
        """As `predict_proba`, but features that are no inputs are passed over.

        For the detector: a transaction has more features than a model needs.
        """
        return self._probability(features, refuse_unknown=False)

    def probabilities(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities of a table, shape (n,), columns in the order of `inputs`.

        A missing value (NaN) takes the median of the training part: only tables have them.

        Raises:
            InvalidInputs: an infinite value; ValueError: another number of columns.
        """
        if rows.ndim != 2 or rows.shape[1] != len(self.inputs):
            raise InvalidInput(f"rows of {len(self.inputs)} inputs expected, got {rows.shape}")
        beyond = np.isinf(rows).any(axis=0) | self.pipeline.too_large(rows)
        if beyond.any():
            raise InvalidInputs(not_finite=tuple(sorted(np.array(self.inputs)[beyond].tolist())))
        return self.pipeline.probabilities(rows)

    def _probability(self, inputs: Mapping[str, object], *, refuse_unknown: bool) -> float:
        missing, not_numeric, not_finite = [], [], []
        row = np.zeros((1, len(self.inputs)))
        for column, name in enumerate(self.inputs):
            if name not in inputs:
                missing.append(name)
                continue
            value = inputs[name]
            if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
                not_numeric.append(name)
                continue
            number = _as_float(value)
            if not math.isfinite(number):
                not_finite.append(name)
                continue
            row[0, column] = number
        unknown = set(map(str, inputs)) - set(self.inputs) if refuse_unknown else set()
        if not missing:
            beyond = self.pipeline.too_large(row)
            not_finite += [name for name, out in zip(self.inputs, beyond, strict=True) if out]
        if missing or unknown or not_numeric or not_finite:
            raise InvalidInputs(
                missing=tuple(sorted(missing)),
                unknown=tuple(sorted(unknown)),
                not_numeric=tuple(sorted(not_numeric)),
                not_finite=tuple(sorted(not_finite)),
            )
        return float(self.pipeline.probabilities(row)[0])


def load_fraud_model(path: Path, *, public_key: str | None = None) -> SupervisedModel:
    """Load a supervised model that its manifest vouches for, and prove that it predicts as it did.

    Args:
        path: the .npz file; its manifest lies beside it.
        public_key: whose signature the manifest must carry, see `signature`; None if it needs none.

    Raises:
        ModelMissing, ModelTampered, ModelIncompatible, ModelMalformed: see `errors`.
    """
    manifest = read_fraud_manifest(path, public_key)
    content = read_vouched_file(
        path, manifest.sha256, remedy="Train one with `npm run train:fraud`."
    )
    check_sklearn(manifest.sklearn_version, command="train:fraud")
    return _verified(manifest, read_pipeline(content, len(manifest.inputs)))


def read_pipeline(content: bytes, n_inputs: int) -> FittedPipeline:
    """Read the bytes of a model file. Nothing in them is ever run.

    Raises:
        ModelMalformed: not an .npz file of the arrays that `pipeline` lists.
    """
    try:
        return FittedPipeline.from_arrays(read_arrays(content), n_inputs)
    except ModelMalformed as error:
        raise ModelMalformed(f"the model file is not a fitted pipeline: {error}") from error


def _verified(manifest: FraudManifest, pipeline: FittedPipeline) -> SupervisedModel:
    if pipeline.name != manifest.classifier:
        raise ModelMalformed(
            f"the file holds a {pipeline.name}, its manifest says {manifest.classifier}"
        )
    model = SupervisedModel(manifest, pipeline)
    got = golden_outputs(model.probabilities, np.array(manifest.golden_rows, np.float64))
    worst = np.abs(got - np.array(manifest.golden_probabilities)).max()
    check_golden(worst, _GOLDEN_TOLERANCE, what="the model")
    return model


def _as_float(value: Real) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond every float
        return math.inf


def _list(names: tuple[str, ...]) -> str:
    # Names of unknown inputs are a stranger's text: printable, and short.
    shown = [
        "".join(c if c.isprintable() else "?" for c in name[:_SHOWN_CHARACTERS])
        for name in names[:_SHOWN]
    ]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(shown) + more
