"""Covers pipelines.walk.publisher: at the end all cells are committed, or an exception says why not."""

import time
from collections.abc import Iterator
from threading import Event, Timer

import pyarrow as pa
import pytest

from pipelines import storage
from pipelines.cells.cell import cell_uri, load_cells, publish_cell, read_cell
from pipelines.cells.plan import plan_cells
from pipelines.records import Dataset, Shard
from pipelines.walk import publisher
from pipelines.walk.gather import CompleteCell
from pipelines.walk.publisher import Publisher
from tests.support.cell_rows import COLUMN, cell_rows
from tests.support.fault import Fault

SHARDS = tuple(Shard(name=f"{i:05d}", uri=f"/d/{i:05d}.tar", size=100 + i, etag=f"e{i}") for i in range(40))
DATASET = Dataset(name="d", source="/d", shards=SHARDS)
CELLS = [CompleteCell(0, position, cell_rows(1 + position % 3)) for position in range(len(SHARDS))]


def missing(store: str) -> tuple[int, ...]:
    return plan_cells(store, DATASET, [COLUMN]).missing[0]


def test_every_cell_that_was_put_is_there_at_the_end(store: str) -> None:
    conflicts: dict[int, str] = {}
    with Publisher(store, DATASET, conflicts) as putting:
        for start in range(0, 40, 7):
            putting.put([COLUMN], CELLS[start : start + 7])
    assert (putting.done, conflicts, missing(store)) == (40, {}, ())
    for (_, position, rows, _), (shard, stored) in zip(CELLS, load_cells(store, DATASET, COLUMN), strict=True):
        assert shard == SHARDS[position]
        assert stored.to_pylist() == rows.to_pylist()


def test_a_cell_that_stands_with_other_bytes_is_a_conflict_and_the_rest_goes_on(store: str) -> None:
    publish_cell(store, DATASET, COLUMN, SHARDS[3], cell_rows(9))
    publish_cell(store, DATASET, COLUMN, SHARDS[5], CELLS[5][2])
    conflicts: dict[int, str] = {}
    with Publisher(store, DATASET, conflicts) as putting:
        putting.put([COLUMN], CELLS)
    assert list(conflicts) == [3]
    assert cell_uri(store, DATASET, COLUMN, SHARDS[3]) in conflicts[3]
    assert missing(store) == ()
    assert read_cell(cell_uri(store, DATASET, COLUMN, SHARDS[3]), COLUMN.classes_kept).num_rows == 9


def test_a_put_that_fails_breaks_the_walk_off(faulty_s3) -> None:
    store, proxy = faulty_s3
    proxy.faults.append(Fault("status", match="^PUT .*/00005-", argument=403))
    taken = []

    def walk() -> Iterator[tuple[int, int, pa.Table]]:
        for cell in CELLS:
            taken.append(cell)
            yield cell

    with pytest.raises(PermissionError, match="00005-"), Publisher(store, DATASET, {}) as putting:
        putting.put([COLUMN], walk())
    assert len(taken) < len(CELLS)


def test_a_put_that_fails_as_the_last_is_not_forgotten(tmp_path) -> None:
    (tmp_path / "cells").write_text("a file where a folder should be")
    with pytest.raises(OSError, match="cells"), Publisher(str(tmp_path), DATASET, {}) as putting:
        putting.put([COLUMN], CELLS[:1])


def test_when_the_walk_breaks_off_what_has_not_begun_is_dropped_and_the_rest_is_whole(faulty_s3) -> None:
    store, proxy = faulty_s3
    storage.probe(store)
    proxy.faults.append(Fault("before", match="^PUT", call=lambda: time.sleep(0.5)))
    with pytest.raises(ZeroDivisionError), Publisher(store, DATASET, {}) as putting:
        putting.put([COLUMN], CELLS[:12])
        _ = 1 / 0
    assert missing(store) == tuple(range(publisher._AT_ONCE, 40))
    assert len(list(load_cells(store, DATASET, COLUMN))) == publisher._AT_ONCE


def test_a_slow_store_holds_no_more_than_a_few_cells_in_memory(faulty_s3) -> None:
    store, proxy = faulty_s3
    opened, taken, held = Event(), [], []

    def wait() -> None:
        opened.wait(20)

    def walk() -> Iterator[tuple[int, int, pa.Table]]:
        for cell in CELLS:
            taken.append(cell)
            yield cell

    proxy.faults.append(Fault("before", match="^PUT", call=wait))
    timer = Timer(1, lambda: (held.append(len(taken)), opened.set()))
    timer.start()
    with Publisher(store, DATASET, {}) as putting:
        putting.put([COLUMN], walk())
    timer.join()
    assert held == [publisher._MAX_PENDING + 1]
    assert missing(store) == ()
