"""The order in which a stage sees its samples: a pure function of the seed, for any number of workers and any step.

The data is a number of streams, read side by side; each gives a fixed quota of every batch. In each epoch the shards
are laid end to end in a new order and cut into as many equal streams; within a stream the samples of a window are
shuffled. A worker reads the streams of its own slots and no others, so the workers together read everything once. Step
and slot, epoch and sample follow from one another, so any step can be the first. Nothing is read here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

_WINDOW = 16384
"""Samples that are shuffled together, over all streams; a worker that reads all streams holds as many, encoded."""


@dataclass(frozen=True)
class Order:
    """The order of one stage.

    Args:
        rows: samples in each shard.
        batch: images of a step.
        streams: the number of streams; divides the batch.
        seed: of all shuffling.
        stage: the name of the stage; other stages have other orders.
    """

    rows: tuple[int, ...]
    batch: int
    streams: int
    seed: int
    stage: str

    @cached_property
    def epoch(self) -> int:
        """Samples of a stream in one epoch; each epoch leaves out a random remainder smaller than `streams`."""
        return sum(self.rows) // self.streams

    @property
    def quota(self) -> int:
        """Samples that a stream gives to one batch."""
        return self.batch // self.streams

    @property
    def window(self) -> int:
        """Samples of a stream that are shuffled together; at most one epoch."""
        return min(self.epoch, max(1, _WINDOW // self.streams))


@dataclass(frozen=True, slots=True)
class Slots:
    """A worker's slots in every batch, [start, stop); slot s belongs to stream s // quota."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def streams(self, order: Order) -> range:
        """The streams that fill these slots."""
        return range(self.start // order.quota, -(-self.stop // order.quota))


@dataclass(frozen=True, slots=True)
class Range:
    """Samples [start, stop) of every stream, counted over all epochs: the unit of reading."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class SampleSlot:
    """A slot in the batch of a step, and the sample that fills it: its epoch, its shard and its index there."""

    step: int
    slot: int
    epoch: int
    shard: int
    index: int


def streams(shards: int, batch: int, most: int) -> int:
    """The number of streams: the greatest power of two that divides `batch`, at most `most` and `shards`."""
    count = 1
    while 2 * count <= min(shards, most) and batch % (2 * count) == 0:
        count *= 2
    return count


def worker_slots(order: Order, rank: int, world_size: int) -> Slots:
    """The slots of worker `rank` of `world_size`, which divides the batch."""
    size = order.batch // world_size
    return Slots(rank * size, (rank + 1) * size)


def ranges(order: Order, first: int, last: int) -> Iterator[Range]:
    """The ranges that the steps [first, last) need.

    A range is a window, or several whole epochs of a small dataset; the first and the last are cut to the steps.
    """
    start, end = first * order.quota, last * order.quota
    several = max(1, _WINDOW // order.streams // order.epoch) * order.epoch
    while start < end:
        if order.window == order.epoch:
            stop = (start // several + 1) * several
        else:
            into = start % order.epoch
            stop = start - into + min(order.epoch, (into // order.window + 1) * order.window)
        yield Range(start, min(stop, end))
        start = min(stop, end)


def filled_slots(order: Order, slots: Slots, within: Range) -> list[SampleSlot]:
    """A worker's slots that the samples of a range fill, in the order in which batches need them."""
    found: list[SampleSlot] = []
    sources = {stream: _locations(order, stream, within) for stream in slots.streams(order)}
    for at in range(within.start, within.stop):
        step, offset = divmod(at, order.quota)
        for stream, locations in sources.items():
            slot = stream * order.quota + offset
            if slots.start <= slot < slots.stop:
                shard, index = locations[at - within.start]
                found.append(SampleSlot(step, slot, at // order.epoch, shard, index))
    return found


def _locations(order: Order, stream: int, within: Range) -> list[tuple[int, int]]:
    """Shard and index of each of a stream's samples in a range."""
    found: list[tuple[int, int]] = []
    start = within.start
    while start < within.stop:
        epoch, into = divmod(start, order.epoch)
        window = into // order.window
        begins = window * order.window
        length = min(order.window, order.epoch - begins)
        take = min(within.stop - start, begins + length - into)
        shuffled = _generator(order, epoch, stream, window).permutation(length)[into - begins : into - begins + take]
        found += _in_shards(order, epoch, stream * order.epoch + begins + shuffled)
        start += take
    return found


def _in_shards(order: Order, epoch: int, positions: np.ndarray) -> Sequence[tuple[int, int]]:
    """Shard and index of positions in the shards of an epoch, laid end to end."""
    shards, ends = _shard_sequence(order, epoch)
    at = np.searchsorted(ends, positions, side="right")
    starts = np.concatenate([[0], ends[:-1]])
    return list(zip(shards[at].tolist(), (positions - starts[at]).tolist(), strict=True))


@lru_cache(maxsize=4)
def _shard_sequence(order: Order, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The shards of an epoch in their order, and the position at which each ends."""
    shards = _generator(order, epoch).permutation(len(order.rows))
    return shards, np.cumsum(np.asarray(order.rows)[shards])


def _generator(order: Order, *what: int) -> np.random.Generator:
    """A generator seeded by (seed, stage, *what); other inputs give an independent stream of numbers."""
    return np.random.default_rng([order.seed, *order.stage.encode(), 0, *what])
