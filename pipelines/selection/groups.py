"""Which shards of a pool are read together, and to which output shards their chosen samples go.

A group of input shards is read once. Its chosen samples are shuffled by a hash and distributed evenly over its output
shards. The shards of a group are picked by a hash too, and a group is as large as memory allows, so that classes are
mixed even where the pool is sorted by class. All of it is a function of the selection alone.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.records import Dataset

GROUP_BYTES = 256 << 20
"""Bytes of chosen images in a group, as far as they can be estimated; a task holds them and one output shard."""


@dataclass(frozen=True, slots=True)
class Group:
    """Input shards that are read together, by position in the pool.

    Their `samples` make `outputs` output shards, of which the first has the number `first`.
    """

    shards: tuple[int, ...]
    samples: int
    first: int
    outputs: int

    def dealt(self, keys: Sequence[str]) -> list[list[int]]:
        """For each output shard, positions in `keys`, which are those of the group's samples."""
        shuffled = sorted(range(len(keys)), key=lambda at: _hash(keys[at]))
        return [shuffled[n :: self.outputs] for n in range(self.outputs)]


def group_shards(pool: Dataset, chosen: pa.Table, samples_per_shard: int) -> list[Group]:
    """All groups, with shards in the order of a hash; shards without a chosen sample are in none.

    Args:
        pool: what was selected from.
        chosen: rows of `files.CHOSEN`.
        samples_per_shard: of an output shard; the remainder is spread evenly over the output shards of a group.
    """
    counts = np.bincount(chosen["shard"].to_numpy(), minlength=len(pool.shards))
    found: list[Group] = []
    shards: list[int] = []
    held = 0.0
    for position in sorted(np.flatnonzero(counts).tolist(), key=lambda at: _hash(pool.shards[at].digest)):
        size = expected_bytes(pool, position, counts[position])
        if shards and held + size > GROUP_BYTES:
            found.append(_group(shards, counts, found, samples_per_shard))
            shards, held = [], 0.0
        shards.append(position)
        held += size
    return [*found, _group(shards, counts, found, samples_per_shard)] if shards else found


def expected_bytes(pool: Dataset, position: int, chosen: int) -> float:
    """Estimated bytes of `chosen` images of a shard: all of the shard where no manifest says how many rows it has."""
    shard = pool.shards[position]
    return shard.size * min(1.0, chosen / shard.rows) if shard.rows else shard.size


def _group(shards: Sequence[int], counts: np.ndarray, before: Sequence[Group], samples_per_shard: int) -> Group:
    samples = int(counts[list(shards)].sum())
    first = before[-1].first + before[-1].outputs if before else 0
    return Group(tuple(shards), samples, first, max(1, round(samples / samples_per_shard)))


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
