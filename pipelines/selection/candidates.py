"""Rows of cells -> candidates for a selection: the classes that a sample may be chosen for, with its scores.

The rule of a selection, and what it excludes, is here; ranking is in `topk`.
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

pc: Any = pyarrow.compute  # the stubs do not know what many of its functions take and return for a column

_MAX_K = (1 << 31) - 1
_COLUMNS = ("index", "label", "classes", "probs", "logsumexp", "digest", "error")
RankBy = Literal["prob", "logit"]
"""What ranks the images of a class: the softmax probability, as in Yalniz et al. 2019, or the logit before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The rule of a selection: for each class the `k` best by `score`, none below `floor`.

    With `dedup`, only one of images with the same bytes counts, the first by place. The rule excludes samples whose
    keys are in `keys`, shards whose names match a pattern of `shards`, and images whose digests (`read.digest_of`) are
    in `images`.
    """

    k: int
    score: RankBy = "prob"
    floor: float | None = None
    dedup: bool = False
    keys: frozenset[str] = frozenset()
    shards: tuple[str, ...] = ()
    images: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if not 1 <= self.k <= _MAX_K:
            raise ValueError(f"--k {self.k}: expected a number of images per class, from 1 to {_MAX_K:,}")

    @property
    def digest(self) -> str:
        """Eight hex digits that change with the rule."""
        return short_digest(asdict(self) | {"keys": sorted(self.keys), "images": sorted(self.images)})

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that `of_cell` reads; keys only if they are needed, since they take longer than all others."""
        return ("key", *_COLUMNS) if self.keys else _COLUMNS

    def takes(self, shard: Shard) -> bool:
        """Whether samples of `shard` may be chosen."""
        return not any(fnmatchcase(shard.name, pattern) for pattern in self.shards)


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """How many images cells have; of these, `failed` could not be scored and the rule leaves out `excluded`."""

    images: int = 0
    failed: int = 0
    excluded: int = 0

    def __add__(self, more: "PoolCounts") -> "PoolCounts":
        return PoolCounts(self.images + more.images, self.failed + more.failed, self.excluded + more.excluded)


def of_cell(
    rows: pa.Table, shard: Shard, position: int, rule: Rule, least: npt.NDArray[np.float32]
) -> tuple[Candidates, PoolCounts]:
    """The candidates in a cell, and the counts of its images.

    Args:
        rows: the cell (see `records.cell_schema`), with at least the columns of the rule.
        shard: the shard of the cell.
        position: of the shard in its dataset.
        rule: what is selected.
        least: by class, the score below which no candidate can be chosen any more.
    """
    fine = rows.filter(pc.is_null(rows["error"]))
    left = _without_excluded(fine, rule).combine_chunks()
    counts = PoolCounts(len(rows), len(rows) - len(fine), len(fine) - len(left))
    label, score = _flat(left["classes"]), _scores(left, rule)
    enough = score >= least[label]
    if rule.floor is not None:
        enough &= score >= np.float32(rule.floor)
    where = np.flatnonzero(enough & (score > -np.inf))
    row = where // left["classes"].type.list_size
    index = left["index"].to_numpy()[row]
    tie = left["digest"].to_numpy()[row] if rule.dedup else topk.tie_of(shard.digest, index)
    truth = left["label"].fill_null(-1).to_numpy()[row]  # pyright: ignore[reportArgumentType]
    found = Candidates(label[where], score[where], tie, np.full(len(where), position, np.int32), index, truth)
    return found, counts


def _scores(rows: pa.Table, rule: Rule) -> npt.NDArray[np.float32]:
    """The score of each class of each row, flat; minus infinity where the probability is zero.

    Classes that do not count have a probability of zero, and one that has underflowed to zero cannot be ranked.
    """
    probs = _flat(rows["probs"])
    none = np.full_like(probs, -np.inf)
    if rule.score == "prob":
        return np.where(probs > 0, probs, none)
    return np.log(probs, where=probs > 0, out=none) + np.repeat(
        rows["logsumexp"].to_numpy(), rows["probs"].type.list_size
    )


def _without_excluded(rows: pa.Table, rule: Rule) -> pa.Table:
    for column, excluded in (("key", rule.keys), ("digest", rule.images)):
        if excluded:
            rows = rows.filter(pc.invert(pc.is_in(rows[column], value_set=_arrow_values(excluded, rows[column].type))))
    return rows


@lru_cache(maxsize=2)  # the same for every cell: converting a validation set's digests takes longer than a cell
def _arrow_values(excluded: frozenset[str] | frozenset[int], arrow_type: pa.DataType) -> "pa.Array[Any]":
    return pa.array(excluded, arrow_type)


def _flat(column: "pa.ChunkedArray[Any]") -> npt.NDArray[Any]:
    return pc.list_flatten(column).to_numpy()
