"""Columns of numbers in Parquet whose classes Hugging Face's `datasets` names -> the labels that the names mean.

Evaluation reads such columns in the same way (see `pipelines.data.class_names`).
"""

from collections.abc import Sequence

import pyarrow as pa

from pipelines.data import class_names
from pipelines.data.containers import ShardError
from pipelines.packing.classes import Classes

SAID = " by its class names"
"""What the line on a table says of its column of labels."""


def meanings(schema: pa.Schema, column: str, shown: str, classes: Classes | str | None = None) -> list[str] | None:
    """What each number in `column` means, as a table would write it; None if it is a label itself.

    Args:
        schema: of the file.
        column: of labels.
        shown: the file, for messages.
        classes: what `--classes` says; the column's own names are read where it knows all of them.

    Raises:
        ValueError: if a name is a synset but none of ImageNet's, or ImageNet's names are in another order.
    """
    kind = schema.types[schema.names.index(column)]
    if not pa.types.is_integer(kind):
        return None
    names = class_names.class_names(schema, column)
    if names and (isinstance(classes, str) or (classes and set(names) <= classes.every_name().keys())):
        return names
    try:
        labels = class_names.relabelled(schema, column)
    except ShardError as error:
        raise ValueError(f"{shown}: {error}") from None
    return None if labels is None else [str(label) for label in labels]


def translated(values: Sequence[int | None], names: Sequence[str], shown: str, start: int = 0) -> list[str]:
    """The meaning of each number; empty for null and -1.

    Args:
        values: the numbers.
        names: what they mean.
        shown: the file, for messages.
        start: the row of the first one.

    Raises:
        ValueError: if a number is none of the classes.
    """
    for row, value in enumerate(values, start):
        if value is not None and not -1 <= value < len(names):
            raise ValueError(f"{shown} row {row}: label {value} is none of the column's {len(names)} classes")
    return ["" if value is None or value < 0 else names[value] for value in values]
