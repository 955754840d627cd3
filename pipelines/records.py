"""What crosses a boundary in the walk: frozen dataclasses and Arrow schemas, nothing else.

Owns the columns of chunks, scores and cells. Refuses arithmetic and input/output.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from typing import Literal

import pyarrow as pa

from zoo.preprocessing import Geometry

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
"""Arithmetic of a model; bf16 and fp16 run under autocast."""
Decoder = Literal["exact", "fast"]
"""How pictures are decoded; `exact` is Pillow, as published numbers were measured."""


def short_digest(value: object) -> str:
    """The first 8 hexadecimal digits of the SHA-256 of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@cache
def _shard_digest(*identity: str | int | None) -> str:
    """Remembered: a sweep of 100 models over 100,000 shards asks ten million times."""
    return short_digest(identity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One object holding samples: WebDataset `.tar` or Parquet; the unit of planning, resume and commit.

    `name` is the path below the dataset's root without the suffix, unique in its dataset. `size` is in bytes, `etag`
    is what the store says changes with the content. `rows` and `sha256` come from a manifest, where one lies beside
    the shards. `limit` cuts the shard to its first samples (`--limit`), which makes it another shard.
    """

    name: str
    uri: str
    size: int
    etag: str
    rows: int | None = None
    sha256: str | None = None
    limit: int | None = None

    @property
    def digest(self) -> str:
        """Eight hex digits that change with the shard's name, size, etag, promised content or limit."""
        return _shard_digest(self.name, self.size, self.etag, self.sha256, self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """An ordered list of shards under `source`: URIs, globs, brace patterns or list files."""

    name: str
    source: str
    shards: tuple[Shard, ...]
    labels: tuple[int, int] | None = None
    """Least and greatest label, where manifests say it."""

    @property
    def digest(self) -> str:
        """Eight hex digits that change with any shard or their order."""
        return short_digest([shard.digest for shard in self.shards])


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a model is run. All of it is part of a cell's identity, since all of it moves probabilities.

    `batch_size` is how many images the model sees at once: kernels are chosen by shape, and with another batch the same
    image's probabilities differ in the seventh digit. `channels_last` is the layout of memory, `fold` multiplies batch
    norms into the convolutions before them, `compile` is torch.compile for that one shape.
    """

    precision: Precision = "fp32"
    batch_size: int = 32
    channels_last: bool = False
    fold: bool = False
    compile: bool = False

    def __str__(self) -> str:
        faster = [name.replace("_", " ") for name in ("channels_last", "fold", "compile") if getattr(self, name)]
        return ", ".join([self.precision, f"batch {self.batch_size}", *faster])


PLAIN = Settings()
"""How models are run where nothing else is asked for, and what other settings are held against."""


@dataclass(frozen=True, slots=True, order=True)
class View:
    """One array of pixels that a picture is decoded to; models of one view share the work."""

    decoder: Decoder
    geometry: Geometry


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One image with a key, as it lies in a shard; `image` is None exactly where `error` says why.

    `offset` is the byte of a tar at which its image (or what else there is of it) begins; None in Parquet.
    """

    key: str
    image: bytes | None
    label: int | None
    error: str | None = None
    offset: int | None = None


CHUNK = pa.schema(
    [
        ("shard", pa.int32()),  # position in the dataset
        ("start", pa.int32()),  # index in the shard of the chunk's first sample
        ("last", pa.bool_()),  # whether the shard ends with this chunk
        ("failure", pa.string()),  # why the shard cannot be read further; the chunk is then empty
        ("transient", pa.bool_()),  # whether that may be over by the next attempt
        ("keys", pa.list_(pa.string())),
        ("labels", pa.list_(pa.int32())),
        ("offsets", pa.list_(pa.int64())),
        ("errors", pa.list_(pa.string())),
        ("digests", pa.list_(pa.uint64())),  # of the images, see `read.digest_of`
        ("images", pa.list_(pa.large_binary())),  # encoded; null where there is an error
    ]
)
"""One row a chunk: consecutive samples of one shard, as many as a batch holds.

A chunk is one row, so that no regrouping by Ray Data can change which samples are scored together: batches are a
pure function of the shard and the batch size.
"""


SCORES = pa.schema(
    [
        ("kind", pa.string()),  # `scored` or a FailureKind: whether the row belongs to an image, see `walk.failures`
        ("slot", pa.int32()),  # position of the model in the pass
        ("shard", pa.int32()),  # position in the dataset
        ("last", pa.bool_()),  # whether this is the shard's last sample
        ("index", pa.int32()),
        ("key", pa.string()),
        ("label", pa.int32()),
        ("classes", pa.list_(pa.int16())),
        ("probs", pa.list_(pa.float32())),
        ("label_prob", pa.float32()),
        ("sq_prob", pa.float32()),
        ("logsumexp", pa.float32()),
        ("digest", pa.uint64()),
        ("error", pa.string()),
        ("offset", pa.int64()),
        ("seconds", pa.float32()),  # that the model took for this row, its share of a batch
    ]
)
"""One row a (model, sample): a cell's columns (see `cell_schema`), where they belong, and how long they took.

Lists are of free length here, since models of one pass may keep different numbers of classes.
"""


def cell_schema(top: int) -> pa.Schema:
    """Columns of a cell, rows in shard order.

    `classes` and `probs` are the `top` most probable classes, descending, ties by class index; `label_prob` is the
    label's probability; `sq_prob` the sum of all squared probabilities (for the Brier score). A class's logit is the
    logarithm of its probability plus `logsumexp`. `digest` is of the image's bytes, by which equal images are known;
    null where there are none. A row with `error` has null predictions; a row without a label has null `label` and
    `label_prob`. `offset` is where in its tar the image of a row with `error` begins, in bytes, so that it can be
    looked at; null in every other row.
    """
    return pa.schema(
        [
            ("index", pa.int32()),
            ("key", pa.string()),
            ("label", pa.int32()),
            ("classes", pa.list_(pa.int16(), top)),
            ("probs", pa.list_(pa.float32(), top)),
            ("label_prob", pa.float32()),
            ("sq_prob", pa.float32()),
            ("logsumexp", pa.float32()),
            ("digest", pa.uint64()),
            ("error", pa.string()),
            ("offset", pa.int64()),
        ]
    )
