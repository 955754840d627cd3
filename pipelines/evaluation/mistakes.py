"""Committed cells -> examples to look at: the pairs of classes that are confused, the worst mistakes, the errors.

They are the same in whatever order cells are merged. Of a billion rows a few hundred are kept, and one count for each
pair of classes that occurs.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from pipelines.evaluation import metrics
from pipelines.records import Shard

pc: Any = pyarrow.compute  # the stubs do not know what many of its functions take and return for a column

KEPT = 50
"""Mistakes, pairs and errors that are kept of a model on a dataset, each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """An image whose top-1 class is wrong, with the probabilities of that class and of its label."""

    shard: str
    index: int
    key: str
    label: int
    predicted: int
    probability: float
    label_probability: float | None

    @property
    def rank(self) -> tuple[float, str, int]:
        """Most confident first; ties by place, so that no order of arrival shows."""
        return -self.probability, self.shard, self.index


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """An image that could not be judged; `error` is None where only its label is at fault."""

    shard: str
    index: int
    key: str
    reason: str
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistakes:
    """Mistakes in any number of cells: wrong rows by (label, predicted class), the worst of them, the first errors."""

    confused: Counter[tuple[int, int]] = field(default_factory=Counter[tuple[int, int]])
    worst: tuple[Mistake, ...] = ()
    errors: tuple[BadRow, ...] = ()

    def most_confused(self, pairs: int = KEPT) -> list[tuple[int, int, int]]:
        """(label, predicted, rows) of the most frequent pairs; ties by class."""
        ordered = sorted(self.confused.items(), key=lambda item: (-item[1], item[0]))
        return [(label, predicted, rows) for (label, predicted), rows in ordered[:pairs]]


def mistakes_of(shard: Shard, cell: pa.Table, num_classes: int, subset: Sequence[int] | None = None) -> Mistakes:
    """The mistakes of one cell, whose labels should be in [0, num_classes) and, where given, in `subset`."""
    why = metrics.reasons(cell, num_classes, subset)
    valid, failed = cell.filter(pc.is_null(why)), cell.append_column("reason", why).filter(pc.is_valid(why))
    wrong = valid.append_column("predicted", _first(valid["classes"])).append_column(
        "probability", _first(valid["probs"])
    )
    wrong = wrong.filter(pc.not_equal(wrong["predicted"], wrong["label"]))
    return Mistakes(confused=_pairs(wrong), worst=_worst(shard, wrong), errors=_errors(shard, failed))


def merge(a: Mistakes, b: Mistakes) -> Mistakes:
    """The mistakes of the rows of both; associative and commutative."""
    errors = sorted((*a.errors, *b.errors), key=lambda row: (row.shard, row.index))
    return Mistakes(
        confused=a.confused + b.confused,
        worst=tuple(sorted((*a.worst, *b.worst), key=lambda mistake: mistake.rank)[:KEPT]),
        errors=tuple(errors[:KEPT]),
    )


def _first(lists: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    return pc.list_element(lists, 0)


def _pairs(wrong: pa.Table) -> Counter[tuple[int, int]]:
    counted = wrong.group_by(["label", "predicted"]).aggregate([([], "count_all")])
    columns = (counted[name].to_pylist() for name in ("label", "predicted", "count_all"))
    return Counter({(label, predicted): rows for label, predicted, rows in zip(*columns, strict=True)})


def _worst(shard: Shard, wrong: pa.Table) -> tuple[Mistake, ...]:
    order = np.lexsort((wrong["index"].to_numpy(), -wrong["probability"].to_numpy()))[:KEPT]
    worst = wrong.take(pa.array(order, pa.int64()))
    rows = worst.select(["index", "key", "label", "predicted", "probability", "label_prob"])
    return tuple(
        Mistake(shard=shard.name, **{"label_probability": row.pop("label_prob"), **row}) for row in rows.to_pylist()
    )


def _errors(shard: Shard, failed: pa.Table) -> tuple[BadRow, ...]:
    rows = failed.slice(0, KEPT).select(["index", "key", "reason", "error"]).to_pylist()
    return tuple(BadRow(shard=shard.name, **row) for row in rows)
