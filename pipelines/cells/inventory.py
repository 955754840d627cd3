"""What a store holds: the datasets that were evaluated, and the columns of cells of each.

Every evaluation writes a note of its dataset to STORE/datasets, so that reports can be made from the store alone,
without the data and without knowing which models were asked for. Columns need no note: each cell holds the identity of
its column.
"""

import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby

import pyarrow as pa

from pipelines import storage
from pipelines.cells.cell import cell_identity, cell_location, read_cell
from pipelines.cells.column import SCHEMA_VERSION, ColumnIdentity
from pipelines.data.evaluation_sets import EvaluationSet
from pipelines.records import Dataset, Decoder, Settings, Shard, mode_name, short_digest
from pipelines.storage.layout import Folder

_PLAIN_BYTES = 1 << 20
"""Longer notes are compressed; the note of 100,000 shards has 20 MB."""
_SHARD_FIELDS = [field.name for field in fields(Shard)]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredColumn:
    """The cells of one column on one dataset, as they lie in a store.

    Attributes:
        store: where they are.
        name: of the column, which is the name of its folder.
        dataset: its shards.
        model: name of the model or ensemble.
        weights: SHA-256 of the weights, see `Column.weights`.
        identity: as in `Column.identity`, read from a cell.
        committed: the shards of the dataset that have a cell, in order.
    """

    store: str
    name: str
    dataset: Dataset
    model: str
    weights: str
    identity: ColumnIdentity
    committed: tuple[Shard, ...]

    @property
    def settings(self) -> Settings:
        """How the model was run."""
        return Settings(**self.identity["settings"])

    @property
    def decoder(self) -> Decoder:
        """How its images were decoded."""
        return self.identity["decoder"]

    @property
    def mode(self) -> str:
        """How the model was run, as tables show it: `fp32 exact`."""
        return mode_name(self.settings, self.decoder)

    @property
    def subset(self) -> tuple[int, ...] | None:
        """The classes that count; None for all."""
        return tuple(self.identity["subset"]) if self.identity["subset"] is not None else None

    @property
    def num_classes(self) -> int:
        """Number of classes of the model."""
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
    """A dataset of a store as one evaluation set; there is one holding for each choice of classes that count.

    Attributes:
        dataset: its shards.
        definition: name of the evaluation set, see `data.evaluation_sets`; None where it was not given.
        columns: those that have cells.
        unreadable: reasons by column: a damaged cell, or cells of another release.
    """

    dataset: Dataset
    definition: str | None
    columns: tuple[StoredColumn, ...]
    unreadable: Mapping[str, str]


def note(store: str, dataset: Dataset, definition: EvaluationSet | None) -> str | None:
    """Record that `dataset` is evaluated into `store`; the same dataset again leaves the same bytes.

    A dataset may be a copy of several evaluation sets that differ in which classes count.

    Args:
        store: where its cells will be.
        dataset: its shards.
        definition: the evaluation set that it is a copy of; None leaves what was recorded before.

    Returns:
        A warning if the dataset was recorded as another evaluation set before, else None.
    """
    uri = storage.join(store, Folder.DATASETS, f"{dataset.name}-{dataset.digest}.json")
    before = _recorded_sets(uri)
    sets = dict(before or {})
    if definition:
        sets[_classes_key(definition.subset)] = definition.name
    content = json.dumps(_note_content(dataset, sets), sort_keys=True, separators=(",", ":")).encode() + b"\n"
    if before != sets:
        long = len(content) > _PLAIN_BYTES
        storage.replace(uri + ".gz" if long else uri, gzip.compress(content, mtime=0) if long else content)
    changed = [(was, sets[classes]) for classes, was in (before or {}).items() if sets[classes] != was]
    if not changed:
        return None
    was, now = changed[0]
    return f"this dataset was recorded as {was!r}; from now on it is evaluated as {now!r}"


def _recorded_sets(uri: str) -> dict[str, str] | None:
    """Evaluation sets by `_classes_key`; None where there is no note, or a damaged one, which is then replaced."""
    for location in (uri, uri + ".gz"):
        try:
            return _read_note(location)[1]
        except (FileNotFoundError, ValueError):
            continue
    return None


def _classes_key(subset: Sequence[int] | None) -> str:
    """The key that stands for the classes that count in the notes of a store."""
    return "all" if subset is None else short_digest(list(subset))


