"""Rows of scores, in whatever order they arrive -> whole cells.

Owns when a cell is complete, and what is known of shards and models that give none. Refuses to let go of a cell with a
row missing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa

from pipelines.records import ABSENT_MODEL, ABSENT_SHARD, FAILED_MODEL, FAILED_SHARD


@dataclass(slots=True)
class Gather:
    """Rows of cells in the making, which may arrive in any order.

    Each arriving SCORES table is split by (model, shard); a cell leaves when rows 0 to its last are all there.
    """

    failures: dict[int, str] = field(default_factory=dict)
    """Shards that cannot be read to their end, by position, with the reason."""
    away: dict[int, str] = field(default_factory=dict)
    """Shards that could not be read there and then, likewise; another attempt may."""
    unusable: dict[int, str] = field(default_factory=dict)
    """Models whose weights are wrong, by position in the pass, with the reason."""
    absent: dict[int, str] = field(default_factory=dict)
    """Models whose weights some scorer could not get, likewise; another scorer may have them."""
    _parts: dict[tuple[int, int], dict[int, pa.Table]] = field(default_factory=dict)
    _rows: dict[tuple[int, int], int] = field(default_factory=dict)
    _lost: set[tuple[int, int]] = field(default_factory=set)
    """Cells that cannot become whole in this pass: what comes of them is not kept."""

    @property
    def begun(self) -> int:
        """Cells of which some rows are there."""
        return len(self._parts)

    def add(self, scores: pa.Table) -> Iterator[tuple[int, int, pa.Table]]:
        """Take `scores` in; yields (model, shard, rows in order) for every cell that is complete by it."""
        for model, shard, part in _split(scores):
            if part["index"][0].as_py() < 0:
                self._fail(model, shard, part["index"][0].as_py(), part["error"][0].as_py())
                continue
            cell = (model, shard)
            # What was read before a failure may arrive after it.
            if cell in self._lost or shard in self.failures or shard in self.away:
                continue
            self._parts.setdefault(cell, {})[part["index"][0].as_py()] = part
            if part["last"][-1].as_py():
                self._rows[cell] = part["index"][-1].as_py() + 1
            if self._complete(cell):
                yield model, shard, self._take(cell)

    def _fail(self, model: int, shard: int, kind: int, reason: str) -> None:
        if kind in {FAILED_MODEL, ABSENT_MODEL}:
            (self.unusable if kind == FAILED_MODEL else self.absent)[model] = reason
        else:
            assert kind in {FAILED_SHARD, ABSENT_SHARD}, kind
            (self.failures if kind == FAILED_SHARD else self.away)[shard] = reason
        self._lost.add((model, shard))
        self._parts.pop((model, shard), None)
        self._rows.pop((model, shard), None)

    def _complete(self, cell: tuple[int, int]) -> bool:
        return self._rows.get(cell) == sum(part.num_rows for part in self._parts[cell].values())

    def _take(self, cell: tuple[int, int]) -> pa.Table:
        parts = self._parts.pop(cell)
        rows = pa.concat_tables([parts[start] for start in sorted(parts)]).drop_columns(
            ["model", "shard", "last", "seconds"]
        )
        assert np.array_equal(rows["index"], np.arange(self._rows.pop(cell))), f"rows of {cell} overlap"
        return rows


def _split(scores: pa.Table) -> Iterator[tuple[int, int, pa.Table]]:
    """Runs of rows that belong to one chunk of one (model, shard)."""
    model, shard, index = (scores[name].to_numpy() for name in ("model", "shard", "index"))
    breaks = (np.diff(model) != 0) | (np.diff(shard) != 0) | (np.diff(index) != 1)
    edges = [0, *(np.flatnonzero(breaks) + 1).tolist(), len(index)]
    for start, stop in pairwise(edges):
        if stop > start:
            yield int(model[start]), int(shard[start]), scores.slice(start, stop - start)
