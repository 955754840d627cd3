"""A list of images in object storage, one URI a row: CSV or Parquet -> slices of as many rows as a shard holds.

Owns what a list must say. A column `uri` is needed; `key` is the path in the bucket without suffix where there is none,
`label` is optional. Refuses to hold the list: it is read a slice at a time, twice where its rows must be counted.
Refuses rows that name nothing, with their number.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from pipelines import storage

_TYPES = {"uri": pa.string(), "key": pa.string(), "label": pa.int32()}
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
                wanted = _wanted(uri, file.schema_arrow.names)
                found = (batch.select(wanted) for batch in file.iter_batches(columns=wanted))
            else:
                found = _csv(stream, uri)
            for batch in found:
                yield batch.cast(pa.schema([(name, _TYPES[name]) for name in batch.schema.names]))
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise ValueError(f"{uri}: {error}") from None


def _csv(stream: Any, uri: str) -> Iterator[pa.RecordBatch]:
    start = stream.read(_CSV_BLOCK)
    if not start:
        raise ValueError(f"{uri}: is empty; expected CSV or Parquet with a column 'uri'")
    header = next(csv.reader(start.decode("utf-8-sig", "ignore").splitlines()[:1]))
    stream.seek(0)
    # Other columns are not looked at: what is in them could fail the list.
    options = pyarrow.csv.ConvertOptions(column_types=_TYPES, include_columns=_wanted(uri, header))
    return iter(pyarrow.csv.open_csv(stream, pyarrow.csv.ReadOptions(block_size=_CSV_BLOCK), convert_options=options))


def _parquet(stream: Any, uri: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(stream)
    except pa.ArrowException as error:
        raise ValueError(f"{uri}: {error}") from None


def _wanted(uri: str, there: list[str]) -> list[str]:
    if "uri" not in there:
        raise ValueError(f"{uri}: lacks the column 'uri'; it has {', '.join(there)}")
    return [name for name in _TYPES if name in there]


def _listed(uri: str, table: pa.Table, start: int) -> Listed:
    uris = table["uri"].to_pylist()
    nothing: list[Any] = [None] * len(uris)
    keys, labels = (table[n].to_pylist() if n in table.column_names else nothing for n in ("key", "label"))
    for row, (named, label) in enumerate(zip(uris, labels, strict=True), start):
        if not named:
            raise ValueError(f"{uri}: row {row} has no uri")
        if label is not None and label < 0:
            raise ValueError(f"{uri}: row {row} has the label {label}; expected 0 or more")
    keys = [key or _key(named) for key, named in zip(keys, uris, strict=True)]
    return Listed(start, [named if "://" in named else storage.absolute(named) for named in uris], keys, labels)


def _key(uri: str) -> str:
    """Its path in the bucket, without suffix."""
    scheme, _, path = uri.rpartition("://")
    folder, slash, name = (path.partition("/")[2] if scheme not in {"", "file"} else path.lstrip("/")).rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0] or name}"
