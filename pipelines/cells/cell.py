"""A cell: the predictions of one model on one shard, one Parquet object, published by one atomic put.

A cell's path, its bytes and its seal are defined here. A cell whose bytes are wrong is never returned; `verify_cell`
also checks its identity and its number of rows.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NotRequired, TypedDict, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.cells.column import Column, ColumnIdentity
from pipelines.records import Dataset, Shard, cell_schema
from pipelines.storage.layout import Folder

_IDENTITY_KEY = "menagerie.cell"
_SEAL_KEY = "menagerie.seal"
_PASSED_KEY = "menagerie.passed"
"""Members of the shard that belong to no sample; not part of a cell's identity, and absent where there are none."""
_SEAL_DIGITS = 64
_BLANK_SEAL = "@" + "0" * _SEAL_DIGITS
REMEDY = "--retry-failed of the job that made it computes it again"
"""What the message about a damaged cell ends with."""


class ShardIdentity(TypedDict):
    """Of which shard a cell is."""

    name: str
    size: int
    etag: str
    limit: int | None
    reading: NotRequired[str]


class CellIdentity(TypedDict):
    """What a cell stores about itself, as JSON."""

    schema: int
    shard: ShardIdentity
    rows: int
    model: str
    weights: str
    plan: ColumnIdentity


def cell_uri(store: str, dataset: Dataset, column: Column, shard: Shard) -> str:
    """The URI of the cell of `column` on `shard`."""
    return cell_location(store, dataset.name, column.name, shard)


def cell_location(store: str, dataset: str, column: str, shard: Shard) -> str:
    """The URI of a cell, by the names of its dataset and column."""
    return in_folder(storage.join(store, Folder.CELLS, dataset, column), shard)


def publish_cell(
    store: str, dataset: Dataset, column: Column, shard: Shard, rows: pa.Table, passed: str | None = None
) -> None:
    """Commit the rows of a complete shard (see `cell_schema`), in one atomic put.

    Args:
        store: where the cell goes.
        dataset: of the shard.
        column: of the cell.
        shard: of the cell.
        rows: of all samples, in order.
        passed: members of the shard that belong to no sample, counted by kind, as JSON; None for none.

    Raises:
        FileExistsError: if the cell is committed with other bytes.
    """
    storage.put(cell_uri(store, dataset, column, shard), encode_cell(column, shard, rows, passed))


def encode_cell(column: Column, shard: Shard, rows: pa.Table, passed: str | None = None) -> bytes:
    """A cell's bytes. They depend on its rows and its identity alone, on no time, host or location of the data."""
    table = rows.cast(cell_schema(column.classes_kept)).replace_schema_metadata(None)
    sink = pa.BufferOutputStream()
    # No Arrow schema is stored: with one, pyarrow cannot read back a fixed-size list that is null. No statistics: they
    # would hold keys as they are, and a key can look like anything, a seal included.
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        write_page_checksum=True,
        write_statistics=False,
        store_schema=False,
    ) as out:
        out.write_table(table)
        identity = json.dumps(_cell_identity(column, shard, rows.num_rows), sort_keys=True)
        counted = {_PASSED_KEY: passed} if passed else {}
        out.add_key_value_metadata({_IDENTITY_KEY: identity, **counted, _SEAL_KEY: _BLANK_SEAL})
    content = sink.getvalue().to_pybytes()
    start, seal = _seal(content)
    return content[:start] + seal + content[start + _SEAL_DIGITS :]


def _shard_identity(shard: Shard) -> ShardIdentity:
    identity: ShardIdentity = {"name": shard.name, "size": shard.size, "etag": shard.etag, "limit": shard.limit}
    if shard.reading:
        identity["reading"] = shard.reading
    return identity


def _cell_identity(column: Column, shard: Shard, rows: int) -> CellIdentity:
    return {
        "schema": column.identity["schema"],
        "shard": _shard_identity(shard),
        "rows": rows,
        "model": column.model,
        "weights": column.weights,
        "plan": column.identity,
    }


def _seal(content: bytes) -> tuple[int, bytes]:
    """Offset of a cell's seal, and what it should be: SHA-256, in hexadecimal, of the cell with a blank seal.

    The seal covers the whole file; Parquet's page checksums do not cover the footer. The last occurrence of the seal's
    key is the one in the footer, since data comes before it.
    """
    start = content.find(b"@", content.rfind(_SEAL_KEY.encode())) + 1
    blank = content[:start] + b"0" * _SEAL_DIGITS + content[start + _SEAL_DIGITS :]
    return start, hashlib.sha256(blank).hexdigest().encode()


