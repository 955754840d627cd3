"""Two columns of cells, image by image: which predictions flipped, which metrics moved, whether that can be chance.

Rows are joined by key. One shard of each column is read at a time, so that a pair of a billion rows needs no more
memory than its flips.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from scipy.stats import binomtest  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from pipelines.cells.inventory import StoredColumn
from pipelines.evaluation import metrics
from pipelines.evaluation.metrics import Summary, Tally
from pipelines.leaderboard.pairs import Pair

pc: Any = pyarrow.compute  # the stubs do not know what many of its functions take and return for a column

BOTH_RIGHT, RIGHT_WRONG, WRONG_RIGHT = "both right", "right to wrong", "wrong to right"
WRONG_WRONG, ALIKE = "wrong to other wrong", "wrong alike"
KINDS = (BOTH_RIGHT, RIGHT_WRONG, WRONG_RIGHT, WRONG_WRONG, ALIKE)
"""How an image changes from A to B; `wrong alike` is the same wrong class, or an error on both sides."""
FLIPS = pa.schema(
    [
        *((name, pa.string()) for name in ("model_a", "model_b", "dataset", "shard", "key")),
        ("index", pa.int32()),  # in A
        ("label", pa.int32()),
        ("class_a", pa.int16()),  # null where the row is an error
        ("class_b", pa.int16()),
        ("prob_a", pa.float32()),
        ("prob_b", pa.float32()),
        ("flip", pa.string()),  # one of KINDS
    ]
)
"""One row for each image whose prediction flipped: right to wrong, wrong to right, or wrong to other wrong."""


@dataclass(slots=True, kw_only=True)
class Difference:
    """A pair of columns over the images that both have.

    `images` counts them by kind (see KINDS). `shards` is how many shards both have, `unpaired` how many images of A
    and of B the other lacks in these. `environment` holds library versions that differ between the two MLflow runs.
    """

    pair: Pair
    environment: Mapping[str, tuple[str, str]]
    images: dict[str, int]
    unpaired: tuple[int, int]
    shards: int
    a: Summary
    b: Summary
    flips: pa.Table

    @property
    def points(self) -> float:
        """Accuracy of B less that of A, in percentage points."""
        return 100 * (self.images[WRONG_RIGHT] - self.images[RIGHT_WRONG]) / sum(self.images.values())

    @property
    def half_interval(self) -> float:
        """Half of the 95 % interval around `points`; only flips count, since both sides have the same images.

        The adjusted Wald interval for paired proportions (Bonett and Price 2012): not empty where nothing flipped.
        """
        images = sum(self.images.values()) + 2
        lost, won = ((self.images[kind] + 1) / images for kind in (RIGHT_WRONG, WRONG_RIGHT))
        return 100 * NormalDist().inv_cdf(0.975) * math.sqrt((lost + won - (won - lost) ** 2) / images)

    @property
    def p_value(self) -> float:
        """McNemar's exact test, two-sided.

        The probability of flips at least this uneven if both directions are equally likely.
        """
        lost, won = self.images[RIGHT_WRONG], self.images[WRONG_RIGHT]
        return float(binomtest(lost, lost + won).pvalue) if lost + won else 1.0


def compare(pair: Pair, environment: Mapping[str, tuple[str, str]]) -> Difference:
    """Compare the two columns over the shards that both have.

    Args:
        pair: the columns.
        environment: library versions that differ between their MLflow runs, by name.

    Raises:
        ValueError: naming the cell, if one is damaged; naming the columns, if they have no image in common.
    """
    counts, unpaired, shards = np.zeros(len(KINDS), np.int64), np.zeros(2, np.int64), 0
    flips, tallies = [FLIPS.empty_table()], list[tuple[Tally, Tally]]()
    for shard, a, b, left in _joined(pair):
        one, other = _SideRows.of(a, pair.a), _SideRows.of(b, pair.b)
        kinds = _kinds(one, other)
        counts += np.bincount(kinds, minlength=len(KINDS))
        unpaired += left
        shards += 1
        flips.append(_flips(pair, shard, one, other, kinds))
        tallies = [_added(tallies, (_tally(a, pair.a), _tally(b, pair.b)))]
    if not counts.any():
        raise ValueError(f"{pair.a.name} and {pair.b.name} have no image in common on {pair.a.dataset.name}")
    return Difference(
        pair=pair,
        environment=environment,
        images=dict(zip(KINDS, counts.tolist(), strict=True)),
        unpaired=(int(unpaired[0]), int(unpaired[1])),
        shards=shards,
        a=metrics.summary(tallies[0][0]),
        b=metrics.summary(tallies[0][1]),
        flips=pa.concat_tables(flips),
    )


@dataclass(frozen=True, slots=True)
class _SideRows:
    """The rows of one side: the top-1 class (-1 where there is an error), its probability, whether it is right."""

    rows: pa.Table
    first: np.ndarray
    probability: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, rows: pa.Table, column: StoredColumn) -> "_SideRows":
        fine = pc.is_null(metrics.reasons(rows, column.num_classes, column.subset)).to_numpy()
        first = pc.fill_null(pc.list_element(rows["classes"], 0), -1).to_numpy()
        probability = pc.fill_null(pc.list_element(rows["probs"], 0), float("nan")).to_numpy()
        label = pc.fill_null(rows["label"], -2).to_numpy()
        return cls(rows, first, probability, fine & (first == label))


def _tally(rows: pa.Table, column: StoredColumn) -> Tally:
    return metrics.tally(rows, column.num_classes, column.subset)


def _added(folded: list[tuple[Tally, Tally]], parts: tuple[Tally, Tally]) -> tuple[Tally, Tally]:
    return (metrics.merge(folded[0][0], parts[0]), metrics.merge(folded[0][1], parts[1])) if folded else parts


def _joined(pair: Pair) -> Iterator[tuple[str, pa.Table, pa.Table, tuple[int, int]]]:
    """For each shard that both have: its name, the rows whose keys both have, in A's order, and how many one lacks."""
    there = {shard.name: shard for shard in pair.b.committed}
    for shard in pair.a.committed:
        if shard.name not in there:
            continue
        a, b = pair.a.read(shard), pair.b.read(there[shard.name])
        if a["key"].equals(b["key"]):  # nearly always; and rows of a key that occurs twice are paired in order
            yield shard.name, a, b, (0, 0)
            continue
        places = pc.index_in(a["key"], value_set=b["key"])
        both = len(places) - places.null_count
        left = len(a) - both, len(b) - both
        yield shard.name, a.filter(pc.is_valid(places)), b.take(places.drop_null()), left


