"""The result of a drift check as a page."""

import numpy as np
from matplotlib.axes import Axes

from src.monitoring.drift.levels import Levels
from src.monitoring.drift.verdict import Drift
from src.registry.drift_reference import Distribution, TrafficSample
from src.reports.page import Section, to_html
from src.reports.pictures import ALARM, USUAL, draw

_PICTURED = 6
_BINS = 40


def to_page(drift: Drift, levels: Levels) -> str:
    """The result as HTML."""
    (before, *before_span), (now, *now_span) = drift.rates
    ordered = sorted(drift.effects.items(), key=lambda item: -item[1].psi_excess)
    rows = [
        (
            name,
            f"{moved.psi:.3f}",
            f"{moved.psi_noise:.3f}",
            "" if moved.wasserstein is None else f"{moved.wasserstein:.3f}",
            "" if moved.wasserstein is None else f"{moved.wasserstein_noise:.3f}",
        )
        for name, moved in ordered
    ]
    numeric = [name for name, _ in ordered if name in drift.reference.columns][:_PICTURED]
    pictures = [
        (name, _picture(drift.reference.columns[name], drift.current.columns[name]))
        for name in numeric
        if name in drift.current.columns
    ]
    return to_html(
        f"Drift: {drift.verdict.name.lower()}",
        [
            Section(
                "What drifted, most urgent first",
                drift.reasons or ("No drift beyond sampling noise.",),
                pictures=pictures,
            ),
            Section(
                "Samples",
                (_scored_by(drift.reference),),
                ("", "reference", "current"),
                (
                    ("dates", *(_dates(one) for one in (drift.reference, drift.current))),
                    ("transactions", f"{drift.reference.size:,}", f"{drift.current.size:,}"),
                    ("anomaly rate", _rate(before, before_span), _rate(now, now_span)),
                    *(
                        [("with unknown tokens", *(f"{share:.1%}" for share in drift.unknown))]
                        if drift.reference.tokens is not None
                        else []
                    ),
                ),
            ),
            Section(
                "Effect sizes",
                (
                    f"Beyond noise, a stability index of {levels.psi[0]:g} or a distance of "
                    f"{levels.wasserstein[0]:g} deviations means watch, {levels.psi[1]:g} or "
                    f"{levels.wasserstein[1]:g} means retrain.",
                ),
                ("column", "stability index", "its noise", "moved, deviations", "its noise"),
                rows,
            ),
        ],
        summary=[
            (drift.verdict.name.lower(), "the result"),
            (f"{now:.2%}", f"anomalies, {before:.2%} in the reference"),
            (f"{drift.current.size:,}", f"transactions, days {_dates(drift.current)}"),
        ],
    )


def _scored_by(sample: TrafficSample) -> str:
    attack = f" and attack model {sample.attack_version}" if sample.attack_version else ""
    return f"Scored by model {sample.model_version}{attack}."


def _rate(share: float, span: list[float]) -> str:
    return f"{share:.2%} ({span[0]:.2%} to {span[1]:.2%})"


def _dates(sample: TrafficSample) -> str:
    return " to ".join(sample.dates) or "unknown"


def _picture(reference: Distribution, current: Distribution) -> bytes:
    """Histograms of both in the same bins: shares, since the samples differ in size."""
    values = np.concatenate([reference.values, current.values])
    edges = np.histogram_bin_edges(values, bins=_BINS)

    def paint(axes: Axes) -> None:
        for side, colour, label in zip(
            (reference, current), (USUAL, ALARM), ("reference", "current"), strict=False
        ):
            shares, _ = np.histogram(side.values, edges, weights=side.shares)
            axes.stairs(shares, edges, color=colour, label=label, fill=side is reference)
        axes.set(ylabel="share of transactions", yscale="log")

    return draw(paint, inches=(6.0, 2.2))
