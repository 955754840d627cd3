"""What a selection is like: class by class and as a whole.

Owns the numbers that a person judges it by. Refuses to read images, and to change the selection.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv

CLASSES = pa.schema(
    [
        ("label", pa.int32()),
        ("chosen", pa.int32()),
        ("shortfall", pa.int32()),  # what is lacking to K
        ("first", pa.float32()),  # score at rank 1
        ("middle", pa.float32()),  # at rank K/2
        ("last", pa.float32()),  # at rank K; null where there is none
        ("labelled", pa.int32()),  # chosen images that have a label of their own
        ("right", pa.int32()),  # of which it is this class
    ]
)


def summarise_classes(chosen: pa.Table, classes: int, k: int) -> pa.Table:
    """CLASSES rows of all `classes`, from rows of `selection.CHOSEN`, by label and rank, K of each at most."""
    label, score = chosen["label"].to_numpy(), chosen["score"].to_numpy()
    truth = chosen["truth"].fill_null(-1).to_numpy()
    counts = np.bincount(label, minlength=classes)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])

    def at(rank: int) -> pa.Array:
        there = counts >= rank
        where = np.where(there, starts + rank - 1, 0)
        return pa.array(score[where] if len(score) else np.zeros(classes, np.float32), mask=~there, type=pa.float32())

    labelled = np.bincount(label[truth >= 0], minlength=classes)
    right = np.bincount(label[truth == label], minlength=classes)
    columns = [range(classes), counts, k - counts, at(1), at(max(1, k // 2)), at(k), labelled, right]
    return pa.table(
        [pa.array(column).cast(field.type) for column, field in zip(columns, CLASSES, strict=True)], CLASSES
    )


def summarise(chosen: pa.Table, classes: pa.Table) -> Mapping[str, float]:
    """The whole in numbers, which MLflow takes as they are.

    Where chosen images have labels of their own, `precision` is the share of these that were chosen for it, and
    `first_right` counts the `named_classes`, those that the labels name, whose rank 1 is right.
    """
    counts = classes["chosen"].to_numpy()
    places = chosen["shard"].to_numpy().astype(np.int64) << 32 | chosen["index"].to_numpy()
    _, serving = np.unique(places, return_counts=True)
    labelled, right = (int(classes[name].to_numpy().sum()) for name in ("labelled", "right"))
    agreement = {"labelled": labelled, "right": right, "precision": right / labelled} if labelled else {}
    return (agreement | _first_right(chosen) if labelled else {}) | {
        "chosen": len(chosen),
        "images": len(serving),
        "images_of_several_classes": int((serving > 1).sum()),
        "classes": len(counts),
        "empty_classes": int((counts == 0).sum()),
        "short_classes": int((classes["shortfall"].to_numpy() > 0).sum()),
        "shortfall": int(classes["shortfall"].to_numpy().sum()),
    }


def _first_right(chosen: pa.Table) -> dict[str, int]:
    label, rank, truth = (chosen[name].fill_null(-1).to_numpy() for name in ("label", "rank", "truth"))
    return {"named_classes": len(set(truth[truth >= 0])), "first_right": int(((rank == 1) & (truth == label)).sum())}


def source_of(images: Mapping[str, int], cells: Mapping[str, int]) -> str:
    """What was selected from, in a sentence: counts of `candidates.Seen`, and of cells needed and missing."""
    whole = f"{cells['needed'] - cells['missing']:,} of {cells['needed']:,} cells"
    if cells["excluded"]:
        whole += f" but {cells['excluded']:,} of excluded shards"
    left_out = f"{images['failed']:,} could not be scored, {images['excluded']:,} were excluded"
    return f"{images['images']:,} images in {whole}: {left_out}"


def summary_lines(found: Mapping[str, float], k: int) -> list[str]:
    """The summary in sentences."""
    several = f", {found['images_of_several_classes']:,} of them for several classes"
    said = [f"{found['chosen']:,} chosen for {found['classes']:,} classes: {found['images']:,} images{several}"]
    if found["shortfall"]:
        short = f"{found['short_classes']:,} classes have fewer than {k:,}, {found['empty_classes']:,} of these none"
        said.append(f"{short}: {found['shortfall']:,} are lacking in all")
    if "precision" in found:
        said.append(
            f"{found['right']:,} of the {found['labelled']:,} that have a label were chosen for it: "
            f"precision {100 * found['precision']:.1f} %"
        )
        said.append(f"rank 1 is right in {found['first_right']:,} of the {found['named_classes']:,} classes of labels")
    return said


def summary_csv(classes: pa.Table, names: Sequence[str] | None) -> bytes:
    """The classes as a CSV, with their names where they have any."""
    if names:
        classes = classes.add_column(1, "name", pa.array(names))
    sink = io.BytesIO()
    pyarrow.csv.write_csv(classes, sink)
    return sink.getvalue()
