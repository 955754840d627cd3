"""A plan: the cells that a job needs, and which of them are not committed yet."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pipelines import storage
from pipelines.cells.cell import column_folder, committed_cells, in_folder
from pipelines.cells.column import Column
from pipelines.records import Dataset


@dataclass(frozen=True, slots=True)
class Plan:
    """The cells that a job needs: those of each column on each shard.

    Attributes:
        dataset: its shards.
        columns: models with their settings.
        missing: for each column, the positions of the shards whose cell is not committed.
    """

    dataset: Dataset
    columns: tuple[Column, ...]
    missing: tuple[tuple[int, ...], ...]

    @property
    def needed(self) -> int:
        """Number of all cells."""
        return len(self.columns) * len(self.dataset.shards)

    @property
    def pending(self) -> int:
        """Number of cells that are not committed."""
        return sum(map(len, self.missing))


def plan_cells(
    store: str, dataset: Dataset, columns: Iterable[Column], watch: Callable[[int], None] | None = None
) -> Plan:
    """The plan of `columns` on `dataset`, by one listing per column; no cell is opened.

    `watch` is called after each column with the number of cells listed so far.
    """
    columns, listed = tuple(columns), 0
    missing: list[tuple[int, ...]] = []
    for column in columns:
        folder = column_folder(store, dataset, column)
        committed = committed_cells(folder)
        missing.append(tuple(i for i, shard in enumerate(dataset.shards) if in_folder(folder, shard) not in committed))
        listed += len(committed)
        if watch:
            watch(listed)
    return Plan(dataset, columns, tuple(missing))


def cell_versions(store: str, dataset: Dataset, column: Column) -> list[str | None]:
    """By shard, the etag of its cell, which changes whenever the cell does; None where none is committed."""
    folder = column_folder(store, dataset, column)
    etags = {entry.uri: entry.etag for entry in storage.list_objects(folder)}
    return [etags.get(in_folder(folder, shard)) for shard in dataset.shards]
