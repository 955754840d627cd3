"""A cell: the predictions of one model on one shard, one Parquet object, published by one atomic put.

Owns a cell's path, its bytes and its seal. A cell whose bytes or row count are wrong is never handed out.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.cells.column import Column
from pipelines.records import Dataset, Shard, cell_schema

_ABOUT = "menagerie.cell"


_SEAL = "menagerie.seal"


_SEAL_DIGITS = 64


_BLANK = "@" + "0" * _SEAL_DIGITS


REMEDY = "--retry-failed of the job that made it computes it again"


def cell_uri(store: str, dataset: Dataset, column: Column, shard: Shard) -> str:
    """Where the cell of `column` on `shard` lies."""
    return cell_location(store, dataset.name, column.name, shard)


def cell_location(store: str, dataset: str, column: str, shard: Shard) -> str:
    """The same, by the names of dataset and column."""
    return in_folder(storage.join(store, "cells", dataset, column), shard)


def publish_cell(store: str, dataset: Dataset, column: Column, shard: Shard, rows: pa.Table) -> None:
    """Commit the rows of a complete shard (see `cell_schema`), in one atomic put.

    Raises:
        FileExistsError: if the cell is committed with other bytes.
    """
    storage.put(cell_uri(store, dataset, column, shard), encode_cell(column, shard, rows))


def encode_cell(column: Column, shard: Shard, rows: pa.Table) -> bytes:
    """A cell's bytes: of its rows and its identity alone. No time, host or place of the data enters."""
    table = rows.cast(cell_schema(column.classes_kept)).replace_schema_metadata(None)
    sink = pa.BufferOutputStream()
    # Without the stored Arrow schema: with it, pyarrow cannot read back a fixed-size list that is null. Without
    # statistics: they would hold keys as they are, and a key can look like anything, a seal included.
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        write_page_checksum=True,
        write_statistics=False,
        store_schema=False,
    ) as out:
        out.write_table(table)
        out.add_key_value_metadata(
            {_ABOUT: json.dumps(_about(column, shard, rows.num_rows), sort_keys=True), _SEAL: _BLANK}
        )
    content = sink.getvalue().to_pybytes()
    start, seal = _seal(content)
    return content[:start] + seal + content[start + _SEAL_DIGITS :]


def _about(column: Column, shard: Shard, rows: int) -> dict:
    return {
        "schema": column.identity["schema"],
        "shard": {"name": shard.name, "size": shard.size, "etag": shard.etag, "limit": shard.limit},
        "rows": rows,
        "model": column.model,
        "weights": column.weights,
        "plan": column.identity,
    }


def _seal(content: bytes) -> tuple[int, bytes]:
    """Where a cell's seal stands, and what it should be: SHA-256, in hexadecimal, of the cell with a blank one.

    It covers the whole file; Parquet's page checksums leave the footer open to a flipped bit. The last place that is
    named like the seal is the footer's, since data comes before it.
    """
    start = content.find(b"@", content.rfind(_SEAL.encode())) + 1
    blank = content[:start] + b"0" * _SEAL_DIGITS + content[start + _SEAL_DIGITS :]
    return start, hashlib.sha256(blank).hexdigest().encode()


def verify_cell(store: str, dataset: Dataset, column: Column, shard: Shard) -> pa.Table:
    """The cell of `column` on `shard`, held against what it says of itself and what the dataset says of the shard.

    Raises:
        ValueError: naming the cell, if it is damaged, or another than it should be.
    """
    location = cell_uri(store, dataset, column, shard)
    content = _sealed(location)
    rows, said = _rows(content, column.classes_kept), _said(content)
    expected = _about(column, shard, shard.limit or shard.rows or rows.num_rows)
    # Compared as JSON: the plan's tuples are lists there.
    wrong = [name for name, value in json.loads(json.dumps(expected)).items() if said.get(name) != value]
    if wrong or not np.array_equal(rows["index"], np.arange(expected["rows"])):
        told = "; ".join(_told(name, said.get(name), expected[name]) for name in wrong)
        raise ValueError(f"{location} is not what it should be: {told or 'its rows are not in order'}")
    return rows


def _told(name: str, found: Any, expected: Any) -> str:
    if name == "shard" and isinstance(found, dict) and found.get("name") != expected["name"]:
        return f"it is of shard {found.get('name')}, not {expected['name']}"
    return f"{name} {found}, expected {expected}"


def load_cells(store: str, dataset: Dataset, column: Column) -> Iterator[tuple[Shard, pa.Table]]:
    """Every committed cell of `column`, in shard order, verified.

    Raises:
        ValueError: naming the cell, if it is damaged.
    """
    folder = column_folder(store, dataset, column)
    there = committed_cells(folder)
    for shard in dataset.shards:
        if in_folder(folder, shard) in there:
            yield shard, read_cell(in_folder(folder, shard), column.classes_kept)


def read_cell(location: str, top: int, columns: Sequence[str] | None = None) -> pa.Table:
    """The cell at `location`, or these of its columns; its seal is verified before it is parsed.

    Raises:
        ValueError: naming the cell, if a bit of it is not as it was written.
    """
    return _rows(_sealed(location), top, columns)


def cell_identity(location: str) -> dict:
    """What the cell at `location` says of itself: schema, shard, rows, model, weights, plan.

    Raises:
        ValueError: naming the cell, if a bit of it is not as it was written.
    """
    return _said(_sealed(location))


def _rows(content: bytes, top: int, columns: Sequence[str] | None = None) -> pa.Table:
    schema = cell_schema(top)
    wanted = [schema.field(name) for name in columns or schema.names]
    table = pq.read_table(pa.BufferReader(content), columns=columns and list(columns))
    return table.cast(pa.schema(wanted))


def _said(content: bytes) -> dict:
    return json.loads(pq.read_metadata(pa.BufferReader(content)).metadata[_ABOUT.encode()])


def _sealed(location: str) -> bytes:
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
    """Where the cells of `column` on `dataset` lie; once for many cells, since a column's name takes long to make."""
    return storage.join(store, "cells", dataset.name, column.name)


def in_folder(folder: str, shard: Shard) -> str:
    """Where the cell on `shard` lies below its column's folder."""
    return f"{folder}/{shard.name}-{shard.digest}.parquet"


def committed_cells(folder: str) -> set[str]:
    """The URIs of the cells in a column's folder."""
    return {entry.uri for entry in storage.list_objects(folder)}
