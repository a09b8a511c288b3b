"""From effect sizes to a verdict: ok, watch or retrain, with the reasons."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from src.monitoring.drift.levels import Levels
from src.monitoring.drift.measures import Effect, categorical_effect, effect
from src.registry.drift_reference import ATTACK_SCORE, TrafficSample
from src.reports.intervals import share_interval

TOKEN_MIX = "token_mix"  # noqa: S105  a column


class TooFew(ValueError):
    """A sample is too small for a verdict. The message states its size and the minimum."""


@enum.unique
class Verdict(enum.IntEnum):
    """The recommended action, least urgent first; the values are those of the metric."""

    OK = 0
    WATCH = 1
    RETRAIN = 2


@dataclass(frozen=True, slots=True)
class Drift:
    """The result of a comparison."""

    verdict: Verdict  # the most urgent of all
    reasons: tuple[str, ...]  # most urgent first; empty for OK
    # Of the score, each input, transfer count, value scale and token mix.
    effects: Mapping[str, Effect]
    reference: TrafficSample
    current: TrafficSample
    # Anomaly rates with 95% intervals: reference, current.
    rates: tuple[tuple[float, float, float], tuple[float, float, float]]
    unknown: tuple[float, float]  # shares of transactions with unknown tokens: reference, current


def compare(
    reference: TrafficSample, current: TrafficSample, levels: Levels | None = None
) -> Drift:
    """Compare two samples scored by the same model.

    Attack scores are compared if they are of the same attack model.

    Raises:
        TooFew: one of them is too small.
        ValueError: they were scored by different models.
    """
    levels = levels or Levels()
    for what, sample in (("reference", reference), ("current", current)):
        if sample.size < levels.least:
            raise TooFew(
                f"the {what} sample has {sample.size:,} transactions, but at least "
                f"{levels.least:,} are needed to distinguish drift from chance"
            )
    if reference.model_version != current.model_version:
        raise ValueError(
            f"the reference was scored by model {reference.model_version}, the current sample by "
            f"{current.model_version}: create a new reference with the model in use"
        )
    effects = {
        name: effect(column, current.columns[name])
        for name, column in reference.columns.items()
        if name in current.columns
        and (name != ATTACK_SCORE or reference.attack_version == current.attack_version)
    }
    if reference.tokens is not None and current.tokens is not None:
        effects[TOKEN_MIX] = categorical_effect(reference.tokens, current.tokens)
    # The column that moved most first, among those of one level.
    found = [
        found_here
        for name, moved in sorted(effects.items(), key=lambda item: -_urgency(item[1], levels))
        for found_here in _of_column(name, moved, levels)
    ]
    rates = (_rate(reference), _rate(current))
    found += _of_rates(*rates, levels)
    unknown = (reference.unknown_share, current.unknown_share)
    found += _of_unknown(*unknown, levels)
    found += _of_missing(reference, current, levels)
    found.sort(key=lambda entry: -entry[0])
    return Drift(
        max((level for level, _ in found), default=Verdict.OK),
        tuple(f"{level.name.lower()}: {reason}" for level, reason in found),
        effects, reference, current, rates, unknown,
    )  # fmt: skip


def _level(value: float, levels: tuple[float, float]) -> Verdict:
    watch, retrain = levels
    if value >= retrain:
        return Verdict.RETRAIN
    return Verdict.WATCH if value >= watch else Verdict.OK


def _urgency(moved: Effect, levels: Levels) -> float:
    """How far a column moved, relative to what means retrain."""
    by_distance = moved.wasserstein_excess / levels.wasserstein[1]
    return max(moved.psi_excess / levels.psi[1], by_distance)


def _of_column(name: str, moved: Effect, levels: Levels) -> list[tuple[Verdict, str]]:
    by_psi = _level(moved.psi_excess, levels.psi)
    by_distance = _level(moved.wasserstein_excess, levels.wasserstein)
    level = max(by_psi, by_distance)
    if level is Verdict.OK:
        return []
    distance = "" if moved.wasserstein is None else f", moved {moved.wasserstein:.2f} deviations"
    return [(level, f"{name}: stability index {moved.psi:.2f}{distance}")]


def _of_rates(
    reference: tuple[float, float, float], current: tuple[float, float, float], levels: Levels
) -> list[tuple[Verdict, str]]:
    (before, before_low, before_high), (now, low, high) = reference, current
    if low <= before_high and before_low <= high:
        return []
    more, less = max(before, now), min(before, now)
    level = _level(more / less if less > 0 else float("inf"), levels.rate)
    if level is Verdict.OK:
        return []
    return [
        (
            level,
            f"anomaly rate {now:.2%} ({low:.2%} to {high:.2%}), was {before:.2%} "
            f"({before_low:.2%} to {before_high:.2%})",
        )
    ]


def _of_unknown(before: float, now: float, levels: Levels) -> list[tuple[Verdict, str]]:
    level = _level(now - before, levels.unknown)
    if level is Verdict.OK:
        return []
    return [(level, f"{now:.0%} of the transactions move unknown tokens, was {before:.0%}")]


def _of_missing(
    reference: TrafficSample, current: TrafficSample, levels: Levels
) -> list[tuple[Verdict, str]]:
    """Of inputs that may be missing, those of a supervised model."""
    if reference.tokens is not None:
        return []
    shares = {
        name: [1 - side.observed(name) / side.size for side in (reference, current)]
        for name in reference.columns
    }
    return [
        (level, f"{name}: {now:.0%} of the values are missing, was {before:.0%}")
        for name, (before, now) in shares.items()
        if (level := _level(now - before, levels.missing)) is not Verdict.OK
    ]


def _rate(sample: TrafficSample) -> tuple[float, float, float]:
    return (sample.anomalies / sample.size, *share_interval(sample.anomalies, sample.size))
