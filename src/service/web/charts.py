"""Geometry of the charts: from numbers to coordinates that a template draws as SVG. Pure.

Server-side SVG needs no script, style attribute or external resource, so the pages work under a
strict Content-Security-Policy and in a single-file report. A table next to each chart shows the
same numbers.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from src.service.formatting import number, percent

WIDTH = 560.0
HEIGHT = 250.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 18.0, 14.0, 34.0
_PLOT_WIDTH = WIDTH - LEFT - RIGHT
_PLOT_HEIGHT = HEIGHT - TOP - BOTTOM
_LABELS = 6  # about as many columns are labelled on an axis


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


class Axis(NamedTuple):
    """What a position on an axis stands for, so that a script can zoom to a part of it."""

    # since, until: names of the form's fields for the ends of the part.
    since: str
    until: str
    # low, high: values at two positions, Unix seconds or exponents of ten.
    low: float
    high: float
    # start, end: those positions.
    start: float
    end: float
    seconds: int = 0  # of a column of a time axis, which is chosen as a whole; 0 for no time


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle with its description, its CSS class and what it links to, or ""."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str
    link: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """A dot, and what it links to, or ""."""

    x: float
    y: float
    kind: str
    title: str
    link: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart as input of a template."""

    bars: tuple[Bar, ...] = ()
    points: tuple[Point, ...] = ()
    line: str = ""  # points of a polyline, as SVG writes them; "" for none
    marker: Tick | None = None  # position and label of a vertical line; None for none
    x_ticks: tuple[Tick, ...] = ()
    y_ticks: tuple[Tick, ...] = ()
    axes: tuple[Axis, ...] = ()  # along which to zoom, the horizontal one first
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM


def stacked_bars(
    columns: Sequence[tuple[str, Mapping[str, int], str]],
    kinds: Sequence[str],
    since: int,
    seconds: int,
) -> Chart:
    """Counts over time, the kinds of a column stacked in the order of `kinds`.

    Args:
        columns: (label, kind -> count, link), in order; columns without counts included.
        kinds: bottom first.
        since: when the first column begins, Unix seconds.
        seconds: of each.
    """
    highest = max((sum(counts.values()) for _, counts, _ in columns), default=0)
    top, ticks = _count_axis(highest)
    step = _PLOT_WIDTH / max(1, len(columns))
    bars = []
    for position, (label, counts, link) in enumerate(columns):
        floor = TOP + _PLOT_HEIGHT
        for kind in kinds:
            count = counts.get(kind, 0)
            if count:
                height = count / top * _PLOT_HEIGHT
                floor -= height
                x = LEFT + position * step
                gap = min(4.0, step * 0.15)
                title = f"{label}: {count} {kind}"
                bars.append(Bar(x + gap / 2, floor, step - gap, height, kind, title, link))
    every = max(1, math.ceil(len(columns) / _LABELS))
    x_ticks = tuple(
        Tick(LEFT + (position + 0.5) * step, label)
        for position, (label, _, _) in enumerate(columns)
        if position % every == 0
    )
    until = since + seconds * len(columns)
    axis = Axis("since", "until", since, until, LEFT, WIDTH - RIGHT, seconds)
    return Chart(bars=tuple(bars), x_ticks=x_ticks, y_ticks=ticks, axes=(axis,))