def _kinds(a: _SideRows, b: _SideRows) -> np.ndarray:
    """Positions in KINDS."""
    wrong = np.where(a.first != b.first, KINDS.index(WRONG_WRONG), KINDS.index(ALIKE))
    return np.select([a.right & b.right, a.right, b.right], [0, 1, 2], wrong)


def _flips(pair: Pair, shard: str, one: _SideRows, other: _SideRows, kinds: np.ndarray) -> pa.Table:
    place = np.flatnonzero((kinds != KINDS.index(BOTH_RIGHT)) & (kinds != KINDS.index(ALIKE)))
    rows = one.rows.take(pa.array(place, pa.int64()))
    names = {"model_a": pair.a.model, "model_b": pair.b.model, "dataset": pair.a.dataset.name, "shard": shard}
    columns: dict[str, Any] = {
        **{name: [value] * len(place) for name, value in names.items()},
        **{name: rows[name] for name in ("key", "index", "label")},
        "class_a": _or_null(one.first[place]),
        "class_b": _or_null(other.first[place]),
        "prob_a": pa.array(one.probability[place], from_pandas=True),
        "prob_b": pa.array(other.probability[place], from_pandas=True),
        "flip": [KINDS[kind] for kind in kinds[place]],
    }
    return pa.table([columns[name] for name in FLIPS.names], names=FLIPS.names).cast(FLIPS)


def _or_null(classes: np.ndarray) -> "pa.Array[Any]":
    return pa.array(classes, mask=classes < 0)
