"""From the order of a stage to batches: samples are read and decoded in portions, and gathered to a worker's share.

Owns what a learner is given: every place of a batch is filled, one that cannot be read or has no label that counts with
zeros and the label IGNORED, so that its neighbours' places never depend on it. Refuses to know how portions travel:
`feed` lets Ray Data do it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipelines import storage
from pipelines.data import read
from pipelines.data.formats import ShardError
from pipelines.evaluation.metrics import LABEL_RANGE, MISSING_LABEL
from pipelines.pixels.decoded import one_value
from pipelines.pixels.random_crop import Augmentation, Chance
from pipelines.pixels.sandbox import Sandbox
from pipelines.records import Shard
from pipelines.training import order
from pipelines.training.order import Order, Places, SampleSlot

IGNORED = -100
"""The label of a place that does not count in the loss: PyTorch's own."""
_PORTION_BYTES = 8 << 20
_LEAST, _MOST = 32, 1024
_TRIES = 2
_UNREADABLE = "unreadable shard"
"""A bit that was flipped on the way from the store must not condemn a shard."""
_SANDBOX = Sandbox("pipelines.pixels.random_crop")
PART = pa.schema([("start", pa.int64()), ("stop", pa.int64())])
_SAMPLES = [
    ("steps", pa.list_(pa.int64())),
    ("places", pa.list_(pa.int32())),
    ("keys", pa.list_(pa.string())),
    ("labels", pa.list_(pa.int64())),
    ("errors", pa.list_(pa.string())),
]
READ = pa.schema(
    [
        ("failure", pa.string()),  # why a store is away; there are no samples then
        *_SAMPLES,
        ("seeds", pa.list_(pa.list_(pa.int64()))),  # epoch, shard and index
        ("images", pa.list_(pa.large_binary())),
    ]
)
"""One row a portion: samples in the order in which batches need them."""
DECODED = pa.schema([READ.field("failure"), *_SAMPLES, ("pixels", pa.large_binary())])
"""The same with pixels, a uint8 array (samples, size, size, 3)."""


class DataError(ValueError):
    """The data cannot be trained on; the message says why, and which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerShare:
    """What a worker of a stage is fed: its places of the batches in `order`, of `shards`, for `classes`."""

    order: Order
    places: Places
    shards: tuple[Shard, ...]
    augmentation: Augmentation
    classes: int

    @property
    def salt(self) -> tuple[int, ...]:
        """What chance depends on beside the sample and the epoch."""
        return (self.order.seed, *self.order.stage.encode())

    @property
    def portion(self) -> int:
        """Samples that travel together."""
        each = 3 * self.augmentation.size**2
        return max(_LEAST, min(_MOST, _PORTION_BYTES // each, self.places.stop - self.places.start))


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleBatch:
    """A worker's share of a step: uint8 images (R, H, W, 3) and int64 labels (R), IGNORED where there is an error."""

    step: int
    pixels: np.ndarray
    labels: np.ndarray
    keys: tuple[str, ...]
    errors: dict[int, str] = field(default_factory=dict)
    """Why rows do not count, by row."""


def read_parts(parts: pa.Table, ration: WorkerShare) -> Iterator[pa.Table]:
    """READ portions of the parts (see `order.parts`), one row a table."""
    for part in parts.to_pylist():
        wanted = order.wanted(ration.order, ration.places, part["start"], part["stop"])
        try:
            yield from _portions(wanted, _found(wanted, ration), ration)
        except storage.UnavailableError as error:
            row = {"failure": str(error)} | dict.fromkeys(READ.names[1:], ())
            yield pa.Table.from_pylist([row], schema=READ)


def _found(wanted: Sequence[SampleSlot], ration: WorkerShare) -> dict[tuple[int, int], tuple]:
    """Key, label, error and image of each sample by shard and index, every shard read once."""
    indices: defaultdict[int, set[int]] = defaultdict(set)
    for sample in wanted:
        indices[sample.shard].add(sample.index)
    found = {}
    for shard, some in indices.items():
        for index, entry in _read(ration.shards[shard], some, ration.classes):
            found[shard, index] = entry
    return found


def _read(shard: Shard, indices: set[int], classes: int) -> list[tuple[int, tuple]]:
    """The entries of a shard; of one that cannot be read they all say why, and take their places in batches."""
    failure = None
    for _ in range(_TRIES):
        try:
            return list(_entries(shard, indices, classes))
        except ShardError as error:
            failure = error
    reason = f"{_UNREADABLE}: {shard.uri}: {failure}"
    return [(index, (f"{shard.name}#{index}", None, reason, None)) for index in indices]


def _entries(shard: Shard, indices: set[int], classes: int) -> Iterator[tuple[int, tuple]]:
    last, index = max(indices), -1
    for index, sample in enumerate(read.samples(shard)):
        if index in indices:
            error = sample.error or _unfit(sample.label, classes)
            yield index, (sample.key, sample.label, error, sample.image)
        if index == last and index + 1 != shard.rows:  # at its end it is held against its manifest
            _require_unchanged(shard)
            return
    if index < last:
        raise ShardError(f"has no sample {last}, though it had one when the run began")


