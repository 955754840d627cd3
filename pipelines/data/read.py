"""Shard -> chunks of samples, the unit in which they travel and are scored.

A shard that cannot be read to its end is one failure with its reason, never a shorter shard. How samples are stored in
a shard is the concern of `formats`.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice

import pyarrow as pa

from pipelines import storage
from pipelines.data.containers import ShardError
from pipelines.data.formats import MAX_SAMPLES, UNREADABLE, read_samples
from pipelines.data.suffixes import LABEL_ALONE
from pipelines.data.tar_members import PassedOver
from pipelines.data.tar_samples import named_within
from pipelines.records import CHUNK, Dataset, Sample, Shard
from pipelines.storage import StoredObject

_CHUNK_BYTES = 256 << 20
"""A chunk whose encoded images exceed this ends early, even if it has fewer samples than a batch."""
_DIGEST_BYTES = 8
_SHARD_ROW = pa.schema(
    [
        ("position", pa.int32()),
        ("name", pa.string()),
        ("uri", pa.string()),
        ("size", pa.int64()),
        ("etag", pa.string()),
        ("rows", pa.int64()),
        ("sha256", pa.string()),
        ("limit", pa.int64()),
        ("reading", pa.string()),
    ]
)


def shard_rows(shards: Sequence[Shard], positions: Sequence[int]) -> pa.Table:
    """One row per shard: its fields and its position in the dataset; `reading` only if a shard has one."""
    rows = [{"position": position} | asdict(shard) for position, shard in zip(positions, shards, strict=True)]
    table = pa.Table.from_pylist(rows, schema=_SHARD_ROW)
    return table if any(shard.reading for shard in shards) else table.drop_columns(["reading"])


def read_shards(rows: pa.Table, batch_size: int) -> Iterator[pa.Table]:
    """The chunks of each shard in `rows` (see `shard_rows`)."""
    for row in rows.to_pylist():
        position = row.pop("position")
        yield from chunks(position, Shard(**row), batch_size)


def chunks(position: int, shard: Shard, batch_size: int) -> Iterator[pa.Table]:
    """The shard as CHUNK tables of one row each.

    A shard without samples is one empty chunk. A shard that cannot be read to its end yields what was read and then one
    empty chunk with `failure`. The failure is transient unless a second attempt fails in the same way: a bit flipped in
    transit must not condemn a shard.

    Args:
        position: of the shard in the dataset.
        shard: what to read.
        batch_size: samples in a chunk; the last has fewer, and so has one of huge images.
    """
    passed = PassedOver(Counter())
    batches = _batched(samples(shard, passed), batch_size)
    start = 0
    try:
        batch: list[Sample] | None = next(batches, list[Sample]())
        while batch is not None:
            following = next(batches, None)
            yield _chunk(position, start, batch, None if following else passed)
            start, batch = start + len(batch), following
    except ShardError as error:
        yield _failure(position, str(error), transient=not _fails_again(shard, error))
    except storage.UnavailableError as error:
        yield _failure(position, str(error), transient=True)


def _fails_again(shard: Shard, error: ShardError) -> bool:
    try:
        for _ in samples(shard):
            pass
    except (ShardError, storage.UnavailableError) as again:
        return str(again) == str(error)
    return False


def samples(shard: Shard, passed: PassedOver | None = None) -> Iterator[Sample]:
    """Every sample of `shard` in order, up to its limit; the second of two equal keys carries an error.

    Args:
        shard: what to read; it may hold no samples.
        passed: counts, to which members that are no part of a sample are added.

    Raises:
        ShardError: if the shard cannot be read to its end, or differs from its manifest.
        UnavailableError: if its store cannot be reached.
    """
    rows = 0
    first: dict[str, int] = {}
    masks: dict[str, int] = {}
    alone: set[str] = set()  # keys of labels without a picture: one that comes later belongs to it
    try:
        for sample in read_samples(shard, passed):
            seen = first.setdefault(sample.key, rows)
            if sample.error == LABEL_ALONE:
                alone.add(sample.key)
            if seen != rows and sample.key in alone:
                raise ShardError(_apart(sample.key, seen, rows))
            _require_together(named_within(shard, sample), sample.key, first, masks)
            yield (sample if seen == rows else _failed(sample, f"duplicate key: {sample.key!r} is row {seen} already"))
            rows += 1
            if rows > MAX_SAMPLES:
                raise ShardError(f"holds more than {MAX_SAMPLES} samples")
        now = storage.stat(shard.uri)
    except storage.UnavailableError:
        raise
    except UNREADABLE as error:
        raise ShardError(f"{type(error).__name__}: {error}") from error
    if shard.limit is None and shard.rows not in {None, rows}:
        raise ShardError(f"holds {rows} samples, its manifest says {shard.rows}")
    if now != StoredObject(shard.uri, shard.size, shard.etag):
        raise ShardError(f"changed since it was listed: {shard.size} bytes, {shard.etag}; now {now.size}, {now.etag}")


def _require_together(whole: str, key: str, first: Mapping[str, int], masks: dict[str, int]) -> None:
    """Raise ShardError if a sample and a picture that is part of it stand apart: the picture is no sample.

    `whole` is the key of the sample of which the last one read, that of `key`, is a part; empty if it is none. `first`
    has the row of each key, `masks` the first row that is part of a sample, by that sample's key.
    """
    if whole:
        masks.setdefault(whole, first[key])
    part = whole or key
    if part in masks and part in first:
        earlier = first[part] if whole else masks[part]
        raise ShardError(f"{_apart(part, earlier, first[key])}, or --image-member '*' makes every picture a sample")


def _apart(key: str, first: int, second: int) -> str:
    return f"members of sample {key!r} are not adjacent (rows {first} and {second}); pack them by name: tar --sort=name"


def limited(dataset: Dataset, most: int | None) -> Dataset:
    """The first `most` samples of `dataset`, or all; shards without a manifest are read to count their samples.

    A shard that cannot be read is kept, so that it is reported by name, and counts as empty.

    Raises:
        ValueError: if `most` is not positive.
    """
    if most is None:
        return dataset
    if most < 1:
        raise ValueError(f"--limit {most}: expected a positive number of images")
    kept: list[Shard] = []
    for shard in dataset.shards:
        rows = shard.rows if shard.rows is not None else _count(shard, most + 1)
        kept.append(replace(shard, limit=most) if rows > most else shard)
        most -= min(rows, most)
        if not most:
            break
    return replace(dataset, shards=tuple(kept))


def _count(shard: Shard, most: int) -> int:
    try:
        return sum(1 for _ in islice(samples(shard), most))
    except ShardError:
        return 0


def _batched(items: Iterator[Sample], size: int) -> Iterator[list[Sample]]:
    batch: list[Sample] = []
    held = 0
    for item in items:
        batch.append(item)
        held += len(item.image or b"")
        if len(batch) == size or held > _CHUNK_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _chunk(position: int, start: int, batch: list[Sample], passed: PassedOver | None) -> pa.Table:
    """A chunk; the last one of its shard has what was `passed` over."""
    columns = {
        "shard": [position],
        "start": [start],
        "last": [passed is not None],
        "failure": [None],
        "transient": [None],
        "passed": [passed.as_text() if passed else None],
        "keys": [[sample.key for sample in batch]],
        "labels": [[sample.label for sample in batch]],
        "offsets": [[sample.offset for sample in batch]],
        "errors": [[sample.error for sample in batch]],
        "digests": [[None if sample.image is None else digest_of(sample.image) for sample in batch]],
        "images": [[sample.image for sample in batch]],
    }
    return pa.table(columns, schema=CHUNK)


def digest_of(image: bytes) -> int:
    """A BLAKE2b of 64 bits; among a billion different images, two share one with a probability of 1 in 37."""
    return int.from_bytes(hashlib.blake2b(image, digest_size=_DIGEST_BYTES).digest(), "big")


def _failure(position: int, reason: str, *, transient: bool) -> pa.Table:
    row = {"shard": position, "start": 0, "last": False, "failure": reason, "transient": transient}
    lists = dict.fromkeys(("keys", "labels", "offsets", "errors", "digests", "images"), ())
    return pa.Table.from_pylist([row | lists], schema=CHUNK)


def _failed(sample: Sample, reason: str) -> Sample:
    return replace(sample, image=None, error=reason)
