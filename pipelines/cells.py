"""Cells: the predictions of one model on one shard, one Parquet object each, published by one atomic put.

Owns a cell's path (its identity), its bytes, and which cells are committed. Refuses to hand out one whose bytes or row
count are wrong.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.records import PLAIN, Dataset, Decoder, Settings, Shard, View, cell_schema, short_digest
from zoo.cards import Card
from zoo.wanted import Wanted

SCHEMA_VERSION = 4
_ABOUT = "menagerie.cell"
_SEAL = "menagerie.seal"
_SEAL_DIGITS = 64
_BLANK = "@" + "0" * _SEAL_DIGITS
REMEDY = "--retry-failed of the job that made it computes it again"
TOP = 10
"""Classes kept of each row where nothing else is asked for: P of Yalniz et al. 2019, and enough for top-5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """The cells of one model with one plan: everything that a cell's identity has beyond its shard."""

    card: Card
    file: Wanted
    """The weights; their digest is known."""
    settings: Settings = PLAIN
    decoder: Decoder = "exact"
    subset: tuple[int, ...] | None = None
    """The classes that count, where a dataset has but some of the model's (ImageNet-A and -R); None for all."""
    keep: int = TOP
    """Classes kept of each row, of all where there are fewer."""
    others: tuple["Column", ...] = ()
    """Of an ensemble the further members: its probabilities are the mean of all members'."""

    @property
    def members(self) -> tuple["Column", ...]:
        """The models whose probabilities are averaged; this column itself where it is no ensemble."""
        return (replace(self, others=()), *self.others)

    @property
    def model(self) -> str:
        """The model's name, of an ensemble `A+B`."""
        return "+".join(member.card.name for member in self.members)

    @property
    def weights(self) -> str:
        """SHA-256 of the weights in hexadecimal: as much as is published, at least 8 digits, and else all of it.

        A lock in the store knows more digits than the card; the cells must not depend on whether one is there. Of an
        ensemble, the SHA-256 of its members'.
        """
        if self.others:
            return hashlib.sha256(" ".join(member.weights for member in self.members).encode()).hexdigest()
        digest = self.file.sha256
        assert digest, f"{self.file.file} has no digest"
        return str(self.card.weights.sha256) if self.is_as_published and self.card.weights else digest

    @property
    def is_as_published(self) -> bool:
        """Whether the weights are those of which the card's claims are, as far as a published digest can tell."""
        published = self.card.weights.sha256 if self.card.weights else None
        return bool(published and self.file.sha256 and self.file.sha256.startswith(published))

    @property
    def top(self) -> int:
        """Classes kept of each row."""
        return min(self.keep, len(self.subset) if self.subset else self.card.num_classes)

    @property
    def view(self) -> View:
        """The pixels that the model wants."""
        return View(self.decoder, self.card.preprocessing.geometry)

    @property
    def mode(self) -> str:
        """What tables show of how it is run: `fp32 exact`."""
        return f"{self.settings.precision} {self.decoder}"

    @property
    def plan(self) -> dict:
        """The settings that a cell's content depends on beyond its model and shard."""
        others = {"others": [[other.name, other.plan] for other in self.others]} if self.others else {}
        return others | {
            "schema": SCHEMA_VERSION,
            "architecture": self.card.architecture,
            "preprocessing": asdict(self.card.preprocessing),
            "label_order": self.file.label_order,
            "num_classes": self.card.num_classes,
            "subset": self.subset,
            "settings": asdict(self.settings),
            "decoder": self.decoder,
            "top": self.top,
        }

    @property
    def name(self) -> str:
        """`<model>-<weights8>-<plan8>`."""
        return f"{self.model}-{self.weights[:8]}-{short_digest(self.plan)}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The cells that a job needs: `missing[i]` are positions in the dataset of shards that column i lacks."""

    dataset: Dataset
    columns: tuple[Column, ...]
    missing: tuple[tuple[int, ...], ...]

    @property
    def needed(self) -> int:
        """Cells in all."""
        return len(self.columns) * len(self.dataset.shards)

    @property
    def pending(self) -> int:
        """Cells that are not committed."""
        return sum(map(len, self.missing))


