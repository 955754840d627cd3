"""A tally -> the reliability diagram: does a confidence of 80 % mean right in 80 of 100 cases?"""

# matplotlib gives its keyword arguments no types.
# pyright: reportUnknownMemberType=false

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipelines import figures
from pipelines.evaluation.metrics import NUM_BINS, Bin
from pipelines.evaluation.result import ModelResult

_ACCURACY, _GAP, _COUNTS, _LINE = figures.BLUE, figures.RED, figures.GREY, figures.BLACK
_CENTRES = (np.arange(NUM_BINS) + 0.5) / NUM_BINS
_BAR = 0.92 / NUM_BINS


def reliability_png(result: ModelResult) -> bytes:
    """Accuracy by confidence with the gap to perfect calibration, and beneath it how many rows each bin holds.

    The gap of a bin is drawn from its accuracy to its mean confidence, which is what the calibration error adds up
    (Guo et al. 2017); bins without rows stay empty.
    """
    figure = Figure(figsize=(6.0, 7.0), dpi=120, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    _draw_accuracy(upper, result)
    _draw_counts(lower, result.tally.bins)
    return figures.png_bytes(figure)


def _draw_accuracy(axes: Axes, result: ModelResult) -> None:
    bins = result.tally.bins
    accuracy = np.array([b.accuracy for b in bins])
    gap = np.array([b.mean_confidence - b.accuracy if b.rows else np.nan for b in bins])
    axes.bar(_CENTRES, accuracy, _BAR, color=_ACCURACY, label="accuracy")
    axes.bar(_CENTRES, gap, _BAR, accuracy, facecolor="none", edgecolor=_GAP, hatch="////", label="gap to confidence")
    axes.plot([0, 1], [0, 1], color=_LINE, linestyle="--", linewidth=1, label="perfectly calibrated")
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    axes.set_title(_title(result), parse_math=False)  # a dataset may have dollar signs in its name
    axes.legend(loc="upper left", frameon=False)
    figures.tidy(axes)


def _draw_counts(axes: Axes, bins: tuple[Bin, ...]) -> None:
    rows = [b.rows for b in bins]
    axes.bar(_CENTRES, rows, _BAR, color=_COUNTS)
    axes.set(xlabel="confidence (top-1 probability)", ylabel="rows", ylim=(0, 1.05 * max(1, *rows)))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    figures.tidy(axes)


def _title(result: ModelResult) -> str:
    scored = result.summary
    calibration = "" if scored.ece is None else f"   ECE = {scored.ece:.4f}"
    partial = "" if result.complete else f"   incomplete: {result.committed} of {result.shards} shards"
    return f"{result.model} on {result.dataset}{partial}\nn = {scored.n}   errors = {scored.errors}{calibration}"
