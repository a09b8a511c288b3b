"""Plots of reports, as PNG bytes, without pyplot's global state."""

import io
from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

GREY, RED, ORANGE, YELLOW, BLUE, PALE = (
    "#7a8793", "#c23b22", "#e07a3f", "#edae49", "#30638e", "#bbbbbb",
)  # fmt: skip
USUAL, ALARM = GREY, RED
"""Colours of ordinary or earlier data, and of what stands out."""
SERIES = (RED, BLUE, YELLOW, GREY)
"""Colours of several curves, in this order."""
SEVERITIES = {
    "CRITICAL": RED, "HIGH": ORANGE, "MEDIUM": YELLOW, "LOW": BLUE, "INFO": GREY, "UNKNOWN": PALE,
}  # fmt: skip
_DOTS_PER_INCH = 110
_LEGEND_COLUMNS = 3


def draw(paint: Callable[[Axes], object], *, inches: tuple[float, float] = (6.4, 4.0)) -> bytes:
    """Let `paint` draw on empty axes and return the plot.

    What it gives a label gets a legend below the axes, where it covers nothing.
    """
    figure = Figure(figsize=inches, dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    paint(axes)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        columns = min(len(handles), _LEGEND_COLUMNS)
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    content = io.BytesIO()
    # Without software tag and time, the same data give the same bytes.
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()
