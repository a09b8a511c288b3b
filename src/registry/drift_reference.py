"""The drift reference of a bundle: a summary of traffic, small enough to be kept with a model."""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from src.detection.bundle_files import DRIFT_FILE, NOT_AS_EXPECTED
from src.files import read_file, reason

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]

ATTACK_SCORE = "attack_score"
UNKNOWN_TOKEN = "unknown"  # noqa: S105  stands for all that have no address here
MAX_SAMPLE_BYTES = 16 * 1024 * 1024
MAX_POINTS = 256

_FORMAT = 1
_MAX_SIZE = 2**53
_MAX_VALUE = 1e150  # the square is finite
_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Noise:
    """The measures without drift: factors of 1/n + 1/m, and of its square root."""

    psi: float = 0.0
    wasserstein: float = 0.0


@dataclass(frozen=True, slots=True)
class Distribution:
    """One column of a sample as points with weights: small enough to be kept with a model."""

    values: Floats  # ascending, distinct, shape (k,), k at most 2 * `MAX_POINTS`
    shares: Floats  # of each, adding up to 1
    size: int  # number of observations
    noise: Noise = Noise()  # of this column

    @classmethod
    def of(cls, observations: Floats) -> Self:
        """Summarise observations.

        Frequent values are kept exactly: most traffic has the same few shapes. If there are too
        many others, neighbours are merged.
        """
        rounded = np.round(observations.astype(np.float64), _DECIMALS) + 0.0
        values, counts = np.unique(rounded, return_counts=True)
        if len(values) > MAX_POINTS:
            often = counts * MAX_POINTS >= len(observations)
            rare = np.repeat(values[~often], counts[~often])
            sizes = np.bincount(np.arange(len(rare)) % MAX_POINTS)  # of the groups
            starts = np.cumsum(sizes) - sizes
            medians = rare[starts + (sizes - 1) // 2] / 2 + rare[starts + sizes // 2] / 2
            points = np.concatenate([values[often], medians])
            weights = np.concatenate([counts[often], sizes])
            values, inverse = np.unique(points, return_inverse=True)
            counts = np.bincount(inverse, weights=weights)
        return cls(values, counts / counts.sum(), len(observations))

    @property
    def spread(self) -> float:
        """Standard deviation."""
        mean = float(self.values @ self.shares)
        return float(np.sqrt(np.maximum(0.0, ((self.values - mean) ** 2) @ self.shares)))


@dataclass(frozen=True, slots=True)
class Categories:
    """The number of occurrences of each category."""

    counts: Mapping[str, int]  # by name
    size: int  # number of transactions
    noise: Noise = Noise()  # of this mix


@dataclass(frozen=True, slots=True)
class TrafficSample:
    """A summary of transactions."""

    model_version: str  # the model that scored them
    size: int  # transactions
    anomalies: int  # those at or above the model's threshold
    # The score, each input, transfers per transaction and the scale of values.
    columns: Mapping[str, Distribution]
    # Number of transactions that move each known token; `unknown` for all others. None for the
    # inputs of a supervised model.
    tokens: Categories | None
    # Of the first and the last transaction, such as 2024-05-31; empty where unknown.
    dates: tuple[str, ...] = ()
    attack_version: str = ""  # the attack model that scored them too; "" for none

    @property
    def unknown_share(self) -> float:
        """Share of the transactions that move a token unknown to the model."""
        return 0.0 if self.tokens is None else self.tokens.counts.get(UNKNOWN_TOKEN, 0) / self.size

    def observed(self, name: str) -> int:
        """How many transactions have a value in a column."""
        return self.columns[name].size if name in self.columns else 0

    def with_attack_score_of(self, other: Self) -> Self:
        """The same traffic's sample, with the attack score of another, and inputs that it lacks."""
        own = {name: one for name, one in self.columns.items() if name != ATTACK_SCORE}
        return replace(self, columns={**other.columns, **own}, attack_version=other.attack_version)

    def to_json(self) -> str:
        """Serialise, for use as a reference."""
        return json.dumps(
            {
                "format": _FORMAT,
                "model_version": self.model_version,
                "attack_model_version": self.attack_version,
                "size": self.size,
                "anomalies": self.anomalies,
                "dates": list(self.dates),
                "tokens": self.tokens
                and {
                    "counts": dict(sorted(self.tokens.counts.items())),
                    "noise": asdict(self.tokens.noise),
                },
                "columns": {
                    name: {
                        "size": column.size,
                        "values": column.values.tolist(),
                        "shares": [round(share, 9) for share in column.shares.tolist()],
                        "noise": asdict(column.noise),
                    }
                    for name, column in self.columns.items()
                },
            },
            indent=1,
        )


def read_reference(model: Path) -> bytes | None:
    """The drift reference beside a model; None if there is none that can be read."""
    path = model.with_name(DRIFT_FILE)
    try:
        return read_file(path, MAX_SAMPLE_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.warning("%s cannot be read: %s", path, reason(error))
        return None


def parse_sample(text: str) -> TrafficSample:
    """Read the output of `to_json`.

    Raises:
        ValueError: the text is not a sample.
    """
    try:
        content: dict[str, Any] = json.loads(text)
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r}")
        size, tokens = int(content["size"]), content["tokens"]
        anomalies = int(content["anomalies"])
        if not 0 <= anomalies <= size <= _MAX_SIZE or size == 0:
            raise ValueError(f"{anomalies} anomalies of {size} transactions")
        mix = None
        if tokens is not None:
            counts = {str(token): int(count) for token, count in tokens["counts"].items()}
            if not all(0 <= count <= size for count in counts.values()):
                raise ValueError("a token was moved more often than there are transactions")
            mix = Categories(counts, size, _noise(tokens["noise"]))
        return TrafficSample(
            str(content["model_version"]),
            size,
            anomalies,
            {str(name): _column(column) for name, column in content["columns"].items()},
            mix,
            # Samples of earlier versions have none.
            tuple(date.fromisoformat(one).isoformat() for one in content.get("dates", ())),
            str(content.get("attack_model_version", "")),
        )
    except NOT_AS_EXPECTED as error:
        raise ValueError(f"not a sample of traffic: {reason(error)}") from None


def _column(content: dict[str, Any]) -> Distribution:
    values = np.array(content["values"], dtype=np.float64)
    shares = np.array(content["shares"], dtype=np.float64)
    size = int(content["size"])
    usable = (
        len(values) and values.ndim == 1 and values.shape == shares.shape and (shares >= 0).all()
    )
    if (
        not usable
        or not 0 < size <= _MAX_SIZE
        or not (np.abs(values) <= _MAX_VALUE).all()
        or not (np.diff(values) > 0).all()
        or not 0.99 < shares.sum() < 1.01
    ):
        raise ValueError("a column is not a distribution")
    return Distribution(values, shares / shares.sum(), size, _noise(content["noise"]))


def _noise(content: dict[str, Any]) -> Noise:
    noise = Noise(**content)
    if not all(0 <= factor < math.inf for factor in (noise.psi, noise.wasserstein)):
        raise ValueError("a noise is negative or not finite")
    return noise


def load_sample(path: Path) -> TrafficSample:
    """Read a file of `to_json`.

    Raises:
        ValueError: it is no sample; the message names it.
        OSError: it is unreadable.
    """
    try:
        return parse_sample(read_file(path, MAX_SAMPLE_BYTES).decode())
    except ValueError as error:
        raise ValueError(f"{path}: {reason(error)}") from None
