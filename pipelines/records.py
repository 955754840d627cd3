"""What crosses a boundary in the walk: frozen dataclasses, and the Arrow schemas of chunks, scores and cells."""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache
from typing import Literal

import pyarrow as pa

from zoo.preprocessing import Geometry

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
"""Arithmetic of a model; bf16 and fp16 run under autocast."""
Decoder = Literal["exact", "fast"]
"""How images are decoded; `exact` is Pillow, as published numbers were measured."""


def short_digest(value: object) -> str:
    """The first 8 hexadecimal digits of the SHA-256 of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@cache
def _shard_digest(*identity: str | int | None) -> str:
    """Cached: 100 models on 100,000 shards need it ten million times."""
    return short_digest(identity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Where a sample's picture, label and key are in shards that others wrote; None leaves it to the rules of `data`.

    Attributes:
        image_member: the picture's member in a tar, by what follows the sample's name: `jpg`, `input.jpg`.
        label_member: likewise the label's: `cls`, `txt`, `json` (its field `label`), `json:FIELD`.
        label_from: `path` takes the folder that holds the picture for its class.
        image_column: the picture's column in Parquet.
        label_column: likewise the label's.
        key_column: likewise the key's; `ROW` numbers the rows.
    """

    image_member: str | None = None
    label_member: str | None = None
    label_from: Literal["path"] | None = None
    image_column: str | None = None
    label_column: str | None = None
    key_column: str | None = None

    def as_text(self) -> str:
        """What is given, as canonical JSON; empty if nothing is."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(given, sort_keys=True, separators=(",", ":")) if given else ""

    @staticmethod
    @cache
    def from_text(text: str) -> "Reading":
        """The reverse of `as_text`."""
        return Reading(**json.loads(text)) if text else Reading()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One object that holds samples, a tar (plain or compressed) or Parquet: the unit of planning, resume and commit.

    Attributes:
        name: the path below the dataset's root without the suffixes, unique in its dataset.
        uri: where it is.
        size: bytes.
        etag: the store's mark that changes with the content.
        rows: samples, from the manifest beside the shards; None where there is no manifest.
        sha256: of the whole object in hexadecimal, likewise.
        limit: the shard is cut to this many samples (`--limit`), which makes it another shard; None for all.
        reading: how its samples are read (see `Reading.as_text`), which makes it another shard, too; empty by default.
    """

    name: str
    uri: str
    size: int
    etag: str
    rows: int | None = None
    sha256: str | None = None
    limit: int | None = None
    reading: str = ""

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that change with the shard's name, size, etag, SHA-256, limit or reading."""
        chosen = (self.reading,) if self.reading else ()  # by default nothing: digests stay what they were
        return _shard_digest(self.name, self.size, self.etag, self.sha256, self.limit, *chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """An ordered list of shards.

    Attributes:
        name: of the folder that they share.
        source: URIs, globs, brace patterns or list files, as given.
        shards: in order.
        labels: least and greatest label where manifests have them.
        classes: the names of the classes that labels number, in their order, where manifests have them.
    """

    name: str
    source: str
    shards: tuple[Shard, ...]
    labels: tuple[int, int] | None = None
    classes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that change with any shard or their order."""
        return short_digest([shard.digest for shard in self.shards])


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a model is run. All of it is part of a cell's identity, since all of it changes probabilities.

    Attributes:
        precision: of the model's arithmetic.
        batch_size: images that the model takes at once. Kernels are chosen by shape: with another batch the same
            image's probabilities differ in the seventh digit.
        channels_last: the memory layout of images and weights.
        fold: whether batch norms are multiplied into the convolutions before them.
        compile: whether torch.compile is used, for the one shape of a batch.
    """

    precision: Precision = "fp32"
    batch_size: int = 32
    channels_last: bool = False
    fold: bool = False
    compile: bool = False

    def __str__(self) -> str:
        faster = [name.replace("_", " ") for name in ("channels_last", "fold", "compile") if getattr(self, name)]
        return ", ".join([self.precision, f"batch {self.batch_size}", *faster])


def mode_name(settings: Settings, decoder: Decoder) -> str:
    """What tables show of how a model is run: `fp32 exact`."""
    return f"{settings.precision} {decoder}"


PLAIN = Settings()
"""How models are run by default, and what other settings are compared with."""


@dataclass(frozen=True, slots=True, order=True)
class View:
    """One way to decode an image to an array of pixels; models with the same view share the work."""

    decoder: Decoder
    geometry: Geometry


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One image with its key and label, as it lies in a shard.

    Attributes:
        key: unique in its shard.
        image: encoded; None exactly where there is an error.
        label: None where there is none.
        error: why there is no image.
        offset: the byte of the tar at which its image, or its first other member, begins; None in Parquet.
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
        ("passed", pa.string()),  # in the last chunk: members that belong to no sample, counted by kind, as JSON
        ("keys", pa.list_(pa.string())),
        ("labels", pa.list_(pa.int32())),
        ("offsets", pa.list_(pa.int64())),
        ("errors", pa.list_(pa.string())),
        ("digests", pa.list_(pa.uint64())),  # of the images, see `read.digest_of`
        ("images", pa.list_(pa.large_binary())),  # encoded; null where there is an error
    ]
)
"""One row per chunk: consecutive samples of one shard, as many as a batch holds.

Ray Data may regroup rows. Since a chunk is one row, that cannot change which samples are scored together: batches are
a pure function of the shard and the batch size.
"""


SCORES = pa.schema(
    [
        ("kind", pa.string()),  # `scored`, `empty` or a FailureKind: what the row stands for, see `walk.failures`
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
        ("seconds", pa.float32()),  # of the model for this row: an equal part of its batch's time
        ("passed", pa.string()),  # in the last row: as in CHUNK
    ]
)
"""One row per model and sample: the columns of a cell (see `cell_schema`), which cell they belong to, and the time.

A row of another kind than `scored` stands for a failure, or for a shard without samples: besides `kind`, only `slot`,
`shard`, `error`, `last` (false) and `passed` have values. Lists have no fixed length here, since models of one pass may
keep different numbers of classes.
"""


def cell_schema(classes_kept: int) -> pa.Schema:
    """The columns of a cell, whose rows are in shard order.

    - `classes`, `probs`: the most probable classes, `classes_kept` of them, descending, ties by class index.
    - `label_prob`: the probability of the label.
    - `sq_prob`: the sum of all squared probabilities, for the Brier score.
    - `logsumexp`: added to the logarithm of a class's probability, it gives the class's logit.
    - `digest`: of the encoded image, by which equal images are found; null where there is no image.
    - `error`: why the row has no predictions, which are null then.
    - `offset`: only in rows with an error: where in its tar the image begins, in bytes.

    A row without a label has null `label` and `label_prob`.
    """
    return pa.schema(
        [
            ("index", pa.int32()),
            ("key", pa.string()),
            ("label", pa.int32()),
            ("classes", pa.list_(pa.int16(), classes_kept)),
            ("probs", pa.list_(pa.float32(), classes_kept)),
            ("label_prob", pa.float32()),
            ("sq_prob", pa.float32()),
            ("logsumexp", pa.float32()),
            ("digest", pa.uint64()),
            ("error", pa.string()),
            ("offset", pa.int64()),
        ]
    )
