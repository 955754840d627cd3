"""Which columns of a Parquet file hold the picture, the label and the key of a row, by their names and types."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, cast
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.types as is_type

from pipelines.data.containers import ShardError
from pipelines.data.labels import SYNSET
from pipelines.records import Reading, Shard
from zoo import imagenet

_IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes", "image_bytes", "image_data", "content")
_LABELS = ("label", "labels", "cls", "class", "class_id", "class_index", "label_id", "target", "synset", "wnid")
_KEYS = ("key", "__key__", "id", "image_id", "path", "file_name", "filename")
ROW = "ROW"
"""--key-column: no column holds keys; rows are numbered."""
_PATH = "path"
"""Of a picture's struct, as Hugging Face's `datasets` writes it."""
Fields = dict[str, "pa.Field[Any]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What to read of a file.

    Attributes:
        image: the column of encoded pictures.
        key: the column of keys; None numbers the rows or takes the paths in `image`.
        label: the column of labels; None if there is none.
        partition: the label of all rows, from a folder `label=…` of the shard's path; None if there is none.
        relabel: the label for each number in `label`, where the file names its classes by number or synset.
        has_path: whether `image` has paths, which serve as keys.
    """

    image: str
    key: str | None = None
    label: str | None = None
    partition: str | None = None
    relabel: tuple[int, ...] | None = None
    has_path: bool = False

    @property
    def read(self) -> list[str]:
        """The columns to read."""
        return list(dict.fromkeys(name for name in (self.image, self.key, self.label) if name))


def choose(schema: pa.Schema, shard: Shard) -> Columns:
    """The columns of a file of `schema` that hold the samples of `shard`.

    Raises:
        ShardError: naming the columns there are and the option, if they cannot be told.
    """
    reading = Reading.from_text(shard.reading)
    fields = {field.name: field for field in cast("Sequence[pa.Field[Any]]", schema)}
    image = _chosen(fields, reading.image_column, "--image-column", _IMAGES, is_image)
    if image is None:
        raise ShardError(f"no column of encoded pictures; it has {_listed(fields)}; --image-column names one")
    key = None if reading.key_column == ROW else _chosen(fields, reading.key_column, "--key-column", _KEYS, _is_key)
    label = _chosen(fields, reading.label_column, "--label-column", _LABELS, _is_label)
    return Columns(
        image=image,
        key=key,
        label=label,
        partition=_partition(shard.uri) if label is None else None,
        relabel=_relabel(schema, label) if label else None,
        has_path=reading.key_column is None and _has_path(fields[image].type),
    )


def has_image(schema: pa.Schema) -> bool:
    """Whether any column of a file of `schema` can hold encoded pictures."""
    return any(is_image(field.type) for field in cast("Sequence[pa.Field[Any]]", schema))


def is_image(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold encoded pictures: bytes, lists of bytes, or a struct with `bytes`."""
    if is_type.is_struct(kind):
        struct = cast(Any, kind)
        return struct.get_field_index("bytes") >= 0 and is_image(struct.field("bytes").type)
    if is_type.is_list(kind) or is_type.is_large_list(kind) or is_type.is_fixed_size_list(kind):
        return is_type.is_uint8(cast("pa.ListType[Any]", kind).value_type)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    if is_type.is_dictionary(kind):
        return _is_binary(cast("pa.DictionaryType[Any, Any]", kind).value_type)
    tests = (is_type.is_binary, is_type.is_large_binary, is_type.is_binary_view, is_type.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def _is_key(kind: pa.DataType) -> bool:
    return _is_text(kind) or is_type.is_integer(kind)


def _is_text(kind: pa.DataType) -> bool:
    if is_type.is_dictionary(kind):
        return _is_text(cast("pa.DictionaryType[Any, Any]", kind).value_type)
    return is_type.is_string(kind) or is_type.is_large_string(kind) or is_type.is_string_view(kind)


def _is_label(kind: pa.DataType) -> bool:
    if is_type.is_dictionary(kind):
        return _is_label(cast("pa.DictionaryType[Any, Any]", kind).value_type)
    number = is_type.is_integer(kind) or is_type.is_floating(kind) or is_type.is_decimal(kind)
    return number or is_type.is_null(kind) or _is_text(kind) or _is_binary(kind)


def _chosen(
    fields: Fields,
    given: str | None,
    option: str,
    usual: Sequence[str],
    fits: Callable[[pa.DataType], bool],
) -> str | None:
    """The column that the option names, or the only usual one that fits; the first of `usual` comes before others."""
    if given is not None:
        if given not in fields:
            raise ShardError(f"{option} {given}: no such column; it has {_listed(fields)}")
        if not fits(fields[given].type):
            raise ShardError(
                f"{option} {given}: its type {fields[given].type} cannot be used; it has {_listed(fields)}"
            )
        return given
    if usual[0] in fields:
        return usual[0]
    found = [name for name, field in fields.items() if name.lower() in usual and fits(field.type)]
    if len(found) > 1 and usual is not _KEYS:
        raise ShardError(f"columns {' and '.join(found)} could be meant; {option} says which")
    return min(found, key=lambda name: usual.index(name.lower()), default=None)


def _listed(fields: Fields) -> str:
    return ", ".join(f"{name} ({_short(field.type)})" for name, field in list(fields.items())[:12]) or "no columns"


def _short(kind: pa.DataType) -> str:
    return str(kind) if len(str(kind)) <= 40 else f"{str(kind)[:37]}…"


def _has_path(kind: pa.DataType) -> bool:
    if not is_type.is_struct(kind):
        return False
    struct = cast(Any, kind)
    return struct.get_field_index(_PATH) >= 0 and _is_text(struct.field(_PATH).type)


def _partition(uri: str) -> str | None:
    """The label in a folder `label=…`, as Hive, Spark and DuckDB name the parts of a table."""
    pairs = (part.partition("=") for part in PurePosixPath(uri).parts[:-1])
    values = [unquote(value) for name, equals, value in pairs if equals and name.lower() in _LABELS]
    return values[-1] if values else None


def _relabel(schema: pa.Schema, column: str) -> tuple[int, ...] | None:
    """The label of each number in `column`, from the class names that Hugging Face's `datasets` stores.

    Raises:
        ShardError: if a name is a synset but none of ImageNet's, or ImageNet's names are in another order.
    """
    names = _class_names(schema, column)
    if not names:
        return None
    if all(name.isascii() and name.isdigit() for name in names):
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


def _class_names(schema: pa.Schema, column: str) -> list[str]:
    stored = (schema.metadata or {}).get(b"huggingface")
    try:
        feature = json.loads(stored or b"{}")["info"]["features"][column]
        return [str(name) for name in feature["names"]] if feature["_type"] == "ClassLabel" else []
    except (ValueError, KeyError, TypeError):
        return []


def _first_lemmas(names: Sequence[str]) -> list[str]:
    return [name.partition(",")[0].strip().casefold().replace("_", " ") for name in names]