def _require_unchanged(shard: Shard) -> None:
    now = storage.stat(shard.uri)
    if (now.size, now.etag) != (shard.size, shard.etag):
        raise ShardError(f"changed since it was listed: {shard.size} bytes, {shard.etag}; now {now.size}, {now.etag}")


def _unfit(label: int | None, classes: int) -> str | None:
    if label is None:
        return MISSING_LABEL
    return None if 0 <= label < classes else f"{LABEL_RANGE}: {label} of {classes} classes"


def _portions(
    wanted: Sequence[SampleSlot], found: dict[tuple[int, int], tuple], ration: WorkerShare
) -> Iterator[pa.Table]:
    for start in range(0, len(wanted), ration.portion):
        some = wanted[start : start + ration.portion]
        keys, labels, errors, images = zip(*(found[each.shard, each.index] for each in some), strict=True)
        columns = {
            "failure": [None],
            "steps": [[each.step for each in some]],
            "places": [[each.place for each in some]],
            "keys": [keys],
            "labels": [labels],
            "errors": [errors],
            "seeds": [[(each.epoch, each.shard, each.index) for each in some]],
            "images": [images],
        }
        yield pa.table(columns, schema=READ)


def decode_samples(portions: pa.Table, how: Augmentation, salt: tuple[int, ...]) -> pa.Table:
    """READ portions as DECODED ones; `salt` is a ration's.

    Raises:
        RuntimeError: if the process that decodes cannot be started.
    """
    return pa.concat_tables([_decoded(portions.slice(row, 1), how, salt) for row in range(len(portions))])


def _decoded(portion: pa.Table, how: Augmentation, salt: tuple[int, ...]) -> pa.Table:
    errors, seeds = portion["errors"][0].as_py(), portion["seeds"][0].as_py()
    pixels = np.zeros((len(errors), how.size, how.size, 3), np.uint8)
    for row, image in enumerate(portion["images"][0].values):
        if errors[row] is None:
            chance = Chance(how, (*salt, 1, *seeds[row]))
            errors[row] = _SANDBOX.decode(memoryview(image.as_buffer()), [chance], [pixels[row]])
    kept = portion.drop_columns(["errors", "seeds", "images"])
    kept = kept.append_column("errors", pa.array([errors], READ.field("errors").type))
    return kept.append_column("pixels", one_value(pa.py_buffer(pixels))).select(DECODED.names).cast(DECODED)


def gather_batches(portions: Iterable[pa.Table], ration: WorkerShare) -> Iterator[SampleBatch]:
    """A worker's share of each batch, as soon as all of it is there.

    Raises:
        UnavailableError: if a store is away.
    """
    filling = _Filling(ration)
    for step, row, some in _pieces(portions):
        filling.add(row, some)
        if filling.is_full:
            yield filling.batch(step)
            filling = _Filling(ration)
    assert not filling.filled, f"{filling.filled} places of a batch came, and no more"


def _pieces(portions: Iterable[pa.Table]) -> Iterator[tuple[int, dict, np.ndarray]]:
    """Of each portion the samples of one step: the step, the portion, which of its samples."""
    for portion in portions:
        for row in portion.to_pylist():
            if row["failure"] is not None:
                raise storage.UnavailableError(row["failure"])
            steps = np.array(row["steps"])
            yield from ((int(step), row, np.flatnonzero(steps == step)) for step in np.unique(steps))


class _Filling:
    """A batch that is being filled."""

    def __init__(self, ration: WorkerShare) -> None:
        self._first, rows = ration.places.start, ration.places.stop - ration.places.start
        self._pixels = np.zeros((rows, ration.augmentation.size, ration.augmentation.size, 3), np.uint8)
        self._labels, self._keys = np.full(rows, IGNORED), [""] * rows
        self._errors: dict[int, str] = {}
        self.filled = 0

    def add(self, row: dict, some: np.ndarray) -> None:
        """Take those samples of a portion that are of this batch."""
        places = np.array(row["places"])[some] - self._first
        content = np.frombuffer(row["pixels"], np.uint8).reshape(-1, *self._pixels.shape[1:])
        self._pixels[places] = content[some]
        for place, at in zip(places.tolist(), some.tolist(), strict=True):
            self._keys[place], error = row["keys"][at], row["errors"][at]
            if error is None:
                self._labels[place] = row["labels"][at]
            else:
                self._errors[place] = error
        self.filled += len(some)

    @property
    def is_full(self) -> bool:
        return self.filled == len(self._keys)

    def batch(self, step: int) -> SampleBatch:
        keys = tuple(self._keys)
        return SampleBatch(step=step, pixels=self._pixels, labels=self._labels, keys=keys, errors=self._errors)
