"""Rows of cells -> candidates for a selection: which classes a sample may be chosen for, and with what score.

Owns the rule of a selection and what keeps a row out of it. Refuses to rank: `topk` does.
"""

from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from pipelines import topk
from pipelines.records import Shard, short_digest
from pipelines.topk import Candidates

pc: Any = pyarrow.compute  # its functions are made at import, so no checker knows them

Score = Literal["prob", "logit"]
"""What ranks the images of a class: the softmax probability, as in Yalniz et al. 2019, or the logit before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is selected: of each class the `k` best by `score`, none below `floor`.

    With `dedup`, of images with the same bytes one counts, the first by place. What is left out: samples whose keys are
    in `keys`, shards whose names match a pattern of `shards`, and images whose digests (`read.digest_of`) are in
    `images`.
    """

    k: int
    score: Score = "prob"
    floor: float | None = None
    dedup: bool = False
    keys: frozenset[str] = frozenset()
    shards: tuple[str, ...] = ()
    images: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"--k {self.k}: expected a positive number of images a class")

    @property
    def digest(self) -> str:
        """Eight hex digits that change with the rule."""
        return short_digest(asdict(self) | {"keys": sorted(self.keys), "images": sorted(self.images)})

    def takes(self, shard: Shard) -> bool:
        """Whether samples of `shard` may be chosen."""
        return not any(fnmatchcase(shard.name, pattern) for pattern in self.shards)


def of_cell(rows: pa.Table, shard: Shard, position: int, rule: Rule, least: npt.NDArray[np.float32]) -> Candidates:
    """The candidates in a cell.

    Args:
        rows: the cell (see `records.cell_schema`).
        shard: whose it is, at `position` of its dataset.
        position: see there.
        rule: what is selected.
        least: by class, the score below which nothing will be chosen any more.
    """
    rows = rows.filter(_may_be_chosen(rows, rule)).combine_chunks()
    top = rows["classes"].type.list_size
    label, score = _flat(rows["classes"]), _flat(rows["probs"])
    if rule.score == "logit":
        score = np.log(score, where=score > 0, out=np.full_like(score, -np.inf))
        score += np.repeat(rows["logsumexp"].to_numpy(), top)
    # Classes that do not count have a probability of zero, and one so small that it is zero ranks nothing.
    enough = (score >= least[label]) & (_flat(rows["probs"]) > 0)
    if rule.floor is not None:
        enough &= score >= np.float32(rule.floor)
    where = np.flatnonzero(enough)
    row = where // top
    index = rows["index"].to_numpy()[row]
    tie = rows["digest"].to_numpy()[row] if rule.dedup else topk.tie_of(shard.digest, index)
    truth = rows["label"].fill_null(-1).to_numpy()[row]
    return Candidates(label[where], score[where], tie, np.full(len(where), position, np.int32), index, truth)


def _may_be_chosen(rows: pa.Table, rule: Rule) -> pa.ChunkedArray:
    fine = pc.is_null(rows["error"])
    for column, excluded in (("key", rule.keys), ("digest", rule.images)):
        if excluded:
            among = pa.array(excluded, rows[column].type)
            fine = pc.and_(fine, pc.invert(pc.is_in(rows[column], value_set=among)))
    return fine


def _flat(column: pa.ChunkedArray) -> np.ndarray:
    return pc.list_flatten(column).to_numpy()
