"""In which order a stage sees its samples: a function of the seed, whatever the workers and wherever it is resumed.

The data is a number of streams, side by side, each with its share of every batch: in each epoch the shards are laid end
to end in a new order and cut into as many equal parts as there are streams, and within a part the samples of a window
are shuffled. A worker reads the streams of its own share and no others, so that workers together read everything once.
Batch and place, epoch and sample follow from one another, so that any step can be the first.

Owns this arithmetic. Refuses to read anything.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

_WINDOW = 16384
"""Samples that are shuffled together, over all streams: what a worker that reads all of them holds, encoded."""


@dataclass(frozen=True)
class Order:
    """The order of one stage.

    Args:
        rows: samples in each shard.
        batch: images of a step.
        streams: parts that are read side by side; divides the batch.
        seed: of everything that is by chance.
        stage: another stage has another order.
    """

    rows: tuple[int, ...]
    batch: int
    streams: int
    seed: int
    stage: str

    @cached_property
    def epoch(self) -> int:
        """Samples of a stream in one epoch; a rest smaller than the number of streams is left out of it by chance."""
        return sum(self.rows) // self.streams

    @property
    def share(self) -> int:
        """A stream's samples in one batch."""
        return self.batch // self.streams

    @property
    def window(self) -> int:
        """Samples of a stream that are shuffled together, of one epoch at most."""
        return min(self.epoch, max(1, _WINDOW // self.streams))


@dataclass(frozen=True, slots=True)
class Places:
    """A worker's places in every batch, [start, stop); place p is of stream p // share."""

    start: int
    stop: int

    def streams(self, order: Order) -> range:
        """The streams that these places take from."""
        return range(self.start // order.share, -(-self.stop // order.share))


@dataclass(frozen=True, slots=True)
class SampleSlot:
    """A sample of one part: its `place` in the batch of `step`, and where it lies."""

    step: int
    place: int
    epoch: int
    shard: int
    index: int


def streams(shards: int, batch: int, most: int) -> int:
    """How many streams there are: the greatest power of two that divides the batch, up to `most` and the shards."""
    count = 1
    while 2 * count <= min(shards, most) and batch % (2 * count) == 0:
        count *= 2
    return count


def places(order: Order, rank: int, workers: int) -> Places:
    """The places of one of so many workers, which divide the batch."""
    share = order.batch // workers
    return Places(rank * share, (rank + 1) * share)


def parts(order: Order, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Ranges [start, stop) of a stream's samples, the unit of reading, from step `first` to before `last`.

    A part is a window, or several whole epochs of a small dataset; the first and the last are cut to the steps.
    """
    start, end = first * order.share, last * order.share
    several = max(1, _WINDOW // order.streams // order.epoch) * order.epoch
    while start < end:
        if order.window == order.epoch:
            stop = (start // several + 1) * several
        else:
            into = start % order.epoch
            stop = start - into + min(order.epoch, (into // order.window + 1) * order.window)
        yield start, min(stop, end)
        start = min(stop, end)


def wanted(order: Order, of: Places, start: int, stop: int) -> list[SampleSlot]:
    """The samples of a part that belong to a worker's places, in the order in which batches need them."""
    found = []
    sources = {stream: _located(order, stream, start, stop) for stream in of.streams(order)}
    for at in range(start, stop):
        step, within = divmod(at, order.share)
        for stream, located in sources.items():
            place = stream * order.share + within
            if of.start <= place < of.stop:
                shard, index = located[at - start]
                found.append(SampleSlot(step, place, at // order.epoch, shard, index))
    return found


def _located(order: Order, stream: int, start: int, stop: int) -> list[tuple[int, int]]:
    """Shard and index of a stream's samples [start, stop)."""
    found: list[tuple[int, int]] = []
    while start < stop:
        epoch, into = divmod(start, order.epoch)
        window = into // order.window
        begins = window * order.window
        length = min(order.window, order.epoch - begins)
        take = min(stop - start, begins + length - into)
        shuffled = _random(order, epoch, stream, window).permutation(length)[into - begins : into - begins + take]
        found += _in_shards(order, epoch, stream * order.epoch + begins + shuffled)
        start += take
    return found


def _in_shards(order: Order, epoch: int, positions: np.ndarray) -> Sequence[tuple[int, int]]:
    """Where positions in an epoch's row of shards lie."""
    shards, ends = _laid(order, epoch)
    at = np.searchsorted(ends, positions, side="right")
    starts = np.concatenate([[0], ends[:-1]])
    return list(zip(shards[at].tolist(), (positions - starts[at]).tolist(), strict=True))


@lru_cache(maxsize=4)
def _laid(order: Order, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The shards of an epoch in their order, and where each ends."""
    shards = _random(order, epoch).permutation(len(order.rows))
    return shards, np.cumsum(np.asarray(order.rows)[shards])


def _random(order: Order, *what: int) -> np.random.Generator:
    """Chance that depends on the seed, the stage and `what`; another of these, another chance."""
    return np.random.default_rng([order.seed, *order.stage.encode(), 0, *what])
