"""The rows of a Parquet file -> samples, by the batch; pages are verified where they carry checksums."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as is_type

from pipelines import storage
from pipelines.data import labels
from pipelines.data.class_names import class_names
from pipelines.data.columns import Columns, choose
from pipelines.data.containers import verify
from pipelines.data.labels import Label
from pipelines.data.suffixes import MAX_IMAGE_BYTES, is_picture
from pipelines.records import Sample, Shard

_BATCH_BYTES = 256 << 20
_MAX_ROWS = 1024
_AS_THEY_ARE = ("key", "__key__", "id", "image_id")
"""Columns of keys that are no paths: what looks like a suffix belongs to the key."""


def parquet_samples(shard: Shard) -> Iterator[Sample]:
    """Every row of the Parquet file `shard` as a sample, in order.

    Raises:
        ShardError: if it differs from its manifest, or its columns cannot be told.
        pyarrow.ArrowException, OSError: if it is damaged.
    """
    with closing(_opened(shard)) as source:
        file = pq.ParquetFile(source, page_checksum_verification=True)
        columns = _with_keys(choose(file.schema_arrow, shard), file)
        row = 0
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(_batch_rows(file, group), [group], columns.read):  # pyright: ignore[reportUnknownMemberType]
                yield from _samples(batch, columns, shard, row)
                row += len(batch)


def _opened(shard: Shard) -> BinaryIO:
    """The file of a shard: read whole, and compared with its manifest, unless a part of it is all that is wanted."""
    if shard.limit is not None and not shard.sha256:
        return storage.open_input(shard.uri)
    data = storage.read(shard.uri)
    if shard.sha256:
        verify(hashlib.sha256(data).hexdigest(), shard)
    return cast(BinaryIO, pa.BufferReader(data))


def classes_of(shard: Shard) -> tuple[str, ...]:
    """The names of the classes that the labels of a Parquet file number among themselves; none if it names none.

    Raises:
        ShardError: if its columns cannot be told.
        pyarrow.ArrowException, OSError: if it is damaged.
    """
    with storage.open_input(shard.uri) as source:
        schema = pq.ParquetFile(source).schema_arrow
    columns = choose(schema, shard)
    return tuple(class_names(schema, columns.label)) if columns.label and columns.relabel is None else ()


def _with_keys(columns: Columns, file: pq.ParquetFile) -> Columns:
    """`columns` without the paths of pictures if two are equal: `datasets` keeps of a path the file's name alone."""
    if not columns.has_path or columns.key is not None:
        return columns
    table = file.read([f"{columns.image}.path"])  # pyright: ignore[reportUnknownMemberType]
    paths = [path and _without_suffix(path) for chunk in table[columns.image].chunks for path in _paths(chunk)]
    return replace(columns, has_path=len({path for path in paths if path}) == sum(map(bool, paths)))


def _batch_rows(file: pq.ParquetFile, group: int) -> int:
    """Rows read at once: as many as would fit if each were as large as their whole group.

    Many rows may share one large value, so that kilobytes of a file can expand to gigabytes.
    """
    size = file.metadata.row_group(group).total_byte_size
    return min(_MAX_ROWS, max(1, _BATCH_BYTES // max(size, 1)))


def _samples(batch: pa.RecordBatch, columns: Columns, shard: Shard, start: int) -> Iterator[Sample]:
    images = _images(batch[columns.image])
    keys = _keys(batch, columns, shard, start)
    for key, image, label in zip(keys, images, _labels(batch, columns), strict=True):
        yield _sample(key, image, label)


def _sample(key: str | None, image: bytes | str, label: Label) -> Sample:
    error = label.error
    if isinstance(image, str):
        error = image
    elif len(image) > MAX_IMAGE_BYTES:
        error = f"too large: {len(image)} bytes is over {MAX_IMAGE_BYTES}"
    if key is None:
        error = "no key: the key column holds null"
    return Sample(key=key or "", image=None if error else cast(bytes, image), label=label.value, error=error)


def _images(column: Any) -> Sequence[bytes | str]:
    """The picture of each row of an Arrow array, or the reason for none."""
    kind = column.type
    if is_type.is_struct(kind):
        rows = zip(_images(column.field("bytes")), _paths(column), column.is_valid().to_pylist(), strict=True)
        return [image if isinstance(image, bytes) else _no_bytes(path, valid) for image, path, valid in rows]
    if is_type.is_list(kind) or is_type.is_large_list(kind) or is_type.is_fixed_size_list(kind):
        return [_joined(value) for value in column]
    return [value if isinstance(value, bytes) else _no_image(value) for value in _plain(column).to_pylist()]


def _joined(value: Any) -> bytes | str:
    """The bytes of one list of numbers."""
    if not value.is_valid:
        return _no_image(None)
    return "no image: a list with nulls" if value.values.null_count else np.asarray(value.values).tobytes()


def _plain(column: Any) -> Any:
    """The array without a dictionary."""
    return column.dictionary_decode() if is_type.is_dictionary(column.type) else column


def _no_bytes(path: str | None, valid: bool) -> str:
    links = f"no image: bytes is null, path is {path!r}; jobs.pack_shards packs pictures that lie elsewhere"
    return links if valid else _no_image(None)


def _no_image(value: object) -> str:
    return f"no image: the image column holds {'null' if value is None else type(value).__name__}"


def _paths(column: Any) -> list[str | None]:
    if column.type.get_field_index("path") < 0:
        return [None] * len(column)
    return [None if path is None else str(path) for path in column.field("path").to_pylist()]


def _keys(batch: pa.RecordBatch, columns: Columns, shard: Shard, start: int) -> list[str | None]:
    """The key of each row; None where its column holds null."""
    if columns.key is not None:
        named = [None if key is None else _text(key) for key in _plain(batch[columns.key]).to_pylist()]
        return named if columns.key.lower() in _AS_THEY_ARE else [key and _without_suffix(key) for key in named]
    file = PurePosixPath(shard.uri).stem
    numbered = [f"{file}#{row}" for row in range(start, start + len(batch))]
    paths = _paths(batch[columns.image]) if columns.has_path else numbered
    return [_without_suffix(path) if path else row for path, row in zip(paths, numbered, strict=True)]


def _text(key: object) -> str:
    """A key as text; some writers store text as bytes."""
    return key.decode(errors="backslashreplace") if isinstance(key, bytes) else str(key)


def _without_suffix(path: str) -> str:
    return path.rpartition(".")[0] if is_picture(path) and path.rpartition(".")[0] else path


def _labels(batch: pa.RecordBatch, columns: Columns) -> Iterator[Label]:
    folder = Label() if columns.partition is None else labels.from_value(columns.partition)
    if columns.label is None:
        return iter([folder] * len(batch))
    found = (_renumbered(labels.from_value(value), columns) for value in _plain(batch[columns.label]).to_pylist())
    return found if columns.partition is None else (_agreed(label, folder, columns) for label in found)


def _agreed(label: Label, folder: Label, columns: Columns) -> Label:
    """The label of a row whose file lies in a folder `label=…`."""
    if label == folder or label.error:
        return label
    return Label(error=f"bad label: {label.value} in a folder {columns.label}={columns.partition}")


def _renumbered(label: Label, columns: Columns) -> Label:
    names = columns.relabel
    if names is None or label.value is None:
        return label
    if not 0 <= label.value < len(names):
        return Label(error=f"bad label: {label.value} is none of the column's {len(names)} classes")
    return Label(names[label.value])
