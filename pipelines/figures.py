"""What all charts share: the palette, plain axes, and a PNG whose bytes depend on the drawing alone.

Charts are drawn on `matplotlib.figure.Figure` directly, never with pyplot, whose state is global to the process.
"""

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, RED, GREEN, GREY, BLACK = "#3b6ea5", "#d9694f", "#7ba05b", "#9aa5b1", "#444444"
_GRID = "#e3e6ea"


def tidy(axes: Axes) -> None:
    """Keep only the left and bottom sides of the frame; draw light horizontal lines behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)  # pyright: ignore[reportUnknownMemberType]
    axes.set_axisbelow(True)


def png_bytes(figure: Figure) -> bytes:
    """The figure as a PNG without the version of Matplotlib, so that equal drawings are equal bytes."""
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})  # pyright: ignore[reportUnknownMemberType]
    return png.getvalue()
