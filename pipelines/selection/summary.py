"""A selection in numbers, class by class and as a whole."""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv

from pipelines.selection.candidates import PoolCounts
from pipelines.selection.facts import CellCounts

CLASSES = pa.schema(
    [
        ("label", pa.int32()),
        ("chosen", pa.int32()),
        ("shortfall", pa.int32()),  # K less chosen
        ("first", pa.float32()),  # score at rank 1
        ("middle", pa.float32()),  # at rank K/2
        ("last", pa.float32()),  # at rank K; null where there is none
        ("labelled", pa.int32()),  # chosen images that have a label of their own
        ("right", pa.int32()),  # of these, images whose label is this class
    ]
)
"""One row for each class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelAgreement:
    """How a selection agrees with the labels that `labelled` of its images have of their own.

    `right` of them were chosen for their label, the share `precision`. Of the `named_classes`, those that the labels
    name, `first_right` have an image of their own at rank 1.
    """

    labelled: int
    right: int
    precision: float
    named_classes: int
    first_right: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionSummary:
    """A selection as a whole; `labels` is None where no chosen image has a label of its own."""

    chosen: int
    images: int
    images_of_several_classes: int
    classes: int
    empty_classes: int
    short_classes: int
    shortfall: int
    labels: LabelAgreement | None

    def numbers(self) -> dict[str, float]:
        """All numbers by name, as MLflow gets them."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "labels"}
        return own | (asdict(self.labels) if self.labels else {})


def summarise_classes(chosen: pa.Table, classes: int, k: int) -> pa.Table:
    """CLASSES rows of all classes.

    Args:
        chosen: rows of `files.CHOSEN`, in the order of label and rank, at most K of each class.
        classes: how many the teacher has.
        k: images wanted of each class.
    """
    label, score = chosen["label"].to_numpy(), chosen["score"].to_numpy()
    truth = chosen["truth"].fill_null(-1).to_numpy()  # pyright: ignore[reportArgumentType]
    counts = np.bincount(label, minlength=classes)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])

    def at(rank: int) -> pa.FloatArray:
        there = counts >= rank
        where = np.where(there, starts + rank - 1, 0)
        return pa.array(score[where] if len(score) else np.zeros(classes, np.float32), mask=~there, type=pa.float32())

    labelled = np.bincount(label[truth >= 0], minlength=classes)
    right = np.bincount(label[truth == label], minlength=classes)
    columns: list[Any] = [range(classes), counts, k - counts, at(1), at(max(1, k // 2)), at(k), labelled, right]
    typed = [
        cast("pa.Array[Any]", pa.array(column)).cast(type_)
        for column, type_ in zip(columns, CLASSES.types, strict=True)
    ]
    return pa.table(typed, schema=CLASSES)


def summarise(chosen: pa.Table, classes: pa.Table) -> SelectionSummary:
    """The summary of a selection, from its `files.CHOSEN` rows and the CLASSES rows made of them."""
    counts = classes["chosen"].to_numpy()
    places = chosen["shard"].to_numpy().astype(np.int64) << 32 | chosen["index"].to_numpy()
    _, times = np.unique(places, return_counts=True)
    labelled, right = (int(classes[name].to_numpy().sum()) for name in ("labelled", "right"))
    return SelectionSummary(
        chosen=len(chosen),
        images=len(times),
        images_of_several_classes=int((times > 1).sum()),
        classes=len(counts),
        empty_classes=int((counts == 0).sum()),
        short_classes=int((classes["shortfall"].to_numpy() > 0).sum()),
        shortfall=int(classes["shortfall"].to_numpy().sum()),
        labels=_agreement(chosen, labelled, right) if labelled else None,
    )


def _agreement(chosen: pa.Table, labelled: int, right: int) -> LabelAgreement:
    label, rank, truth = (chosen[name].fill_null(-1).to_numpy() for name in ("label", "rank", "truth"))  # pyright: ignore[reportArgumentType]
    return LabelAgreement(
        labelled=labelled,
        right=right,
        precision=right / labelled,
        named_classes=len(set(truth[truth >= 0])),
        first_right=int(((rank == 1) & (truth == label)).sum()),
    )


def source_line(images: PoolCounts, cells: CellCounts) -> str:
    """What was selected from, in one sentence."""
    whole = f"{cells.needed - cells.missing:,} of {cells.needed:,} cells"
    if cells.excluded:
        whole += f" but {cells.excluded:,} of excluded shards"
    left_out = f"{images.failed:,} could not be scored, {images.excluded:,} were excluded"
    return f"{images.images:,} images in {whole}: {left_out}"


def summary_lines(found: SelectionSummary, k: int) -> list[str]:
    """The summary in sentences."""
    several = f", {found.images_of_several_classes:,} of them for several classes"
    lines = [f"{found.chosen:,} chosen for {found.classes:,} classes: {found.images:,} images{several}"]
    if found.shortfall:
        short = f"{found.short_classes:,} classes have fewer than {k:,}, {found.empty_classes:,} of these none"
        lines.append(f"{short}: {found.shortfall:,} are missing in total")
    if labels := found.labels:
        lines.append(
            f"{labels.right:,} of the {labels.labelled:,} that have a label were chosen for it: "
            f"precision {100 * labels.precision:.1f} %"
        )
        lines.append(
            f"rank 1 is right in {labels.first_right:,} of the {labels.named_classes:,} classes that labels name"
        )
    return lines


def summary_csv(classes: pa.Table, names: Sequence[str] | None) -> bytes:
    """CLASSES rows as a CSV, with a column of names where `names` are given."""
    if names:
        classes = classes.add_column(1, "name", pa.array(names))
    sink = io.BytesIO()
    pyarrow.csv.write_csv(classes, sink)
    return sink.getvalue()
