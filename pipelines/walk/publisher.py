"""Publishing cells, several at once, while the walk goes on."""

from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from pipelines.cells.cell import publish_cell
from pipelines.cells.column import Column
from pipelines.records import Dataset
from pipelines.walk.gather import CompleteCell

_AT_ONCE = 8
_MAX_PENDING = 16
"""Cells that are being encoded or put; no more are taken before one is done, so that memory stays bounded."""


class Publisher:
    """Publishes cells in threads of its own; a context manager around the walk that makes them.

    At the end of the context every cell has been put. If the context ends with an exception, puts that have not begun
    are dropped. The exception of a put that fails is raised from `put` or at the end of the context.

    Attributes:
        done: how many cells are committed.
    """

    def __init__(self, store: str, dataset: Dataset, conflicts: dict[int, str]) -> None:
        # `conflicts` collects, by position of the shard, why a cell that is committed already has other bytes.
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

    def put(self, columns: Sequence[Column], complete: Iterable[CompleteCell]) -> None:
        """Have cells published; their slots are positions in `columns`."""
        for slot, shard, rows, passed in complete:
            target = (self._store, self._dataset, columns[slot], self._dataset.shards[shard], rows, passed)
            self._begun.append((shard, self._pool.submit(publish_cell, *target)))
            self._settle(_MAX_PENDING)

    def _settle(self, most: int) -> None:
        """Wait until at most `most` puts are under way."""
        while self._begun and (len(self._begun) > most or self._begun[0][1].done()):
            shard, future = self._begun.popleft()
            try:
                future.result()
            except FileExistsError as error:  # another kind of device rounds differently
                self._conflicts[shard] = str(error)
            self.done += 1