def plan(store: str, dataset: Dataset, columns: Iterable[Column], watch: Callable[[int], None] | None = None) -> Plan:
    """What `columns` lack on `dataset`, by one listing a column; nothing is opened.

    `watch` is told after each column how many cells have been listed.
    """
    columns, missing, seen = tuple(columns), [], 0
    for column in columns:
        folder = _folder(store, dataset, column)  # once: a column's name takes longer to make than to look up a cell
        there = _committed(folder)
        missing.append(tuple(i for i, shard in enumerate(dataset.shards) if _in_folder(folder, shard) not in there))
        seen += len(there)
        if watch:
            watch(seen)
    return Plan(dataset, columns, tuple(missing))


def versions(store: str, dataset: Dataset, column: Column) -> list[str | None]:
    """By shard, what changes whenever its cell does (see `storage.StoredObject`); None where none is committed."""
    folder = _folder(store, dataset, column)
    there = {entry.uri: entry.etag for entry in storage.list_objects(folder)}
    return [there.get(_in_folder(folder, shard)) for shard in dataset.shards]


def uri(store: str, dataset: Dataset, column: Column, shard: Shard) -> str:
    """Where the cell of `column` on `shard` lies."""
    return location(store, dataset.name, column.name, shard)


def location(store: str, dataset: str, column: str, shard: Shard) -> str:
    """The same, by the names of dataset and column."""
    return _in_folder(storage.join(store, "cells", dataset, column), shard)


def publish(store: str, dataset: Dataset, column: Column, shard: Shard, rows: pa.Table) -> None:
    """Commit the rows of a complete shard (see `cell_schema`), in one atomic put.

    Raises:
        FileExistsError: if the cell is committed with other bytes.
    """
    storage.put(uri(store, dataset, column, shard), encode(column, shard, rows))


def encode(column: Column, shard: Shard, rows: pa.Table) -> bytes:
    """A cell's bytes: of its rows and its identity alone. No time, host or place of the data enters."""
    table = rows.cast(cell_schema(column.top)).replace_schema_metadata(None)
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
        "schema": SCHEMA_VERSION,
        "shard": {"name": shard.name, "size": shard.size, "etag": shard.etag, "limit": shard.limit},
        "rows": rows,
        "model": column.model,
        "weights": column.weights,
        "plan": column.plan,
    }


def _seal(content: bytes) -> tuple[int, bytes]:
    """Where a cell's seal stands, and what it should be: SHA-256, in hexadecimal, of the cell with a blank one.

    It covers the whole file; Parquet's page checksums leave the footer open to a flipped bit. The last place that is
    named like the seal is the footer's, since data comes before it.
    """
    start = content.find(b"@", content.rfind(_SEAL.encode())) + 1
    blank = content[:start] + b"0" * _SEAL_DIGITS + content[start + _SEAL_DIGITS :]
    return start, hashlib.sha256(blank).hexdigest().encode()


def verify(store: str, dataset: Dataset, column: Column, shard: Shard) -> pa.Table:
    """The cell of `column` on `shard`, held against what it says of itself and what the dataset says of the shard.

    Raises:
        ValueError: naming the cell, if it is damaged, or another than it should be.
    """
    location = uri(store, dataset, column, shard)
    content = _sealed(location)
    rows, said = _rows(content, column.top), _said(content)
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


def load(store: str, dataset: Dataset, column: Column) -> Iterator[tuple[Shard, pa.Table]]:
    """Every committed cell of `column`, in shard order, verified.

    Raises:
        ValueError: naming the cell, if it is damaged.
    """
    folder = _folder(store, dataset, column)
    there = _committed(folder)
    for shard in dataset.shards:
        if _in_folder(folder, shard) in there:
            yield shard, read(_in_folder(folder, shard), column.top)


def read(location: str, top: int, columns: Sequence[str] | None = None) -> pa.Table:
    """The cell at `location`, or these of its columns; its seal is verified before it is parsed.

    Raises:
        ValueError: naming the cell, if a bit of it is not as it was written.
    """
    return _rows(_sealed(location), top, columns)


def about(location: str) -> dict:
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


def _folder(store: str, dataset: Dataset, column: Column) -> str:
    return storage.join(store, "cells", dataset.name, column.name)


def _in_folder(folder: str, shard: Shard) -> str:
    return f"{folder}/{shard.name}-{shard.digest}.parquet"


def _committed(folder: str) -> set[str]:
    return {entry.uri for entry in storage.list_objects(folder)}
