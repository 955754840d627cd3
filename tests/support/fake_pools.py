"""Cells of pools for tests: predictions of a teacher that was never run."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

import zoo
from pipelines.cells.cell import publish_cell
from pipelines.cells.column import Column
from pipelines.cells.plan import plan_cells
from pipelines.records import Dataset, Shard, cell_schema
from pipelines.selection.candidates import PoolCounts, Rule
from pipelines.selection.facts import SelectionFacts, selection_facts
from zoo.weights import wanted

CLASSES = 7
CARD = replace(zoo.card("efficientnet_lite0"), num_classes=CLASSES)
TOP = 3
COLUMN = Column(card=CARD, file=wanted.published(CARD), max_classes_kept=TOP)


def pool(shards: int, name: str = "pool") -> Dataset:
    """Shards that are nowhere: only their cells are read."""
    found = [Shard(name=f"{i:05d}", uri=f"x/{i:05d}.tar", size=100, etag=f"e{i}") for i in range(shards)]
    return Dataset(name=name, source="x", shards=tuple(found))


def facts(identity: str, store: str = "/store") -> SelectionFacts:
    """Of a selection of three images of each class."""
    return selection_facts(store, plan_cells(store, pool(2), [COLUMN]), Rule(k=3), identity, PoolCounts(images=10))


def random_cell(rng: np.random.Generator, rows: int, top: int = TOP, levels: int = 4, images: int = 10**9) -> pa.Table:
    """Rows of a cell with many ties: probabilities of `levels` kinds, a few errors, half of them with labels."""
    # The last class is never among them: it stays empty.
    classes = np.argsort(rng.random((rows, CLASSES - 1)), axis=1)[:, :top] if top < CLASSES else None
    if classes is None:
        classes = np.tile(np.arange(CLASSES), (rows, 1))
    probs = np.sort(rng.integers(1, levels + 1, (rows, top)) / np.float32(levels), axis=1)[:, ::-1]
    bad = rng.random(rows) < 0.1
    digest = rng.integers(0, images, rows)
    records = [
        {
            "index": i,
            "key": f"k{i}",
            "label": int(digest[i] % CLASSES) if i % 2 else None,
            "classes": None if bad[i] else classes[i].tolist(),
            "probs": None if bad[i] else probs[i].tolist(),
            "logsumexp": None if bad[i] else float(i % 3),
            "digest": int(digest[i]),
            "error": "empty file" if bad[i] else None,
        }
        for i in range(rows)
    ]
    return pa.Table.from_pylist(records, schema=cell_schema(top))


def publish(store: str, dataset: Dataset, tables: Sequence[pa.Table], column: Column = COLUMN) -> None:
    """Commit a cell for each shard."""
    for shard, table in zip(dataset.shards, tables, strict=True):
        publish_cell(store, dataset, column, shard, table)
