"""A list of images in object storage, one URI per row: text or Parquet -> slices of as many rows as a shard holds.

Text has columns, or a URI a line, as `find` writes it, or a URI and a label (see `text`). Without a column `key`, a key
is the path in the bucket without suffix; labels are optional. The list is never held as a whole: it is read a slice at
a time, once to check every row, and again if its rows have to be counted.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute

from pipelines import storage
from pipelines.packing import columns, labels, list_rows, text
from pipelines.packing.classes import Classes
from pipelines.packing.pack import Target

pc: Any = pyarrow.compute  # its stubs lack plain values beside arrays
MARK = "collected.json"
"""The object that says which list a folder holds."""
_SCHEMA = pa.schema([("uri", pa.string()), ("key", pa.string()), ("label", pa.int32())])


@dataclass(frozen=True, slots=True, kw_only=True)
class UriList:
    """The first `limit` rows (all if None) of the list at `uri`; `classes` are the labels of class names in it.

    Unless `signed`, objects of S3 that it names are read without credentials.
    """

    uri: str
    limit: int | None = None
    classes: Classes | None = None
    signed: bool = True


@dataclass(frozen=True, slots=True)
class Listed:
    """A slice of a list: URIs, keys and labels (or None), of equal length; `start` is the row of the first one."""

    start: int
    uris: list[str]
    keys: list[str]
    labels: list[int | None]


def contents(listed: UriList, target: Target, dedup: bool) -> dict[str, object]:
    """What a folder is reserved for, in which the objects of the list are packed."""
    stored = storage.stat(listed.uri)
    source: dict[str, object] = {
        "list": storage.signed(storage.absolute(listed.uri)),
        "size": stored.size,
        "etag": stored.etag,
        "limit": listed.limit,
        "dedup": dedup,
    }
    source |= {"samples_per_shard": target.samples_per_shard, "format": target.format}
    return source | ({"classes": {**listed.classes.aliases, **listed.classes.labels}} if listed.classes else {})


def check(listed: UriList) -> tuple[int, str]:
    """Read the list to its end, or to its limit.

    Returns:
        The number of rows; one line that says how it was understood.

    Raises:
        ValueError: if it cannot be read, a row has no URI or one of another kind, or a label is none; the message names
            the row.
    """
    rows, reader = 0, labels.LabelReader(listed.classes)
    form = ""
    for batch, understood in _batches(listed, reader):
        rows, form = rows + len(batch), understood
    if not rows:
        raise ValueError(f"{listed.uri}: names no object")
    if listed.classes and reader.kind == labels.CLASS_NAMES:
        listed.classes.require_no_header(reader.lowest == 0, listed.uri)
    labelled = f" ({reader})" if reader.kind or reader.absent else ""
    return rows, f"{form}{labelled}, {rows:,} rows"


def count(listed: UriList) -> int:
    """The number of rows of the list, or its limit if that is less.

    Raises:
        ValueError: if it cannot be read.
    """
    if list_rows.is_parquet(listed.uri):
        with storage.open_input(listed.uri) as stream:
            rows = list_rows.parquet(stream, listed.uri).metadata.num_rows
            return rows if listed.limit is None else min(rows, listed.limit)
    return sum(len(batch) for batch, _ in _batches(listed, labels.LabelReader(listed.classes)))


def slices(listed: UriList, rows: int) -> Iterator[Listed]:
    """The images that the list names, in slices of `rows`; the last may have fewer.

    Raises:
        ValueError: if it cannot be read; the message names the row at fault.
    """
    held, start = pa.Table.from_batches([], _SCHEMA), 0
    for batch, _ in _batches(listed, labels.LabelReader(listed.classes)):
        table = pa.Table.from_batches([batch])
        held = table if not len(held) else pa.concat_tables([held, table])
        while len(held) >= rows:
            yield _listed(held.slice(0, rows), start, listed.signed)
            held, start = held.slice(rows), start + rows
    if len(held):
        yield _listed(held, start, listed.signed)


def _batches(listed: UriList, reader: labels.LabelReader) -> Iterator[tuple[pa.RecordBatch, str]]:
    """The rows in batches of _SCHEMA, each with how the list was understood."""
    start = 0
    with storage.open_input(listed.uri) as stream, _named(listed.uri):
        found, chosen, form = list_rows.batches(stream, listed.uri, listed.classes)
        for batch in found:
            part = batch if listed.limit is None else batch.slice(0, listed.limit - start)
            yield _checked(part, chosen, reader, (listed.uri, start)), form
            start += len(part)
            if start == listed.limit:
                return


@contextmanager
def _named(uri: str) -> Generator[None]:
    """Name the list in an error of pyarrow."""
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise ValueError(f"{uri}: {error}") from None


def _checked(
    batch: pa.RecordBatch, chosen: columns.Chosen, reader: labels.LabelReader, place: tuple[str, int]
) -> pa.RecordBatch:
    """A batch of _SCHEMA; raises ValueError if a row has no URI that can be read, or a label that is none."""
    shown, start = place
    uris = _texts(batch, chosen.name, shown)
    keys = _texts(batch, chosen.key, shown) if chosen.key else pa.nulls(len(batch), pa.string())
    bad = pc.or_(pc.equal(uris, ""), pc.match_substring_regex(uris, r"^[A-Za-z][A-Za-z0-9+.-]*://"))
    bad = pc.and_not(bad, pc.or_(pc.starts_with(uris, "s3://"), pc.starts_with(uris, "file://")))
    if (row := labels.first(bad)) >= 0:
        raise ValueError(f"{shown}: row {start + row} {_uri_fault(uris[row].as_py())}")
    homes: list[int] = pc.indices_nonzero(pc.starts_with(uris, "~")).to_pylist()
    for row in homes:
        _absolute(uris[row].as_py(), f"{shown}: row {start + row}")
    values = pa.nulls(len(batch), pa.int32())
    try:
        if chosen.label:
            texts = _texts(batch, chosen.label, shown)
            is_prediction = columns.plain(chosen.label) == columns.PREDICTIONS
            values = reader.labels(labels.first_synsets(texts) if is_prediction else texts)
    except labels.LabelError as error:
        raise ValueError(f"{shown}: row {start + error.row}: {error}") from None
    return pa.record_batch([uris, keys, values], schema=_SCHEMA)


def _texts(batch: pa.RecordBatch, name: str, shown: str) -> pa.StringArray:
    """A column as text, empty where it is null; columns of numbers are written out."""
    column = cast(Any, batch.column(name))  # pyright: ignore[reportUnknownMemberType]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        return pc.fill_null(column.cast(pa.string()), "")
    except pa.ArrowNotImplementedError:
        raise ValueError(f"{shown}: the column {name} holds {column.type}; expected text or numbers") from None


def _uri_fault(uri: str) -> str:
    if not uri:
        return "has no uri"
    if uri.startswith(("http://", "https://")):
        return f"names an address: {text.web_fault(uri)}"
    return f"has the uri {uri!r} of an unknown scheme; known: s3://, file:// and local paths"


def _listed(table: pa.Table, start: int, signed: bool) -> Listed:
    uris, keys, values = (cast(list[Any], table[name].to_pylist()) for name in _SCHEMA.names)
    keys = [key or _key(named) for key, named in zip(keys, uris, strict=True)]
    found = [_absolute(named, f"row {start + row}") for row, named in enumerate(uris)]
    return Listed(start, found if signed else list(map(storage.anonymous, found)), keys, values)


def _absolute(uri: str, place: str) -> str:
    try:
        return uri if "://" in uri else storage.absolute(uri)
    except RuntimeError:
        raise ValueError(f"{place} has the path {uri!r}, of whose user no home is known; write ./~…") from None


def _key(uri: str) -> str:
    """The path in the bucket, without suffix."""
    scheme, _, path = uri.rpartition("://")
    folder, slash, name = (path.partition("/")[2] if scheme not in {"", "file"} else path.lstrip("/")).rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0] or name}"
