"""The input of drift checks: a compact sample of traffic, scored by one model."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.detection.attack.model import AttackModel
from src.detection.features.batch import TransferBatch
from src.detection.features.definitions import TokenProfile, columns_of, feature_table
from src.detection.forest.model import Model
from src.monitoring.drift.measures import categorical_noise, distributions
from src.registry.drift_reference import (
    ATTACK_SCORE,
    UNKNOWN_TOKEN,
    Categories,
    TrafficSample,
    load_sample,
)

SCORE = "anomaly_score"
TRANSFER_COUNT = "transfer_count"
VALUE_SCALE = "value_scale"
"""Amounts in robust standard deviations from the token's training amounts, averaged over the
transaction's known tokens. The model's inputs only react to amounts that are far too large."""

_SPLITS = 25


def read_sample(
    path: Path, model: Model, *, as_reference: bool, attack: AttackModel | None = None
) -> TrafficSample:
    """A sample of traffic from a folder or a file.

    Raises:
        ValueError: it is unusable; the message says why.
        OSError: it is unreadable.
    """
    if path.is_file():
        return load_sample(path)
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
    everyone = np.ones(len(batch.n_transfers), dtype=bool)
    tokens = _tokens(model, batch, everyone)
    parts = [(_tokens(model, batch, half), _tokens(model, batch, ~half)) for half in halves]
    return TrafficSample(
        model_version=model.version,
        size=len(everyone),
        anomalies=int((observed[SCORE] >= model.manifest.anomaly_threshold).sum()),
        columns=distributions(observed, halves),
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
