"""Rows of scores, in whatever order they arrive -> whole cells.

A cell is complete once every row from 0 to its last has arrived. Failures of shards and models are collected here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipelines.records import SCORES, cell_schema
from pipelines.walk.failures import EMPTY, Failure

_CELL_COLUMNS = cell_schema(1).names
_NO_ROWS = SCORES.empty_table().select(_CELL_COLUMNS)


class CellKey(NamedTuple):
    """A cell of a pass: position of its model in the pass, position of its shard in the dataset."""

    slot: int
    shard: int


class CompleteCell(NamedTuple):
    """A cell of which all rows are there, in order, with the columns of `cell_schema`.

    `passed` counts the members of its shard that belong to no sample, by kind, as JSON; None for none.
    """

    slot: int
    shard: int
    rows: pa.Table
    passed: str | None = None


@dataclass(slots=True)
class Gather:
    """The cells of one pass in the making, and the failures met on the way, with their reasons.

    Each SCORES table that arrives is split by cell; shards are known by position in the dataset, models by slot.
    """

    failed_shards: dict[int, str] = field(default_factory=dict[int, str])
    """Shards that cannot be read to their end."""
    absent_shards: dict[int, str] = field(default_factory=dict[int, str])
    """Shards that could not be read at that time; another attempt may succeed."""
    failed_models: dict[int, str] = field(default_factory=dict[int, str])
    """Models that cannot be loaded or run."""
    absent_models: dict[int, str] = field(default_factory=dict[int, str])
    """Models that some scorer could not load or had no room for; another scorer may have them."""
    _parts: dict[CellKey, dict[int, pa.Table]] = field(default_factory=dict[CellKey, dict[int, pa.Table]])
    _sizes: dict[CellKey, int] = field(default_factory=dict[CellKey, int])
    _lost: set[CellKey] = field(default_factory=set[CellKey])
    """Cells that cannot become complete in this pass: their rows are dropped."""

    @property
    def begun(self) -> int:
        """Cells of which some rows have arrived, and not all."""
        return len(self._parts)

    def add(self, scores: pa.Table) -> Iterator[CompleteCell]:
        """Take in a SCORES table; yields every cell that becomes complete by it."""
        for part in _split(scores):
            if failure := Failure.from_scores(part):
                self._fail(failure)
                continue
            cell = CellKey(part["slot"][0].as_py(), part["shard"][0].as_py())
            # Rows that were read before a failure may arrive after it.
            if cell in self._lost or cell.shard in self.failed_shards or cell.shard in self.absent_shards:
                continue
            if part["kind"][0].as_py() == EMPTY:
                yield CompleteCell(*cell, _NO_ROWS, part["passed"][0].as_py())
                continue
            self._parts.setdefault(cell, {})[part["index"][0].as_py()] = part
            if part["last"][-1].as_py():
                self._sizes[cell] = part["index"][-1].as_py() + 1
            if self._is_complete(cell):
                yield self._take(cell)

    def _fail(self, failure: Failure) -> None:
        match failure.kind:
            case "failed_shard":
                self.failed_shards[failure.shard] = failure.reason
            case "absent_shard":
                self.absent_shards[failure.shard] = failure.reason
            case "failed_model":
                self.failed_models[failure.slot] = failure.reason
            case "absent_model":
                self.absent_models[failure.slot] = failure.reason
        cell = CellKey(failure.slot, failure.shard)
        self._lost.add(cell)
        self._parts.pop(cell, None)
        self._sizes.pop(cell, None)

    def _is_complete(self, cell: CellKey) -> bool:
        return self._sizes.get(cell) == sum(part.num_rows for part in self._parts[cell].values())

    def _take(self, cell: CellKey) -> CompleteCell:
        parts = self._parts.pop(cell)
        rows = pa.concat_tables([parts[start] for start in sorted(parts)])
        assert np.array_equal(rows["index"], np.arange(self._sizes.pop(cell))), f"rows of {cell} overlap"
        return CompleteCell(*cell, rows.select(_CELL_COLUMNS), rows["passed"][-1].as_py())


def _split(scores: pa.Table) -> Iterator[pa.Table]:
    """The rows of each chunk of each cell, and each failure by itself."""
    # The index of a failure is null, NaN in NumPy, which follows on nothing.
    slot, shard, index = (scores[name].to_numpy() for name in ("slot", "shard", "index"))
    breaks = (np.diff(slot) != 0) | (np.diff(shard) != 0) | (np.diff(index) != 1)
    edges = [0, *(np.flatnonzero(breaks) + 1).tolist(), len(index)]
    for start, stop in pairwise(edges):
        if stop > start:
            yield scores.slice(start, stop - start)
