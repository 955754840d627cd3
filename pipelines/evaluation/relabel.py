"""A cell with the labels of another set: several right classes an image, or none (ImageNet ReaL, Beyer et al. 2020).

A row gets the one of its labels that ranks highest in its prediction, so that top-1, top-k, classes and paired tests
are counted as with one label: a prediction is right where any of the labels is within the top k (as in timm's
`validate.py`). Rows without a label are left out. A key without the image's number is an error, since a wrong place in
the list of labels would be a wrong label.
"""

import gzip
import json
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, cast

import numpy as np
import pyarrow as pa

from pipelines import storage
from pipelines.data.evaluation_sets import OURS, EvaluationSet


def relabelled(cell: pa.Table, label_set: EvaluationSet) -> pa.Table:
    """The rows of `cell` (see `records.cell_schema`) that have a label in `label_set`, with the highest-ranked one.

    `label_prob` is that label's probability where it is among the classes kept, else 0: with several right labels
    neither a likelihood nor a Brier score is defined.

    Raises:
        ValueError: if a key has no number, or one beyond the list.
    """
    assert label_set.labels
    assert label_set.key
    sets = _label_sets(label_set.labels)
    numbers = [_number(key, label_set.key, len(sets)) for key in cast(list[str], cell["key"].to_pylist())]
    kept = np.array([bool(sets[number]) for number in numbers], bool)
    cell = cell.filter(pa.array(kept))
    rows = zip(
        (sets[number] for number in numbers if sets[number]),
        cell["classes"].to_pylist(),
        cell["probs"].to_pylist(),
        strict=True,
    )
    chosen = [_chosen_label(labels, classes or (), probs or ()) for labels, classes, probs in rows]
    fine = cell["error"].is_null().to_numpy()
    cell = _with(cell, "label", pa.array([label for label, _ in chosen], pa.int32()))
    return _with(cell, "label_prob", pa.array([prob for _, prob in chosen], pa.float32(), mask=~fine))


def _chosen_label(labels: Sequence[int], classes: Sequence[int], probs: Sequence[float]) -> tuple[int, float]:
    """The first of `classes` that is one of `labels`, with its probability; else the first label, with 0."""
    return next((found for found in zip(classes, probs, strict=True) if found[0] in labels), (labels[0], 0.0))


def _with(cell: pa.Table, name: str, values: "pa.Array[Any]") -> pa.Table:
    field = cast("pa.Field[Any]", cell.schema.field(name))  # pyright: ignore[reportUnknownMemberType]
    return cell.set_column(cell.schema.get_field_index(name), field, values)


def _number(key: str, pattern: str, most: int) -> int:
    """The image's place in the list of labels, from 0."""
    found = re.search(pattern, key)
    if not found or not 1 <= int(found[1]) <= most:
        raise ValueError(f"key {key!r} does not say which of the {most} images it is: expected {pattern!r}")
    return int(found[1]) - 1


@cache
def _label_sets(location: str) -> list[list[int]]:
    if location.startswith(OURS):
        content = resources.files("pipelines.evaluation").joinpath(location.removeprefix(OURS)).read_bytes()
    else:
        content = storage.read(location)
    try:
        sets: object = json.loads(gzip.decompress(content) if location.endswith(".gz") else content)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{location}: not JSON: {error}") from None
    lists = cast(list[object], sets) if isinstance(sets, list) else [None]
    if not all(
        isinstance(some, list) and all(type(label) is int for label in cast(list[object], some)) for some in lists
    ):
        raise ValueError(f"{location}: expected a list of lists of labels")
    return cast(list[list[int]], lists)
