"""Which columns of a Parquet file hold the picture, the label and the key of a row, by their names and types."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, cast
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.types as is_type

from pipelines.data.class_names import relabelled
from pipelines.data.containers import ShardError
from pipelines.records import Reading, Shard

_IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes", "image_bytes", "image_data", "content")
_LABELS = ("label", "labels", "cls", "class", "class_id", "class_index", "label_id", "target", "synset", "wnid")
_KEYS = ("key", "__key__", "id", "image_id", "path", "file_name", "filename")
ROW = "ROW"
"""--key-column: no column holds keys; rows are numbered."""
_PATH = "path"
"""Of a picture's struct, as Hugging Face's `datasets` writes it."""
_ELSEWHERE = ("image", "img", "url", "uri", "file_name", "filename", "path", "image_path", "filepath")
"""Columns of a table that describes pictures and does not hold them."""
_TENSORS = b"tensor"
"""In the name of Arrow's extension types of decoded arrays: Ray Data's `arrow_tensor`, Arrow's `fixed_shape_tensor`."""
_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
"""What Hive, Spark and DuckDB write for null in a folder's name."""
Fields = dict[str, "pa.Field[Any]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What to read of a file.

    Attributes:
        image: the column of encoded pictures.
        key: the column of keys; None numbers the rows or takes the paths in `image`.
        label: the column of labels; None if there is none.
        partition: the label of all rows, from a folder `label=…` of the shard's path; None if there is none. Where
            the column `label` is there too, the two must agree.
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
    image = _chosen(fields, reading.image_column, "--image-column", _IMAGES, _is_image_field)
    if image is None:
        raise ShardError(f"no column of encoded pictures; it has {_listed(fields)}; {_without_image(fields)}")
    key = None if reading.key_column == ROW else _chosen(fields, reading.key_column, "--key-column", _KEYS, _is_key)
    label, partition = _label(fields, reading.label_column, shard)
    for name in (image, key, label):
        if name and schema.names.count(name) > 1:
            raise ShardError(f"two columns are named {name}; it has {', '.join(schema.names)}")
    return Columns(
        image=image,
        key=key,
        label=label,
        partition=partition,
        relabel=relabelled(schema, label) if label else None,
        has_path=reading.key_column is None and _has_path(fields[image].type),
    )


def _label(fields: Fields, given: str | None, shard: Shard) -> tuple[str | None, str | None]:
    """The column of labels, and the label of the folder that names the same column or takes its place."""
    folders = _partitions(shard.name)
    if given is not None and given not in fields and given.lower() in folders:
        return None, folders[given.lower()]
    label = _chosen(fields, given, "--label-column", _LABELS, _is_label)
    usual = [name for name in _LABELS if name in folders]
    if label is not None:
        beside = label.lower() if given or label.lower() in folders else next(iter(usual), "")
        return label, folders.get(beside)
    if len(usual) > 1 and usual[0] != _LABELS[0]:
        raise ShardError(f"folders {' and '.join(usual)} could be meant; --label-column says which")
    return None, folders[usual[0]] if usual else None


def has_image(schema: pa.Schema) -> bool:
    """Whether any column of a file of `schema` can hold encoded pictures."""
    return any(is_image(field.type) for field in cast("Sequence[pa.Field[Any]]", schema))


def _is_image_field(field: "pa.Field[Any]") -> bool:
    return _TENSORS not in (field.metadata or {}).get(b"ARROW:extension:name", b"") and is_image(field.type)


def _without_image(fields: Fields) -> str:
    """What to do with a file that has no column of pictures."""
    kinds = [str(field.type) + str((field.metadata or {}).get(b"ARROW:extension:name")) for field in fields.values()]
    if any(_TENSORS.decode() in kind.lower() for kind in kinds):  # Ray registers a type of its own where it runs
        return "decoded pictures are not read: store the bytes of their files (ray.data.read_binary_files)"
    option = "--image-column names one"
    if any(name.lower() in _ELSEWHERE for name in fields):
        return f"{option}; pictures that lie elsewhere are packed by jobs.pack_shards --images or --keys"
    return option


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


def _is_key(field: "pa.Field[Any]") -> bool:
    return _is_text(field.type) or is_type.is_integer(field.type) or _is_binary(field.type)


def _is_text(kind: pa.DataType) -> bool:
    if is_type.is_dictionary(kind):
        return _is_text(cast("pa.DictionaryType[Any, Any]", kind).value_type)
    return is_type.is_string(kind) or is_type.is_large_string(kind) or is_type.is_string_view(kind)


def _is_label(field: "pa.Field[Any]") -> bool:
    return _is_label_type(field.type)


def _is_label_type(kind: pa.DataType) -> bool:
    if is_type.is_dictionary(kind):
        return _is_label_type(cast("pa.DictionaryType[Any, Any]", kind).value_type)
    number = is_type.is_integer(kind) or is_type.is_floating(kind) or is_type.is_decimal(kind)
    # Truth values are none, but a column of them is no reason to call its rows unlabelled: each says what is wrong.
    return number or is_type.is_boolean(kind) or is_type.is_null(kind) or _is_text(kind) or _is_binary(kind)


def _chosen(
    fields: Fields,
    given: str | None,
    option: str,
    usual: Sequence[str],
    fits: "Callable[[pa.Field[Any]], bool]",
) -> str | None:
    """The column that the option names, or the only usual one that fits; the first of `usual` comes before others."""
    if given is not None:
        if given not in fields:
            raise ShardError(f"{option} {given}: no such column; it has {_listed(fields)}")
        if not fits(fields[given]):
            raise ShardError(
                f"{option} {given}: its type {fields[given].type} cannot be used; it has {_listed(fields)}"
            )
        return given
    if usual[0] in fields and (usual is not _IMAGES or fits(fields[usual[0]])):
        return usual[0]
    found = [name for name, field in fields.items() if name.lower() in usual and fits(field)]
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


def _partitions(name: str) -> dict[str, str | None]:
    """The folders `name=value` in a shard's name, as Hive, Spark and DuckDB name the parts of a table; None for null.

    Folders above the dataset count as little as they do in the identity of a cell.
    """
    pairs = (part.partition("=") for part in PurePosixPath(name).parts[:-1])
    named = {name.lower(): unquote(value) for name, equals, value in pairs if equals}
    return {name: None if value == _NO_PARTITION else value for name, value in named.items()}
