"""The class names that Hugging Face's `datasets` stores in a Parquet file -> the labels of its numbers."""

import json
from collections.abc import Sequence

import pyarrow as pa

from pipelines.data.containers import ShardError
from pipelines.data.labels import MAX_LABEL, SYNSET
from zoo import imagenet

_DIGITS = 100
"""int() refuses texts of thousands."""


def relabelled(schema: pa.Schema, column: str) -> tuple[int, ...] | None:
    """The label of each number in `column`, from the class names that Hugging Face's `datasets` stores.

    Raises:
        ShardError: if a name is a synset but none of ImageNet's, or ImageNet's names are in another order.
    """
    names = class_names(schema, column)
    if not names:
        return None
    if all(name.isascii() and name.isdigit() for name in names):
        if too_large := [name for name in names if len(name) > _DIGITS or int(name) > MAX_LABEL]:
            raise ShardError(f"{too_large[0][:40]} of column {column}'s class names is no 32-bit integer")
        return tuple(int(name) for name in names)
    if all(SYNSET.fullmatch(name) for name in names):
        known = {synset: number for number, synset in enumerate(imagenet.synsets())}
        if unknown := [name for name in names if name not in known]:
            raise ShardError(f"{unknown[0]} of column {column}'s class names is none of ImageNet's 1000 synsets")
        return tuple(known[name] for name in names)
    ours, theirs = (_first_lemmas(some) for some in (imagenet.class_names(), names))
    if len(theirs) == len(ours) and theirs != ours and sorted(theirs) == sorted(ours):
        place = next(place for place, pair in enumerate(zip(theirs, ours, strict=True)) if pair[0] != pair[1])
        raise ShardError(
            f"column {column} numbers ImageNet's classes in another order: {place} is {names[place]!r}, "
            f"in the models {imagenet.class_names()[place]!r}; write synsets instead of numbers"
        )
    return None


def class_names(schema: pa.Schema, column: str) -> list[str]:
    """The names of the classes that the numbers in `column` stand for; none if the file names none."""
    stored = (schema.metadata or {}).get(b"huggingface")
    try:
        feature = json.loads(stored or b"{}")["info"]["features"][column]
        return [str(name) for name in feature["names"]] if feature["_type"] == "ClassLabel" else []
    except (ValueError, KeyError, TypeError):
        return []


def _first_lemmas(names: Sequence[str]) -> list[str]:
    return [name.partition(",")[0].strip().casefold().replace("_", " ") for name in names]
