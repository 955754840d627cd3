"""A list of images in object storage, one URI a row: CSV or Parquet -> slices of as many rows as a shard holds.

Owns what a list must say. A column `uri` is needed; `key` is the URI's path without suffix where there is none, `label`
is optional. Refuses to hold the list: it is read a slice at a time, twice where its rows must be counted. Refuses rows
that name nothing, with their number.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from pipelines import storage

_COLUMNS = ("uri", "key", "label")
_CSV_BLOCK = 8 << 20
"""Bytes that are parsed at once."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Images that are named: URIs, keys, labels (or None), of one length; `start` is the first one's row."""

    start: int
    uris: list[str]
    keys: list[str]
    labels: list[int | None]


def count(uri: str) -> int:
    """How many images the list at `uri` names.

    Raises:
        ValueError: if it cannot be read as one.
    """
    if uri.endswith(".parquet"):
        with storage.open_input(uri) as stream:
            return _parquet(stream, uri).metadata.num_rows
    return sum(len(batch) for batch in _batches(uri))


def slices(uri: str, rows: int, limit: int | None = None) -> Iterator[Listed]:
    """The list at `uri`, `rows` images a slice, fewer in the last; of all the first `limit`.

    Raises:
        ValueError: if it cannot be read as one, naming the row where one is wrong.
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
                yield from file.iter_batches(columns=_wanted(uri, file.schema_arrow.names))
                return
            types = {"uri": pa.string(), "key": pa.string(), "label": pa.int32()}
            reader = pyarrow.csv.open_csv(
                stream,
                pyarrow.csv.ReadOptions(block_size=_CSV_BLOCK),
                convert_options=pyarrow.csv.ConvertOptions(column_types=types),
            )
            wanted = _wanted(uri, reader.schema.names)
            yield from (batch.select(wanted) for batch in reader)
        except pa.ArrowException as error:
            raise ValueError(f"{uri}: {error}") from None


def _parquet(stream: Any, uri: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(stream)
    except pa.ArrowException as error:
        raise ValueError(f"{uri}: {error}") from None


def _wanted(uri: str, there: list[str]) -> list[str]:
    if "uri" not in there:
        raise ValueError(f"{uri}: lacks the column 'uri'; it has {', '.join(there)}")
    return [name for name in _COLUMNS if name in there]


def _listed(uri: str, table: pa.Table, start: int) -> Listed:
    uris = table["uri"].cast(pa.string()).to_pylist()
    keys = table["key"].cast(pa.string()).to_pylist() if "key" in table.column_names else [None] * len(uris)
    labels: list[int | None] = [None] * len(uris)
    if "label" in table.column_names:
        labels = table["label"].cast(pa.int32()).to_pylist()
    for row, (named, label) in enumerate(zip(uris, labels, strict=True), start):
        if not named:
            raise ValueError(f"{uri}: row {row} has no uri")
        if label is not None and label < 0:
            raise ValueError(f"{uri}: row {row} has the label {label}; expected 0 or more")
    return Listed(start, uris, [key or _key(named) for key, named in zip(keys, uris, strict=True)], labels)


def _key(uri: str) -> str:
    path = urlsplit(uri).path if storage.is_remote(uri) else str(storage.local_path(uri))
    folder, _, name = path.strip("/").rpartition("/")
    return f"{folder}/{name.rpartition('.')[0] or name}".lstrip("/")
