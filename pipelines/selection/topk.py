"""Candidates -> for each class exactly the K best, independent of the order and grouping of the candidates.

Yalniz et al. 2019, section 3: per class the K images with the highest scores, an image in any number of classes.

Candidates are ordered by score, highest first, then by `tie`, lowest first (a hash of the sample's place, so that no
shard is favoured), then by place. This order is total, so the K best of a class are the same set however they are
found. Where equal images count once, `tie` is a digest of the image, and of the candidates of one class with the same
tie only the best is kept, and of equally good ones the first by place. A fold holds a multiple of classes x K
candidates, never the pool.
"""

from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import numpy.typing as npt

_SLACK = 1 << 20
"""The K best are picked out only when at least this many candidates wait, so that small folds sort only once."""
_GOLDEN, _MIX_1, _MIX_2 = (np.uint64(v) for v in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))

Key = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Arrays of one length: a class that a sample may be chosen for, the score, and the place of the sample.

    `shard` is a position in the dataset and `index` one in the shard; for `tie` see `tie_of`. `truth` is the sample's
    own label, for reports only; -1 where it has none.
    """

    label: npt.NDArray[np.int16]
    score: npt.NDArray[np.float32]
    tie: npt.NDArray[np.uint64]
    shard: npt.NDArray[np.int32]
    index: npt.NDArray[np.int32]
    truth: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.label)

    def take(self, where: npt.NDArray[np.integer] | npt.NDArray[np.bool_] | slice) -> "Candidates":
        """The candidates at `where`, in its order."""
        return Candidates(*(getattr(self, field.name)[where] for field in fields(self)))


_NO_CANDIDATES = Candidates(*(np.empty(0, kind) for kind in ("i2", "f4", "u8", "i4", "i4", "i4")))


def concat(parts: "list[Candidates]") -> Candidates:
    """All of `parts`, of which there is at least one, one after the other."""
    return Candidates(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Candidates)))


def tie_of(shard_digest: str, index: npt.NDArray[np.int32]) -> Key:
    """A hash of the shard's digest (8 hex digits) and the index of each sample: SplitMix64 (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        x = (np.uint64(int(shard_digest, 16)) << np.uint64(32)) + index.astype(np.uint64) + _GOLDEN
        x = (x ^ (x >> np.uint64(30))) * _MIX_1
        x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


class TopK:
    """The K best of each class among the candidates that were added; `add` may be called in any order and grouping."""

    def __init__(self, classes: int, k: int, distinct: bool = False) -> None:
        self._k, self._distinct = k, distinct
        self._kept: list[Candidates] = []
        self._waiting = 0
        self._room = max(classes * k, _SLACK)
        self.least = np.full(classes, -np.inf, np.float32)
        """By class, the K-th best score so far; a candidate below it cannot be chosen."""

    def add(self, more: Candidates) -> None:
        """Add candidates, of finite score; those that cannot be chosen any more are dropped at once."""
        more = more.take(more.score >= self.least[more.label])
        if len(more):
            self._kept.append(more)
            self._waiting += len(more)
        if self._waiting > self._room:
            self._drop_others()

    def best(self) -> Candidates:
        """The K best of each class, by class and rank."""
        kept = self.kept()
        starts = np.flatnonzero(np.diff(kept.label, prepend=-1))
        classes = [np.arange(a, b) for a, b in pairwise([*starts, len(kept)])]
        return kept.take(np.concatenate([_in_order(kept, rows) for rows in classes])) if classes else kept

    def kept(self) -> Candidates:
        """The K best of each class, in no order within a class: it takes a third of the time."""
        self._drop_others()
        return self._kept[0] if self._kept else _NO_CANDIDATES

    def _drop_others(self) -> None:
        """Keep the K best of each class, and raise `least` to the last of them."""
        if not self._kept:
            return
        every = concat(self._kept)
        self._kept.clear()
        by_class = np.argsort(every.label, kind="stable")  # a radix sort, since labels are of 16 bits
        starts = np.searchsorted(every.label[by_class], np.arange(len(self.least) + 1))
        classes = [by_class[a:b] for a, b in pairwise(starts) if b > a]
        if self._distinct:
            classes = [_distinct(every, rows) for rows in classes]
        keep = [_first(every, rows, self._k) for rows in classes]
        self._kept.append(every.take(np.concatenate(keep)))
        self._waiting = 0
        for rows in keep:
            if len(rows) == self._k:
                self.least[every.label[rows[0]]] = every.score[rows].min()


def _distinct(every: Candidates, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Of `rows`, all of one class, the best of each tie, and of equally good ones the first by place."""
    rows = rows[np.lexsort((every.index[rows], every.shard[rows], -every.score[rows], every.tie[rows]))]
    ties = every.tie[rows]
    return rows[np.concatenate([[True], ties[1:] != ties[:-1]])]


def _first(every: Candidates, rows: npt.NDArray[np.intp], k: int) -> npt.NDArray[np.intp]:
    """The first `k` of `rows`, all of one class, in no order."""
    if len(rows) <= k:
        return rows
    key = _key(every.score[rows], every.tie[rows])
    last = np.partition(key, k - 1)[k - 1]
    before, equal = rows[key < last], rows[key == last]
    if len(before) + len(equal) > k:  # half a tie in common, or all of it
        equal = equal[np.lexsort((every.index[equal], every.shard[equal], every.tie[equal]))]
    return np.concatenate([before, equal[: k - len(before)]])


def _in_order(every: Candidates, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """`rows`, all of one class, by rank."""
    key = _key(every.score[rows], every.tie[rows])
    order = np.argsort(key)
    if (np.diff(key[order]) == 0).any():  # half a tie in common, or all of it
        order = np.lexsort((every.index[rows], every.shard[rows], every.tie[rows], key))
    return rows[order]


def _key(score: npt.NDArray[np.float32], tie: Key) -> Key:
    """A key whose ascending order is that of descending score, then of the upper half of the tie."""
    bits = (score + np.float32(0)).view(np.uint32)  # minus zero is zero
    rising = np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31))
    return (~rising).astype(np.uint64) << np.uint64(32) | tie >> np.uint64(32)
