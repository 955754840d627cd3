"""What a store holds: which datasets were evaluated, and which columns of cells there are of each.

Owns STORE/datasets, one note a dataset, written whenever an evaluation plans: so that reports can be made from the
store alone, without the data and without knowing which models were asked for. Refuses to know a column beyond its
cells: each says of itself which model, weights and plan it is of.
"""

import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby

import pyarrow as pa

from pipelines import storage
from pipelines.cells.cell import cell_identity, cell_location, read_cell
from pipelines.cells.column import SCHEMA_VERSION
from pipelines.data.evaluation_sets import EvaluationSet
from pipelines.records import Dataset, Decoder, Settings, Shard, short_digest

_FOLDER = "datasets"
_PLAIN_BYTES = 1 << 20
"""Longer notes are compressed: that of 100,000 shards has 20 MB."""
_SHARD_FIELDS = [field.name for field in fields(Shard)]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredColumn:
    """The cells of one model with one plan on one dataset, as they lie in a store; `name` is that of their folder."""

    store: str
    name: str
    dataset: Dataset
    model: str
    weights: str
    identity: Mapping
    committed: tuple[Shard, ...]
    """The shards of the dataset that have a cell, in order."""

    @property
    def settings(self) -> Settings:
        """How the model was run."""
        return Settings(**self.identity["settings"])

    @property
    def decoder(self) -> Decoder:
        """How its pictures were decoded."""
        return self.identity["decoder"]

    @property
    def mode(self) -> str:
        """What tables show of how it was run: `fp32 exact`."""
        return f"{self.settings.precision} {self.decoder}"

    @property
    def subset(self) -> tuple[int, ...] | None:
        """The classes that count; None for all."""
        return tuple(self.identity["subset"]) if self.identity["subset"] is not None else None

    @property
    def num_classes(self) -> int:
        """Classes of the model."""
        return self.identity["num_classes"]

    @property
    def complete(self) -> bool:
        """Whether every shard of the dataset has a cell."""
        return len(self.committed) == len(self.dataset.shards)

    def load(self) -> Iterator[tuple[Shard, pa.Table]]:
        """Every committed cell in shard order, verified.

        Raises:
            ValueError: naming the cell, if it is damaged.
        """
        for shard in self.committed:
            yield shard, self.read(shard)

    def read(self, shard: Shard) -> pa.Table:
        """The cell of one shard, verified.

        Raises:
            ValueError: naming the cell, if it is damaged.
        """
        return read_cell(cell_location(self.store, self.dataset.name, self.name, shard), self.identity["top"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A dataset of a store as one evaluation set: its name in `pipelines.datasets`, and the columns that have cells.

    A dataset is held once for each choice of classes that count. `unreadable` are reasons by column: a damaged cell, or
    cells of another release.
    """

    dataset: Dataset
    definition: str | None
    columns: tuple[StoredColumn, ...]
    unreadable: Mapping[str, str]


def note(store: str, dataset: Dataset, definition: EvaluationSet | None) -> str | None:
    """Write down that `dataset` is evaluated into `store`; the same dataset again leaves the same bytes.

    A dataset may be a copy of several sets, of which each counts other classes.

    Args:
        store: where its cells are to be.
        dataset: its shards.
        definition: the evaluation set that it is a copy of; None leaves what was said before.

    Returns:
        What the user should know: that it was said to be another set before.
    """
    place = storage.join(store, _FOLDER, f"{dataset.name}-{dataset.digest}.json")
    before = _said_before(place)
    sets = dict(before or {})
    if definition:
        sets[_counted(definition.subset)] = definition.name
    content = json.dumps(_described(dataset, sets), sort_keys=True, separators=(",", ":")).encode() + b"\n"
    if before != sets:
        long = len(content) > _PLAIN_BYTES
        storage.replace(place + ".gz" if long else place, gzip.compress(content, mtime=0) if long else content)
    changed = [f"{was!r}, now {sets[classes]!r}" for classes, was in (before or {}).items() if sets[classes] != was]
    return f"this data was said to be {changed[0]}; cells there are of the latter from now on" if changed else None


def _said_before(place: str) -> dict[str, str] | None:
    """The sets by the classes that count, None where nothing is noted; a damaged note is written anew."""
    for location in (place, place + ".gz"):
        try:
            return _noted(location)[1]
        except (FileNotFoundError, ValueError):
            continue
    return None


def _counted(subset: Sequence[int] | None) -> str:
    return "all" if subset is None else short_digest(list(subset))


def holdings(store: str, watch: Callable[[int], None] | None = None) -> list[Holding]:
    """All datasets of `store` that have cells, by name and digest; one cell of each column is read.

    `watch` is told after each dataset how many cells have been found.

    Raises:
        ValueError: if a note is damaged.
    """
    notes = [_noted(entry.uri) for entry in storage.list_objects(storage.join(store, _FOLDER))]
    found = []
    for name, same in groupby(
        sorted(notes, key=lambda pair: (pair[0].name, pair[0].digest)), lambda pair: pair[0].name
    ):
        found += _holdings(store, name, list(same))
        if watch:
            watch(sum(len(column.committed) for held in found for column in held.columns))
    return [holding for holding in found if holding.columns or holding.unreadable]


def _described(dataset: Dataset, sets: Mapping[str, str]) -> dict:
    shards = {field: [getattr(shard, field) for shard in dataset.shards] for field in _SHARD_FIELDS}
    digests = [shard.digest for shard in dataset.shards]
    return {
        "name": dataset.name,
        "digest": dataset.digest,
        "source": dataset.source,
        "labels": dataset.labels,
        "sets": sets,
        "shards": {"digest": digests, **shards},
    }


def _noted(location: str) -> tuple[Dataset, dict[str, str]]:
    content = storage.read(location)
    try:
        said = json.loads(gzip.decompress(content) if location.endswith(".gz") else content)
        values = zip(*(said["shards"][field] for field in _SHARD_FIELDS), strict=True)
        shards = tuple(Shard(**dict(zip(_SHARD_FIELDS, value, strict=True))) for value in values)
        labels = tuple(said["labels"]) if said["labels"] else None
        dataset = Dataset(name=said["name"], source=said["source"], shards=shards, labels=labels)
        sound = dataset.digest == said["digest"]
        said["sets"].items()
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, OSError) as error:
        raise ValueError(
            f"{location} is no note of a dataset: {error}; remove it, the next evaluation writes it"
        ) from error
    if not sound:
        raise ValueError(f"{location} is not of the shards that it lists; remove it, the next evaluation writes it")
    return dataset, said["sets"]


def _holdings(store: str, name: str, same: list[tuple[Dataset, dict[str, str]]]) -> list[Holding]:
    """Datasets of one name lie in one folder, so that one listing serves them all."""
    folder = storage.join(store, "cells", name)
    listed = (entry.uri for entry in storage.list_objects(folder))
    columns: list[dict[str, StoredColumn]] = [{} for _ in same]
    unreadable: list[dict[str, str]] = [{} for _ in same]
    for column, locations in groupby(listed, lambda uri: uri[len(folder) + 1 :].partition("/")[0]):
        there = set(locations)
        for place, (dataset, _) in enumerate(same):
            at = {shard: cell_location(store, name, column, shard) for shard in dataset.shards}
            committed = tuple(shard for shard in dataset.shards if at[shard] in there)
            if not committed:
                continue
            try:
                columns[place][column] = _column(store, column, dataset, committed)
            except ValueError as error:
                unreadable[place][column] = str(error)
    return [
        held
        for (dataset, sets), has, bad in zip(same, columns, unreadable, strict=True)
        for held in _by_set(dataset, sets, tuple(has.values()), bad)
    ]


def _by_set(
    dataset: Dataset, sets: Mapping[str, str], columns: Sequence[StoredColumn], unreadable: Mapping[str, str]
) -> Iterator[Holding]:
    """What is held of each set that the dataset is a copy of: the columns in which the same classes count."""
    by_classes: dict[str, list[StoredColumn]] = {classes: [] for classes in sets}
    for column in columns:
        by_classes.setdefault(_counted(column.subset), []).append(column)
    if unreadable and not by_classes:
        by_classes["all"] = []
    for classes, some in by_classes.items():
        bad, unreadable = unreadable, {}  # said once
        yield Holding(dataset=dataset, definition=sets.get(classes), columns=tuple(some), unreadable=bad)


def _column(store: str, name: str, dataset: Dataset, committed: tuple[Shard, ...]) -> StoredColumn:
    location = cell_location(store, dataset.name, name, committed[0])
    about = cell_identity(location)
    if about["schema"] != SCHEMA_VERSION:
        raise ValueError(f"{location} has schema {about['schema']}, not {SCHEMA_VERSION}: evaluate again")
    return StoredColumn(
        store=store,
        name=name,
        dataset=dataset,
        model=about["model"],
        weights=about["weights"],
        identity=about["plan"],
        committed=committed,
    )
