"""Other labels for the same predictions: several right classes an image, or none (ImageNet ReaL, Beyer et al. 2020).

Owns how a cell is read with them. A row gets, of its labels, the one that its prediction comes closest to, so that
top-1, top-k, classes and paired tests are counted as ever: a prediction is right where any of the labels is within the
top k (as timm's `validate.py` does). Rows without a label are left out. Refuses keys that it cannot find the number of:
a wrong place in the list would be a wrong label.
"""

import gzip
import json
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources

import numpy as np
import pyarrow as pa

from pipelines import storage
from pipelines.data.evaluation_sets import OURS, EvaluationSet


def relabelled(cell: pa.Table, view: EvaluationSet) -> pa.Table:
    """The rows of `cell` (see `records.cell_schema`) that have a label in `view`, with the label closest to them.

    `label_prob` is that label's probability where it is among the classes kept, else 0: with several right labels
    neither a likelihood nor a Brier score is defined.

    Raises:
        ValueError: if a key has no number, or one beyond the list.
    """
    assert view.labels
    assert view.key
    sets = _label_sets(view.labels)
    numbers = [_number(key, view.key, len(sets)) for key in cell["key"].to_pylist()]
    kept = np.array([bool(sets[number]) for number in numbers], bool)
    cell = cell.filter(pa.array(kept))
    wanted = [sets[number] for number, keep in zip(numbers, kept, strict=True) if keep]
    places = [
        _closest(classes or (), labels) for classes, labels in zip(cell["classes"].to_pylist(), wanted, strict=True)
    ]
    labels = [labels[0] if at is None else classes[at] for at, classes, labels in _rows(cell, places, wanted)]
    probs = [0.0 if at is None else probs[at] for at, probs in zip(places, cell["probs"].to_pylist(), strict=True)]
    fine = cell["error"].is_null().to_numpy()
    cell = _with(cell, "label", pa.array(labels, pa.int32()))
    return _with(cell, "label_prob", pa.array(probs, pa.float32(), mask=~fine))


def _rows(cell: pa.Table, places: Sequence[int | None], wanted: Sequence[Sequence[int]]):
    return zip(places, cell["classes"].to_pylist(), wanted, strict=True)


def _closest(classes: Sequence[int], labels: Sequence[int]) -> int | None:
    """The first place among `classes` that holds one of `labels`."""
    return next((place for place, found in enumerate(classes) if found in labels), None)


def _with(cell: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return cell.set_column(cell.schema.get_field_index(name), cell.schema.field(name), values)


def _number(key: str, pattern: str, most: int) -> int:
    """The place in the list, from 0."""
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
        sets = json.loads(gzip.decompress(content) if location.endswith(".gz") else content)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{location}: not JSON: {error}") from None
    lists = sets if isinstance(sets, list) else [None]
    if not all(isinstance(some, list) and all(type(label) is int for label in some) for some in lists):
        raise ValueError(f"{location}: expected a list of lists of labels")
    return sets
