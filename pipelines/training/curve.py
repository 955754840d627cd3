"""Draws a training's curve: loss, learning rate and top-1 over the images of all stages.

Nothing is smoothed: a point is the mean of what was between two reports.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from pipelines import figures
from pipelines.training.progress import CurvePoint
from pipelines.training.specification import Stage

_LOSS, _RATE, _TOP1, _BORDER = figures.BLUE, figures.GREY, figures.RED, figures.BLACK


def curve_png(stages: Sequence[Stage], curve: Sequence[CurvePoint], title: str) -> bytes:
    """A PNG of a training's curve."""
    figure = Figure(figsize=(7.0, 6.5), dpi=120, layout="constrained")
    loss, rate, accuracy = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1, 2))
    images = [_images(stages, point) for point in curve]
    loss.plot(images, [point.loss for point in curve], color=_LOSS)
    loss.set(ylabel="loss")
    loss.set_title(title, parse_math=False)
    rate.plot(images, [point.lr for point in curve], color=_RATE)
    rate.set(ylabel="learning rate", yscale="log")
    validated = [(at, point.metrics["top1"]) for at, point in zip(images, curve, strict=True) if point.metrics]
    accuracy.plot(*zip(*validated, strict=True), color=_TOP1, marker="o", markersize=3)
    accuracy.set(xlabel="images processed", ylabel="top-1, validation")
    accuracy.xaxis.set_major_formatter(EngFormatter(sep=""))
    for axes in (loss, rate, accuracy):
        _draw_borders(axes, stages)
        figures.tidy(axes)
    return figures.png_bytes(figure)


def _images(stages: Sequence[Stage], point: CurvePoint) -> int:
    """Images processed until a point, over all stages."""
    before = sum(stage.steps * stage.recipe.batch for stage in stages[: point.stage])
    return before + point.step * stages[point.stage].recipe.batch


def _draw_borders(axes: Axes, stages: Sequence[Stage]) -> None:
    border = 0
    for stage in stages[:-1]:
        border += stage.steps * stage.recipe.batch
        axes.axvline(border, color=_BORDER, linestyle=":", linewidth=1)  # pyright: ignore[reportUnknownMemberType]
