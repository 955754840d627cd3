"""A list of images in object storage, one URI per row: CSV or Parquet -> slices of as many rows as a shard holds.

The column `uri` is required. Without a column `key`, a key is the path in the bucket without suffix; `label` is
optional. The list is never held as a whole: it is read a slice at a time, and twice if its rows have to be counted.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from pipelines import storage

_TYPES = {"uri": pa.string(), "key": pa.string(), "label": pa.int32()}
_CSV_BLOCK = 8 << 20
"""Bytes that are parsed at a time."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A slice of a list: URIs, keys and labels (or None), of equal length; `start` is the row of the first one."""

    start: int
    uris: list[str]
    keys: list[str]
    labels: list[int | None]


def count(uri: str) -> int:
    """The number of images that the list at `uri` names.

    Raises:
        ValueError: if it cannot be read.
    """
    if uri.endswith(".parquet"):
        with storage.open_input(uri) as stream:
            return _parquet(stream, uri).metadata.num_rows
    return sum(len(batch) for batch in _batches(uri))


def slices(uri: str, rows: int, limit: int | None = None) -> Iterator[Listed]:
    """The first `limit` images (all if None) of the list at `uri`, in slices of `rows`; the last may have fewer.

    Raises:
        ValueError: if it cannot be read; the message names the row at fault.
    """
    held, start = pa.table({"uri": pa.array([], pa.string())}), 0
    left = limit
    for batch in _batches(uri):
        table = pa.Table.from_batches([batch]).slice(0, left)
        left = None if left is None else left - len(table)
        held = table if not len(held) else pa.concat_tables([held, table])
        while len(held) >= rows:
            yield _listed(uri, held.slice(0, rows), start)
            held, start = held.slice(rows), start + rows
        if left == 0:
            break
    if len(held):
        yield _listed(uri, held, start)


def _batches(uri: str) -> Iterator[pa.RecordBatch]:
    with storage.open_input(uri) as stream:
        try:
            if uri.endswith(".parquet"):
                file = _parquet(stream, uri)
                wanted = _wanted(uri, file.schema_arrow.names)
                found = (batch.select(wanted) for batch in file.iter_batches(columns=wanted))  # pyright: ignore[reportUnknownMemberType]
            else:
                found = _csv(stream, uri)
            for batch in found:
                yield batch.cast(pa.schema([(name, _TYPES[name]) for name in batch.schema.names]))
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise ValueError(f"{uri}: {error}") from None


def _csv(stream: BinaryIO, uri: str) -> Iterator[pa.RecordBatch]:
    start = stream.read(_CSV_BLOCK)
    if not start:
        raise ValueError(f"{uri}: empty; expected CSV or Parquet with a column 'uri'")
    header = next(csv.reader(start.decode("utf-8-sig", "ignore").splitlines()[:1]))
    stream.seek(0)
    # Other columns are not parsed: their content could make the list fail.
    options = pyarrow.csv.ConvertOptions(column_types=_TYPES, include_columns=_wanted(uri, header))
    return iter(pyarrow.csv.open_csv(stream, pyarrow.csv.ReadOptions(block_size=_CSV_BLOCK), convert_options=options))


def _parquet(stream: BinaryIO, uri: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(stream)
    except pa.ArrowException as error:
        raise ValueError(f"{uri}: {error}") from None


def _wanted(uri: str, there: list[str]) -> list[str]:
    if "uri" not in there:
        raise ValueError(f"{uri}: lacks the column 'uri'; it has {', '.join(there)}")
    return [name for name in _TYPES if name in there]


def _listed(uri: str, table: pa.Table, start: int) -> Listed:
    uris, keys, labels = (_column(table, name) for name in ("uri", "key", "label"))
    for row, (named, label) in enumerate(zip(uris, labels, strict=True), start):
        if not named:
            raise ValueError(f"{uri}: row {row} has no uri")
        if label is not None and label < 0:
            raise ValueError(f"{uri}: row {row} has the label {label}; expected 0 or more")
    keys = [key or _key(named) for key, named in zip(keys, uris, strict=True)]
    return Listed(start, [named if "://" in named else storage.absolute(named) for named in uris], keys, labels)


def _column(table: pa.Table, name: str) -> list[Any]:
    return table[name].to_pylist() if name in table.column_names else [None] * len(table)


def _key(uri: str) -> str:
    """The path in the bucket, without suffix."""
    scheme, _, path = uri.rpartition("://")
    folder, slash, name = (path.partition("/")[2] if scheme not in {"", "file"} else path.lstrip("/")).rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0] or name}"
