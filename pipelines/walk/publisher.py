"""Cells on their way into the store, a few at once.

Owns that a walk does not wait for each put, and that none is forgotten. Refuses to know what is in a cell.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa

from pipelines.cells.cell import publish_cell
from pipelines.cells.column import Column
from pipelines.records import Dataset

_AT_ONCE = 8
_WAITING = 16
"""Cells that are encoded or put; more are not taken before one is done, so that memory stays bounded."""


class Publisher:
    """Publishes cells beside the walk that makes them, as a context.

    At its end every cell is put, unless the walk broke off: then those that have not begun are dropped. A put that
    fails breaks the walk off. `done` cells are committed; `conflicts` says, by the shard's position, which stand with
    other bytes.
    """

    def __init__(self, store: str, dataset: Dataset, conflicts: dict[int, str]) -> None:
        self._store, self._dataset, self._conflicts = store, dataset, conflicts
        self._pool = ThreadPoolExecutor(_AT_ONCE, "publish")
        self._begun: deque[tuple[int, Future[None]]] = deque()
        self.done = 0

    def __enter__(self) -> "Publisher":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._settle(0)
        finally:
            self._pool.shutdown(cancel_futures=True)

    def put(self, columns: Sequence[Column], complete: Iterable[tuple[int, int, pa.Table]]) -> None:
        """Have cells published: each a position among `columns`, one among the dataset's shards, and the rows."""
        for column, position, rows in complete:
            target = (self._store, self._dataset, columns[column], self._dataset.shards[position], rows)
            self._begun.append((position, self._pool.submit(publish_cell, *target)))
            self._settle(_WAITING)

    def _settle(self, most: int) -> None:
        """Wait until at most `most` are under way."""
        while self._begun and (len(self._begun) > most or self._begun[0][1].done()):
            position, future = self._begun.popleft()
            try:
                future.result()
            except FileExistsError as error:  # another kind of device rounds otherwise
                self._conflicts[position] = str(error)
            self.done += 1