def histogram(
    counts: Sequence[int],
    expected: Sequence[float],
    *,
    marker: float,
    marker_label: str,
) -> Chart:
    """Shares of a histogram over [0, 1] as bars, expected shares as a line, square-root scale.

    The rare, high scores matter most and would be invisible on a linear scale.

    Args:
        counts: in equal bins over [0, 1].
        expected: shares in the same bins.
        marker: position of a vertical line, in [0, 1].
        marker_label: its label.
    """
    total = sum(counts)
    shares = [count / total if total else 0.0 for count in counts]
    used = [i for i, (a, b) in enumerate(zip(shares, expected, strict=True)) if a or b]
    n = len(counts)
    first = min([*used, int(marker * n), n - 1])
    last = min(n - 1, max([*used, math.ceil(marker * n), 1]) + 1)
    highest = max([*shares, *expected, 0.01])
    step = _PLOT_WIDTH / (last - first + 1)

    def x_of(score: float) -> float:
        return LEFT + (score * n - first) * step

    def y_of(share: float) -> float:
        return TOP + _PLOT_HEIGHT * (1 - math.sqrt(share / highest))

    bars, line = [], []
    for i in range(first, last + 1):
        span = f"{i / n:.2f} to {(i + 1) / n:.2f}"
        x, y = x_of(i / n), y_of(shares[i])
        if counts[i]:
            kind = "above" if (i + 0.5) / n >= marker else "below"
            title = f"Score {span}: {counts[i]} ({percent(shares[i])})"
            bars.append(Bar(x + 1, y, step - 2, TOP + _PLOT_HEIGHT - y, kind, title))
        line += [f"{x:.1f},{y_of(expected[i]):.1f}", f"{x + step:.1f},{y_of(expected[i]):.1f}"]
    every = max(1, round((last - first + 1) / 8))
    x_ticks = tuple(Tick(x_of(i / n), f"{i / n:.2f}") for i in range(first, last + 2, every))
    levels = [share for share in (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0) if share <= highest]
    y_ticks = tuple(Tick(y_of(share), f"{100 * share:g} %") for share in levels)
    return Chart(
        bars=tuple(bars),
        line=" ".join(line),
        marker=Tick(x_of(marker), marker_label),
        x_ticks=x_ticks,
        y_ticks=y_ticks,
    )


def log_log(values: Iterable[tuple[float, float, str, str, str]]) -> Chart:
    """A scatter plot with logarithmic axes; zeros are drawn on the axis.

    Args:
        values: (x, y, kind, title, link) of each point; drawn in this order.
    """
    given = list(values)
    bottom = TOP + _PLOT_HEIGHT
    left, right, low, high = LEFT + 14, WIDTH - RIGHT - 8, TOP + 8, bottom - 14
    x_low, x_high, x_ticks = _log_axis([x for x, *_ in given], left, right)
    y_low, y_high, y_ticks = _log_axis([y for _, y, *_ in given], low, high)
    points = tuple(
        Point(
            _log_position(x, x_low, x_high, left, right, LEFT),
            TOP + bottom - _log_position(y, y_low, y_high, low, high, TOP),
            kind,
            title,
            link,
        )
        for x, y, kind, title, link in given
    )
    flipped = tuple(Tick(TOP + bottom - tick.at, tick.label) for tick in y_ticks)
    axes = (
        Axis("value_from", "value_to", x_low, x_high, left, right),
        Axis("gas_from", "gas_to", y_low, y_high, TOP + bottom - low, TOP + bottom - high),
    )
    return Chart(points=points, x_ticks=x_ticks, y_ticks=flipped, axes=axes)


def expected_shares(quantiles: Sequence[float], bins: int) -> list[float]:
    """The share of values in each of equal bins over [0, 1], given their quantiles."""
    counts = [0] * bins
    for value in quantiles:
        counts[min(bins - 1, max(0, int(value * bins)))] += 1
    return [count / len(quantiles) if quantiles else 0.0 for count in counts]


def _count_axis(highest: int) -> tuple[int, tuple[Tick, ...]]:
    """A round number at or above the highest count, and ticks up to it."""
    step = 1
    while highest / step > 5:
        digit = int(str(step)[0])
        step = step * 5 // 2 if digit == 2 else step * 2
    top = max(1, math.ceil(highest / step)) * step
    ticks = [
        Tick(TOP + _PLOT_HEIGHT * (1 - value / top), f"{value:,}")
        for value in range(0, top + 1, step)
    ]
    return top, tuple(ticks)


def _log_axis(
    values: Sequence[float], start: float, end: float
) -> tuple[float, float, tuple[Tick, ...]]:
    """Lowest and highest exponent, and ticks at powers of ten; zero at the margin."""
    exponents = [math.log10(value) for value in values if value > 0]
    low = math.floor(min(exponents, default=0.0))
    high = max(low + 1, math.ceil(max(exponents, default=1.0)))
    every = max(1, math.ceil((high - low) / 8))
    ticks = [
        Tick(start + (exponent - low) / (high - low) * (end - start), _power(exponent))
        for exponent in range(low, high + 1, every)
    ]
    return low, high, tuple(ticks)


def _log_position(
    value: float, low: float, high: float, start: float, end: float, zero: float
) -> float:
    if value <= 0:
        return zero
    return start + (math.log10(value) - low) / (high - low) * (end - start)


def _power(exponent: int) -> str:
    return number(10.0**exponent) if -3 <= exponent <= 3 else f"1e{exponent}"