def verify_cell(store: str, dataset: Dataset, column: Column, shard: Shard) -> pa.Table:
    """The cell of `column` on `shard`, compared with the identity stored in it and with the dataset's shard.

    Raises:
        ValueError: naming the cell, if it is damaged or not the expected one.
    """
    location = cell_uri(store, dataset, column, shard)
    content = _read_sealed(location)
    rows = _parse_rows(content, column.classes_kept)
    stored = cast(Mapping[str, Any], _stored_identity(content))
    count = shard.limit or shard.rows or rows.num_rows
    expected = cast(Mapping[str, Any], _cell_identity(column, shard, count))
    # Compared as JSON, in which tuples are lists.
    wrong = [name for name, value in json.loads(json.dumps(expected)).items() if stored.get(name) != value]
    if wrong or not np.array_equal(rows["index"], np.arange(count)):
        differences = "; ".join(_difference(name, stored.get(name), expected[name]) for name in wrong)
        raise ValueError(f"{location} is not what it should be: {differences or 'its rows are not in order'}")
    return rows


def _difference(name: str, found: Any, expected: Any) -> str:
    other = cast(dict[str, object], found) if isinstance(found, dict) else None
    if name == "shard" and other is not None and other.get("name") != expected["name"]:
        return f"it is of shard {other.get('name')}, not {expected['name']}"
    return f"{name} {found}, expected {expected}"


def load_cells(store: str, dataset: Dataset, column: Column) -> Iterator[tuple[Shard, pa.Table]]:
    """Every committed cell of `column`, in shard order, verified.

    Raises:
        ValueError: naming the cell, if it is damaged.
    """
    folder = column_folder(store, dataset, column)
    committed = committed_cells(folder)
    for shard in dataset.shards:
        if in_folder(folder, shard) in committed:
            yield shard, read_cell(in_folder(folder, shard), column.classes_kept)


def read_cell(location: str, classes_kept: int, columns: Sequence[str] | None = None) -> pa.Table:
    """The cell at `location`; its seal is verified before it is parsed.

    Args:
        location: the URI of the cell.
        classes_kept: how many classes a row of it has.
        columns: which of its columns to read; None for all.

    Raises:
        ValueError: naming the cell, if a bit of it is not as it was written.
    """
    return _parse_rows(_read_sealed(location), classes_kept, columns)


def cell_identity(location: str) -> CellIdentity:
    """The identity that the cell at `location` stores: schema, shard, rows, model, weights, plan.

    Raises:
        ValueError: naming the cell, if a bit of it is not as it was written.
    """
    return _stored_identity(_read_sealed(location))


def _parse_rows(content: bytes, classes_kept: int, columns: Sequence[str] | None = None) -> pa.Table:
    schema = cell_schema(classes_kept)
    wanted = [cast("pa.Field[Any]", schema.field(name)) for name in columns or schema.names]  # pyright: ignore[reportUnknownMemberType]
    some = None if columns is None else list(columns)
    table = pq.read_table(pa.BufferReader(content), columns=some)  # pyright: ignore[reportUnknownMemberType]
    stored = table.schema.metadata or {}
    kept = {key: stored[key] for key in (_PASSED_KEY.encode(),) if key in stored}
    return table.cast(pa.schema(wanted)).replace_schema_metadata(kept or None)


def passed_over(rows: pa.Table) -> dict[str, int]:
    """The members of a cell's shard that belong to no sample, counted by kind; `rows` are those of a read cell."""
    return json.loads((rows.schema.metadata or {}).get(_PASSED_KEY.encode(), b"{}"))


def _stored_identity(content: bytes) -> CellIdentity:
    footer = pq.read_metadata(pa.BufferReader(content))  # pyright: ignore[reportUnknownMemberType]
    return json.loads(cast(dict[bytes, bytes], footer.metadata)[_IDENTITY_KEY.encode()])


def _read_sealed(location: str) -> bytes:
    try:
        content = storage.read(location)
        start, seal = _seal(content)
        if content[start : start + _SEAL_DIGITS] == seal:
            return content
        reason = "its SHA-256 is not its seal"
    except storage.DamagedError:
        reason = "its bytes do not match the store's checksum"
    raise ValueError(f"{location} is damaged: {reason}; {REMEDY}")


def column_folder(store: str, dataset: Dataset, column: Column) -> str:
    """The folder of the cells of `column` on `dataset`. Call it once for many cells: it computes several digests."""
    return storage.join(store, Folder.CELLS, dataset.name, column.name)


def in_folder(folder: str, shard: Shard) -> str:
    """The URI of the cell on `shard` in its column's folder."""
    return f"{folder}/{file_name(shard)}"


def file_name(shard: Shard) -> str:
    """The path of a cell below its column's folder."""
    return f"{shard.name}-{shard.digest}.parquet"


def committed_cells(folder: str) -> set[str]:
    """The URIs of the cells in a column's folder."""
    return {entry.uri for entry in storage.list_objects(folder)}
