"""Rows of cells -> candidates for a selection: which classes a sample may be chosen for, and with what score.

Owns the rule of a selection and what keeps a row out of it. Refuses to rank: `topk` does.
"""

from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from pipelines.records import Shard, short_digest
from pipelines.selection import topk
from pipelines.selection.topk import Candidates

pc: Any = pyarrow.compute  # its functions are made at import, so no checker knows them

_MOST = (1 << 31) - 1
_COLUMNS = ("index", "label", "classes", "probs", "logsumexp", "digest", "error")
RankBy = Literal["prob", "logit"]
"""What ranks the images of a class: the softmax probability, as in Yalniz et al. 2019, or the logit before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is selected: of each class the `k` best by `score`, none below `floor`.

    With `dedup`, of images with the same bytes one counts, the first by place. What is left out: samples whose keys are
    in `keys`, shards whose names match a pattern of `shards`, and images whose digests (`read.digest_of`) are in
    `images`.
    """

    k: int
    score: RankBy = "prob"
    floor: float | None = None
    dedup: bool = False
    keys: frozenset[str] = frozenset()
    shards: tuple[str, ...] = ()
    images: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if not 1 <= self.k <= _MOST:
            raise ValueError(f"--k {self.k}: expected a number of images a class, from 1 to {_MOST:,}")

    @property
    def digest(self) -> str:
        """Eight hex digits that change with the rule."""
        return short_digest(asdict(self) | {"keys": sorted(self.keys), "images": sorted(self.images)})

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of a cell that `of_cell` looks at: keys take longer to read than all others."""
        return ("key", *_COLUMNS) if self.keys else _COLUMNS

    def takes(self, shard: Shard) -> bool:
        """Whether samples of `shard` may be chosen."""
        return not any(fnmatchcase(shard.name, pattern) for pattern in self.shards)


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """How many images cells have: of these `failed` could not be scored, `excluded` are left out by the rule."""

    images: int = 0
    failed: int = 0
    excluded: int = 0

    def __add__(self, more: "PoolCounts") -> "PoolCounts":
        return PoolCounts(self.images + more.images, self.failed + more.failed, self.excluded + more.excluded)


def of_cell(
    rows: pa.Table, shard: Shard, position: int, rule: Rule, least: npt.NDArray[np.float32]
) -> tuple[Candidates, PoolCounts]:
    """The candidates in a cell, and what it has.

    Args:
        rows: the cell (see `records.cell_schema`), the rule's columns at least.
        shard: whose it is, at `position` of its dataset.
        position: see there.
        rule: what is selected.
        least: by class, the score below which nothing will be chosen any more.
    """
    fine = rows.filter(pc.is_null(rows["error"]))
    left = _not_excluded(fine, rule).combine_chunks()
    seen = PoolCounts(len(rows), len(rows) - len(fine), len(fine) - len(left))
    label, score = _flat(left["classes"]), _scores(left, rule)
    enough = score >= least[label]
    if rule.floor is not None:
        enough &= score >= np.float32(rule.floor)
    where = np.flatnonzero(enough & (score > -np.inf))
    row = where // left["classes"].type.list_size
    index = left["index"].to_numpy()[row]
    tie = left["digest"].to_numpy()[row] if rule.dedup else topk.tie_of(shard.digest, index)
    truth = left["label"].fill_null(-1).to_numpy()[row]
    found = Candidates(label[where], score[where], tie, np.full(len(where), position, np.int32), index, truth)
    return found, seen


def _scores(rows: pa.Table, rule: Rule) -> npt.NDArray[np.float32]:
    """Of each class of each row; minus infinity for a probability of zero.

    Classes that do not count have that, and a probability so small that it is zero ranks nothing.
    """
    probs = _flat(rows["probs"])
    none = np.full_like(probs, -np.inf)
    if rule.score == "prob":
        return np.where(probs > 0, probs, none)
    return np.log(probs, where=probs > 0, out=none) + np.repeat(
        rows["logsumexp"].to_numpy(), rows["probs"].type.list_size
    )


def _not_excluded(rows: pa.Table, rule: Rule) -> pa.Table:
    for column, excluded in (("key", rule.keys), ("digest", rule.images)):
        if excluded:
            rows = rows.filter(pc.invert(pc.is_in(rows[column], value_set=_values(excluded, rows[column].type))))
    return rows


@lru_cache(maxsize=2)  # a cell after the other has the same: a validation set's images take longer to list than a cell
def _values(excluded: frozenset, kind: pa.DataType) -> pa.Array:
    return pa.array(excluded, kind)


def _flat(column: pa.ChunkedArray) -> np.ndarray:
    return pc.list_flatten(column).to_numpy()