def holdings(store: str, watch: Callable[[int], None] | None = None) -> list[Holding]:
    """All datasets of `store` that have cells, by name and digest; one cell of each column is read.

    `watch` is called after each dataset with the number of cells found so far.

    Raises:
        ValueError: if a note is damaged.
    """
    notes = [_read_note(entry.uri) for entry in storage.list_objects(storage.join(store, Folder.DATASETS))]
    found: list[Holding] = []
    for name, same in groupby(
        sorted(notes, key=lambda pair: (pair[0].name, pair[0].digest)), lambda pair: pair[0].name
    ):
        found += _holdings(store, name, list(same))
        if watch:
            watch(sum(len(column.committed) for held in found for column in held.columns))
    return [holding for holding in found if holding.columns or holding.unreadable]


def _note_content(dataset: Dataset, sets: Mapping[str, str]) -> dict[str, object]:
    shards = {field: [getattr(shard, field) for shard in dataset.shards] for field in _SHARD_FIELDS}
    if not any(shards["reading"]):
        del shards["reading"]  # a note that an earlier release wrote is found equal
    digests = [shard.digest for shard in dataset.shards]
    return {
        "name": dataset.name,
        "digest": dataset.digest,
        "source": dataset.source,
        "labels": dataset.labels,
        "sets": sets,
        "shards": {"digest": digests, **shards},
    }


def _read_note(location: str) -> tuple[Dataset, dict[str, str]]:
    """The dataset of a note, and its evaluation sets by `_classes_key`."""
    content = storage.read(location)
    try:
        stored = json.loads(gzip.decompress(content) if location.endswith(".gz") else content)
        given = [field for field in _SHARD_FIELDS if field != "reading" or field in stored["shards"]]
        values = zip(*(stored["shards"][field] for field in given), strict=True)
        shards = tuple(Shard(**dict(zip(given, value, strict=True))) for value in values)
        labels = tuple(stored["labels"]) if stored["labels"] else None
        dataset = Dataset(name=stored["name"], source=stored["source"], shards=shards, labels=labels)
        sound = dataset.digest == stored["digest"]
        stored["sets"].items()
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, OSError) as error:
        raise ValueError(
            f"{location} is not a note of a dataset: {error}; remove it, the next evaluation rewrites it"
        ) from error
    if not sound:
        raise ValueError(
            f"{location}: its digest is not that of its shards; remove it, the next evaluation rewrites it"
        )
    return dataset, stored["sets"]


def _holdings(store: str, name: str, same: list[tuple[Dataset, dict[str, str]]]) -> list[Holding]:
    """The holdings of all datasets of one name. Their cells lie in one folder, which is listed once."""
    folder = storage.join(store, Folder.CELLS, name)
    listed = (entry.uri for entry in storage.list_objects(folder))
    columns: list[dict[str, StoredColumn]] = [{} for _ in same]
    unreadable: list[dict[str, str]] = [{} for _ in same]
    for column, locations in groupby(listed, lambda uri: uri[len(folder) + 1 :].partition("/")[0]):
        present = set(locations)
        for place, (dataset, _) in enumerate(same):
            uris = {shard: cell_location(store, name, column, shard) for shard in dataset.shards}
            committed = tuple(shard for shard in dataset.shards if uris[shard] in present)
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
    """One holding for each evaluation set: the columns in which the classes of the set count."""
    by_classes: dict[str, list[StoredColumn]] = {classes: [] for classes in sets}
    for column in columns:
        by_classes.setdefault(_classes_key(column.subset), []).append(column)
    if unreadable and not by_classes:
        by_classes["all"] = []
    for classes, counted in by_classes.items():
        reported, unreadable = unreadable, dict[str, str]()  # by the first holding alone
        yield Holding(dataset=dataset, definition=sets.get(classes), columns=tuple(counted), unreadable=reported)


def _column(store: str, name: str, dataset: Dataset, committed: tuple[Shard, ...]) -> StoredColumn:
    location = cell_location(store, dataset.name, name, committed[0])
    stored = cell_identity(location)
    if stored["schema"] != SCHEMA_VERSION:
        raise ValueError(f"{location} has schema {stored['schema']}, not {SCHEMA_VERSION}: evaluate again")
    return StoredColumn(
        store=store,
        name=name,
        dataset=dataset,
        model=stored["model"],
        weights=stored["weights"],
        identity=stored["plan"],
        committed=committed,
    )
