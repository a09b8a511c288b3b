"""Pictures of reports, as PNG bytes. No state of pyplot is touched."""

import io
from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLOURS = ("#7a8793", "#c23b22", "#30638e", "#edae49", "#66a182")
_DOTS_PER_INCH = 100


def draw(paint: Callable[[Axes], object], *, inches: tuple[float, float] = (8.0, 3.2)) -> bytes:
    """Let `paint` draw on empty axes and return the picture."""
    figure = Figure(figsize=inches, dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    paint(axes)
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()
