"""A training's curve -> a picture: loss, learning rate and accuracy over the images of all stages.

Owns the picture and the curve's form outside of checkpoints. Refuses to smooth: a point is the mean of what was between
two reports.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from pipelines import figures
from pipelines.training.specification import Stage

_LOSS, _RATE, _TOP1, _BORDER = figures.BLUE, figures.GREY, figures.RED, figures.BLACK


def curve_png(stages: Sequence[Stage], curve: Sequence[Mapping[str, Any]], title: str) -> bytes:
    """The picture of a curve, whose points are those of `stages.point`."""
    figure = Figure(figsize=(7.0, 6.5), dpi=120, layout="constrained")
    loss, rate, accuracy = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1, 2))
    images = [_images(stages, point) for point in curve]
    loss.plot(images, [point["loss"] for point in curve], color=_LOSS)
    loss.set(ylabel="loss")
    loss.set_title(title, parse_math=False)
    rate.plot(images, [point["lr"] for point in curve], color=_RATE)
    rate.set(ylabel="learning rate", yscale="log")
    validated = [(at, point["metrics"]["top1"]) for at, point in zip(images, curve, strict=True) if "metrics" in point]
    accuracy.plot(*zip(*validated, strict=True), color=_TOP1, marker="o", markersize=3)
    accuracy.set(xlabel="images processed", ylabel="top-1, validation")
    accuracy.xaxis.set_major_formatter(EngFormatter(sep=""))
    for axes in (loss, rate, accuracy):
        _draw_borders(axes, stages)
        figures.tidy(axes)
    return figures.png_bytes(figure)


def _images(stages: Sequence[Stage], point: Mapping[str, Any]) -> int:
    """Images processed until a point, over all stages."""
    before = sum(stage.steps * stage.recipe.batch for stage in stages[: point["stage"]])
    return before + point["step"] * stages[point["stage"]].recipe.batch


def _draw_borders(axes: Axes, stages: Sequence[Stage]) -> None:
    border = 0
    for stage in stages[:-1]:
        border += stage.steps * stage.recipe.batch
        axes.axvline(border, color=_BORDER, linestyle=":", linewidth=1)
