"""The input of drift checks: a compact sample of traffic, scored by one model."""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from src.detection.attack.model import AttackModel
from src.detection.bundle_files import DRIFT_FILE, NOT_AS_EXPECTED
from src.detection.features.batch import TransferBatch
from src.detection.features.definitions import TokenProfile, columns_of, feature_table
from src.detection.forest.model import Model
from src.files import read_file, reason
from src.monitoring.drift.measures import (
    Categories,
    Distribution,
    Noise,
    categorical_noise,
)

logger = logging.getLogger(__name__)

SCORE = "anomaly_score"
ATTACK_SCORE = "attack_score"
TRANSFER_COUNT = "transfer_count"
VALUE_SCALE = "value_scale"
"""Amounts in robust standard deviations from the token's training amounts, averaged over the
transaction's known tokens. The model's inputs only react to amounts that are far too large."""

UNKNOWN_TOKEN = "unknown"  # noqa: S105  stands for all that have no address here
_FORMAT = 1
_MAX_SIZE = 2**53
_MAX_VALUE = 1e150  # the square is finite
MAX_SAMPLE_BYTES = 16 * 1024 * 1024
_SPLITS = 25


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
    usable = len(values) and values.shape == shares.shape and (shares >= 0).all()
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


def read_sample(
    path: Path, model: Model, *, as_reference: bool, attack: AttackModel | None = None
) -> TrafficSample:
    """A sample of traffic from a folder or a file.

    Raises:
        ValueError: it is unusable; the message says why.
        OSError: it is unreadable.
    """
    if path.is_file():
        try:
            return parse_sample(read_file(path, MAX_SAMPLE_BYTES).decode())
        except ValueError as error:
            raise ValueError(f"{path}: {reason(error)}") from None
    from src.datasets.training_set import load_background  # noqa: PLC0415  brings pandas

    data = load_background(path)
    blocks = data.table["block_number"].to_numpy(dtype=np.int64)
    times = data.table["block_timestamp"].to_numpy(dtype=np.int64)
    return sample_of(
        model, data.batch, blocks if as_reference else None, attack=attack, times=times
    )


def sample_of(
    model: Model,
    batch: TransferBatch,
    blocks: NDArray[np.int64] | None = None,
    *,
    attack: AttackModel | None = None,
    times: NDArray[np.int64] | None = None,
) -> TrafficSample:
    """Summarise transactions for a model, and for the attack model beside it.

    Args:
        model: the one in use.
        batch: at least one transaction.
        blocks: each transaction's block, shape (n,): the noise is measured too, so that the sample
            can be a reference. None for a current sample.
        attack: the attack model in use; None for none.
        times: each transaction's Unix seconds, shape (n,); None where they are unknown.
    """
    observed = _observed(model, attack, batch)
    halves = [] if blocks is None else halves_of(blocks)
    columns = {
        name: Distribution.of(values[present]).with_noise(
            values[present], [half[present] for half in halves]
        )
        for name, values in observed.items()
        if (present := np.isfinite(values)).any()
    }
    everyone = np.ones(len(batch.n_transfers), dtype=bool)
    tokens = _tokens(model, batch, everyone)
    parts = [(_tokens(model, batch, half), _tokens(model, batch, ~half)) for half in halves]
    return TrafficSample(
        model_version=model.version,
        size=len(everyone),
        anomalies=int((observed[SCORE] >= model.manifest.anomaly_threshold).sum()),
        columns=columns,
        tokens=replace(tokens, noise=categorical_noise(parts)),
        dates=() if times is None else dates_of(times),
        attack_version=attack.version if attack else "",
    )


def dates_of(times: NDArray[np.int64]) -> tuple[str, str]:
    """The dates of the first and the last of these Unix seconds."""
    first, last = (datetime.fromtimestamp(int(one), UTC) for one in (times.min(), times.max()))
    return first.date().isoformat(), last.date().isoformat()


def _observed(
    model: Model, attack: AttackModel | None, batch: TransferBatch
) -> dict[str, NDArray[np.float64]]:
    """Every column; NaN if a transaction has no value."""
    profile = TokenProfile.from_manifest(model.manifest)
    table = feature_table(batch, profile)
    columns = {SCORE: model.score(table[:, columns_of(model.inputs)])}
    inputs = model.inputs
    if attack is not None:
        scores = attack.scores(table[:, columns_of(attack.inputs)], columns[SCORE])
        columns[ATTACK_SCORE] = scores
        inputs = tuple(dict.fromkeys((*inputs, *attack.inputs)))
    columns |= dict(zip(inputs, table[:, columns_of(inputs)].T, strict=True))
    columns[TRANSFER_COUNT] = np.log2(batch.n_transfers.astype(np.float64))
    many = len(batch.n_transfers)
    owner, known = batch.owner, _known_tokens(model, batch)
    measured = (known >= 0) & (batch.amount > 0)
    deviations = np.log10(batch.amount[measured]) - profile.center[known[measured]]
    deviations /= profile.scale[known[measured]]
    counts = batch.count(measured)
    sums = np.bincount(owner[measured], deviations, minlength=many)
    columns[VALUE_SCALE] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return columns


def _tokens(model: Model, batch: TransferBatch, chosen: NDArray[np.bool_]) -> Categories:
    """The number of selected transactions that move each known token."""
    owner, known = batch.owner, _known_tokens(model, batch)
    here = chosen[owner]
    moved = np.unique(np.stack([owner[here], known[here]]), axis=1)[1]
    addresses = list(model.manifest.token_amounts)
    positions, counts = np.unique(moved, return_counts=True)
    return Categories(
        {
            addresses[position] if position >= 0 else UNKNOWN_TOKEN: count
            for position, count in zip(positions.tolist(), counts.tolist(), strict=True)
        },
        int(chosen.sum()),
    )


def _known_tokens(model: Model, batch: TransferBatch) -> NDArray[np.int64]:
    """The index of each transfer's token among those known to the model, or -1."""
    position = {address: row for row, address in enumerate(model.manifest.token_amounts)}
    rows = np.array([position.get(address, -1) for address in batch.token_addresses], dtype=int)
    known: NDArray[np.int64] = rows[batch.token]
    return known


def halves_of(blocks: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
    """Random halves of the blocks, always the same for the same blocks."""
    random = np.random.default_rng(0)
    distinct, row = np.unique(blocks, return_inverse=True)
    if len(distinct) < 2:
        return []
    first = np.arange(len(distinct)) < len(distinct) // 2
    return [random.permutation(first)[row] for _ in range(_SPLITS)]
