"""Figures of a selection: how scores are distributed, and contact sheets of classes."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure

from pipelines import figures
from pipelines.selection.thumbnails import GEOMETRY

ACROSS = 8
"""Images of a class in each of three rows: the first, the middle and the last ranks."""
_COLOURS = {"first": figures.BLUE, "middle": figures.GREEN, "last": figures.RED}


def shown_ranks(chosen: int) -> list[int]:
    """The ranks of a class with `chosen` images that its sheet shows: the first, the middle and the last ones."""
    middle = max(0, chosen // 2 - ACROSS // 2)
    blocks = (range(ACROSS), range(middle, middle + ACROSS), range(max(0, chosen - ACROSS), chosen))
    return sorted({rank + 1 for block in blocks for rank in block if rank < chosen})


def scores_png(chosen: pa.Table, classes: pa.Table, k: int, title: str) -> bytes:
    """The distribution of all scores, and the scores at ranks 1, K/2 and K of the classes, each sorted."""
    figure = Figure(figsize=(9.0, 4.2), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.hist(chosen["score"].to_numpy(), bins=50, color=_COLOURS["first"])
    left.set(xlabel="score", ylabel="chosen")
    for rank, name in {1: "first", max(1, k // 2): "middle", k: "last"}.items():
        values = np.sort(classes[name].drop_null().to_numpy())[::-1]
        right.plot(np.arange(1, len(values) + 1), values, color=_COLOURS[name], label=f"rank {rank:,}")
    right.set(xlabel="classes, best first", ylabel="score")
    right.legend(frameon=False)
    for axes in (left, right):
        figures.tidy(axes)
    figure.suptitle(title, parse_math=False)  # pyright: ignore[reportUnknownMemberType]
    return figures.png_bytes(figure)


def sheet_png(thumbnails: pa.Table, chosen: int, title: str) -> bytes:
    """The thumbnails of a class (rows of `thumbnails.SCHEMA`) by rank, `ACROSS` in a row."""
    rows = {row["rank"]: row for row in thumbnails.to_pylist()}
    ranks = sorted(rows)
    blocks = [ranks[start : start + ACROSS] for start in range(0, len(ranks), ACROSS)]
    figure = Figure(figsize=(1.1 * ACROSS, 1.35 * len(blocks) + 0.4), dpi=110, layout="constrained")
    figure.suptitle(f"{title}: {chosen:,} chosen", parse_math=False, fontsize=10)  # pyright: ignore[reportUnknownMemberType]
    for axes, row in zip(figure.subplots(len(blocks), ACROSS, squeeze=False), _padded(blocks), strict=True):
        for place, rank in zip(axes, row, strict=True):
            place.axis("off")
            if rank is None:
                continue
            place.set_title(f"{rank:,}: {rows[rank]['score']:.3f}", fontsize=7)
            if rows[rank]["pixels"]:
                pixels = np.frombuffer(rows[rank]["pixels"], np.uint8)
                place.imshow(pixels.reshape(GEOMETRY.size, GEOMETRY.size, 3))
    return figures.png_bytes(figure)


def _padded(blocks: Sequence[Sequence[int]]) -> list[list[int | None]]:
    return [[*block, *[None] * (ACROSS - len(block))] for block in blocks]
