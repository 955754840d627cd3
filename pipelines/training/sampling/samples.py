"""Reads and decodes a worker's samples, range by range, in chunks of one row that Ray Data can carry.

Every slot gets a sample: one that cannot be read, or has no usable label, keeps its slot and carries the reason, so
the other slots never depend on it. `loader` moves the chunks, `batches` makes batches of them.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines import storage
from pipelines.data import read
from pipelines.data.containers import ShardError
from pipelines.evaluation.metrics import LABEL_RANGE, MISSING_LABEL
from pipelines.pixels.decoded import one_value
from pipelines.pixels.random_crop import Augmentation, Chance
from pipelines.pixels.sandbox import Sandbox
from pipelines.records import Shard
from pipelines.training.sampling import order
from pipelines.training.sampling.order import Order, Range, SampleSlot, Slots

_CHUNK_BYTES = 8 << 20
_LEAST, _MOST = 32, 1024
"""Samples of a chunk."""
_TRIES = 2
"""A bit that flipped on the way from the store must not condemn a shard."""
_UNREADABLE = "unreadable shard"
_SANDBOX = Sandbox("pipelines.pixels.random_crop")
RANGE = pa.schema([("start", pa.int64()), ("stop", pa.int64())])
"""One row for each range, see `order.Range`."""
_SAMPLES: list[tuple[str, pa.DataType]] = [
    ("steps", pa.list_(pa.int64())),
    ("slots", pa.list_(pa.int32())),
    ("keys", pa.list_(pa.string())),
    ("labels", pa.list_(pa.int64())),
    ("errors", pa.list_(pa.string())),
]
READ = pa.schema(
    [
        ("failure", pa.string()),  # why the store is unavailable; there are no samples then
        *_SAMPLES,
        ("seeds", pa.list_(pa.list_(pa.int64()))),  # epoch, shard and index
        ("images", pa.list_(pa.large_binary())),
    ]
)
"""One row for each chunk: encoded samples in the order in which batches need them."""
DECODED = pa.schema([("failure", pa.string()), *_SAMPLES, ("pixels", pa.large_binary())])
"""One row for each chunk: the same samples with their pixels, a uint8 array (samples, size, size, 3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerShare:
    """What one worker sees of a stage.

    Args:
        order: of the stage's samples.
        slots: the worker's, in every batch.
        shards: of the stage's dataset.
        augmentation: of its images.
        classes: the number of classes; a label outside of [0, classes) is an error.
    """

    order: Order
    slots: Slots
    shards: tuple[Shard, ...]
    augmentation: Augmentation
    classes: int

    @property
    def salt(self) -> tuple[int, ...]:
        """What an augmentation's random numbers depend on, beside the sample and the epoch."""
        return (self.order.seed, *self.order.stage.encode())

    @property
    def chunk(self) -> int:
        """Samples in a chunk."""
        image_bytes = 3 * self.augmentation.size**2
        return max(_LEAST, min(_MOST, _CHUNK_BYTES // image_bytes, len(self.slots)))


@dataclass(frozen=True, slots=True)
class _Entry:
    """A sample as its shard holds it; `error` is the reason why it does not count."""

    key: str
    label: int | None
    error: str | None
    image: bytes | None


def read_ranges(ranges: pa.Table, share: WorkerShare) -> Iterator[pa.Table]:
    """Read the worker's samples of RANGE rows.

    Yields:
        READ chunks, one row a table; of a range whose store is unavailable one row with the failure.
    """
    for row in ranges.to_pylist():
        wanted = order.filled_slots(share.order, share.slots, Range(row["start"], row["stop"]))
        try:
            entries = _entries(wanted, share)
        except storage.UnavailableError as error:
            failed = {"failure": str(error)} | dict.fromkeys(READ.names[1:], ())
            yield pa.Table.from_pylist([failed], schema=READ)
        else:
            for start in range(0, len(wanted), share.chunk):
                yield _chunk(wanted[start : start + share.chunk], entries)


def _entries(wanted: Sequence[SampleSlot], share: WorkerShare) -> dict[tuple[int, int], _Entry]:
    """The entry of each sample by shard and index; every shard is read once."""
    indices: defaultdict[int, set[int]] = defaultdict(set)
    for sample in wanted:
        indices[sample.shard].add(sample.index)
    return {
        (shard, index): entry
        for shard, some in indices.items()
        for index, entry in _shard_entries(share.shards[shard], some, share.classes).items()
    }


def _shard_entries(shard: Shard, indices: set[int], classes: int) -> dict[int, _Entry]:
    """Entries of a shard by index; if it cannot be read, all of them carry the reason."""
    failure = None
    for _ in range(_TRIES):
        try:
            return dict(_read_entries(shard, indices, classes))
        except ShardError as error:
            failure = error
    reason = f"{_UNREADABLE}: {shard.uri}: {failure}"
    return {index: _Entry(f"{shard.name}#{index}", None, reason, None) for index in indices}


def _read_entries(shard: Shard, indices: set[int], classes: int) -> Iterator[tuple[int, _Entry]]:
    last, index = max(indices), -1
    for index, sample in enumerate(read.samples(shard)):
        if index in indices:
            error = sample.error or _label_error(sample.label, classes)
            yield index, _Entry(sample.key, sample.label, error, sample.image)
        if index == last and index + 1 != shard.rows:  # at its end, `read` compares it with its manifest
            _require_unchanged(shard)
            return
    if index < last:
        raise ShardError(f"has no sample {last}, although it had one when the run began")


def _require_unchanged(shard: Shard) -> None:
    now = storage.stat(shard.uri)
    if (now.size, now.etag) != (shard.size, shard.etag):
        raise ShardError(f"changed since it was listed: {shard.size} bytes, {shard.etag}; now {now.size}, {now.etag}")


def _label_error(label: int | None, classes: int) -> str | None:
    if label is None:
        return MISSING_LABEL
    return None if 0 <= label < classes else f"{LABEL_RANGE}: {label} of {classes} classes"


def _chunk(slots: Sequence[SampleSlot], entries: dict[tuple[int, int], _Entry]) -> pa.Table:
    """One READ row with the samples of these slots."""
    samples = [entries[slot.shard, slot.index] for slot in slots]
    columns = {
        "failure": [None],
        "steps": [[slot.step for slot in slots]],
        "slots": [[slot.slot for slot in slots]],
        "keys": [[sample.key for sample in samples]],
        "labels": [[sample.label for sample in samples]],
        "errors": [[sample.error for sample in samples]],
        "seeds": [[(slot.epoch, slot.shard, slot.index) for slot in slots]],
        "images": [[sample.image for sample in samples]],
    }
    return pa.table(columns, schema=READ)


def decode_samples(chunks: pa.Table, augmentation: Augmentation, salt: tuple[int, ...]) -> pa.Table:
    """Decode READ chunks into DECODED ones.

    Args:
        chunks: any number of rows.
        augmentation: of the images.
        salt: of the worker's share.

    Raises:
        RuntimeError: if the process that decodes cannot be started.
    """
    return pa.concat_tables([_decoded(chunks.slice(row, 1), augmentation, salt) for row in range(len(chunks))])


def _decoded(chunk: pa.Table, augmentation: Augmentation, salt: tuple[int, ...]) -> pa.Table:
    errors, seeds = chunk["errors"][0].as_py(), chunk["seeds"][0].as_py()
    pixels = np.zeros((len(errors), augmentation.size, augmentation.size, 3), np.uint8)
    for row, image in enumerate(chunk["images"][0].values):
        if errors[row] is None:
            chance = Chance(augmentation, (*salt, 1, *seeds[row]))
            errors[row] = _SANDBOX.decode(memoryview(image.as_buffer()), [chance], [pixels[row]])
    kept = chunk.drop_columns(["errors", "seeds", "images"])
    kept = kept.append_column("errors", pa.array([errors], pa.list_(pa.string())))
    buffer = pa.py_buffer(pixels)  # pyright: ignore[reportArgumentType]  # NumPy's stub has no buffer protocol
    return kept.append_column("pixels", one_value(buffer)).select(DECODED.names).cast(DECODED)
