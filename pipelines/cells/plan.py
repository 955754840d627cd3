"""A plan: the cells that a job needs, and those of them that are not committed yet."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pipelines import storage
from pipelines.cells.cell import column_folder, committed_cells, in_folder
from pipelines.cells.column import Column
from pipelines.records import Dataset


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


def plan_cells(
    store: str, dataset: Dataset, columns: Iterable[Column], watch: Callable[[int], None] | None = None
) -> Plan:
    """What `columns` lack on `dataset`, by one listing a column; nothing is opened.

    `watch` is told after each column how many cells have been listed.
    """
    columns, missing, seen = tuple(columns), [], 0
    for column in columns:
        folder = column_folder(
            store, dataset, column
        )  # once: a column's name takes longer to make than to look up a cell
        there = committed_cells(folder)
        missing.append(tuple(i for i, shard in enumerate(dataset.shards) if in_folder(folder, shard) not in there))
        seen += len(there)
        if watch:
            watch(seen)
    return Plan(dataset, columns, tuple(missing))


def cell_versions(store: str, dataset: Dataset, column: Column) -> list[str | None]:
    """By shard, what changes whenever its cell does (see `storage.StoredObject`); None where none is committed."""
    folder = column_folder(store, dataset, column)
    there = {entry.uri: entry.etag for entry in storage.list_objects(folder)}
    return [there.get(in_folder(folder, shard)) for shard in dataset.shards]
