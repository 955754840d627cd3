"""Rows of cells for tests, made without a model."""

import pyarrow as pa

import zoo
from pipelines.cells.column import Column
from pipelines.records import SCORES
from pipelines.walk.failures import SCORED
from zoo.weights import wanted

CARD = zoo.card("efficientnet_lite0")
COLUMN = Column(card=CARD, file=wanted.published(CARD))


def score_rows(slot: int, shard: int, rows: int, errors: tuple[int, ...] = ()) -> pa.Table:
    """Scores of a whole shard, as a scorer gives them."""
    top = COLUMN.classes_kept
    fine = [i not in errors for i in range(rows)]
    columns = {
        "kind": [SCORED] * rows,
        "slot": [slot] * rows,
        "shard": [shard] * rows,
        "last": [i == rows - 1 for i in range(rows)],
        "index": list(range(rows)),
        "key": [f"k{i}" for i in range(rows)],
        "label": [i % 1000 for i in range(rows)],
        "classes": [list(range(i, i + top)) if ok else None for i, ok in enumerate(fine)],
        "probs": [[1.0 / (j + 2) for j in range(top)] if ok else None for ok in fine],
        "label_prob": [0.5 if ok else None for ok in fine],
        "sq_prob": [0.25 if ok else None for ok in fine],
        "logsumexp": [2.0 if ok else None for ok in fine],
        "digest": [i if ok else None for i, ok in enumerate(fine)],
        "error": [None if ok else "empty file" for ok in fine],
        "offset": [None if ok else 1024 * i for i, ok in enumerate(fine)],
        "seconds": [0.001] * rows,
        "passed": [None] * rows,
    }
    return pa.table(columns, schema=SCORES)


def cell_rows(rows: int, errors: tuple[int, ...] = ()) -> pa.Table:
    return score_rows(0, 0, rows, errors).drop_columns(["kind", "slot", "shard", "last", "seconds", "passed"])
