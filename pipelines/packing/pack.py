"""Images -> shards: WebDataset tar or Parquet, the same bytes whenever the same images are packed.

Images are never re-encoded, and a folder that holds another packing is never written to. The manifest is written last,
so a folder without one was interrupted; packing again completes it. (Parquet bytes also depend on the pyarrow release,
which writes its version into the file.)
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.data.manifest import NAME, Labels, Manifest, PackedShard, begin, read_manifest, write_manifest
from pipelines.data.suffixes import is_shard_name

COLUMNS = pa.schema([("key", pa.string()), ("image", pa.binary()), ("label", pa.int32())])
_ROW_GROUP = 256
_PAGE_ROWS = 16
"""pyarrow checks the size of a page only after this many rows; its default of 1024 makes pages of 100 MB of images."""


class Packed(Protocol):
    """An image to be packed, with its key."""

    @property
    def key(self) -> str:
        """Its name in the shard."""
        ...

    @property
    def suffix(self) -> str:
        """The suffix of its file name, without the dot."""
        ...

    @property
    def label(self) -> int | None:
        """Its class, if it has one."""
        ...

    @property
    def about(self) -> Mapping[str, object]:
        """Further columns, by name; all images of a shard have the same names."""
        ...

    def read(self) -> bytes:
        """Its encoded bytes, unchanged."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The folder and form of shards: `output` is a URI; each shard but the last holds `samples_per_shard` samples."""

    output: str
    format: Literal["tar", "parquet"]
    samples_per_shard: int

    def __post_init__(self) -> None:
        if self.samples_per_shard < 1:
            raise ValueError(f"--samples-per-shard {self.samples_per_shard}: expected a positive number")

    def names(self, samples: int) -> list[str]:
        """The names of the shards that hold `samples` samples."""
        return [f"{position:05d}.{self.format}" for position in range(-(-samples // self.samples_per_shard))]


def pack(
    images: Sequence[Packed],
    target: Target,
    written: Callable[[PackedShard], None],
    classes: Mapping[str, int] | None = None,
) -> Manifest:
    """Write `images` as shards, each built in memory, and then their manifest.

    Args:
        images: what to pack, in order.
        target: the folder and form of the shards.
        written: called with each shard once it is written.
        classes: the label of each class name, for the manifest, where names were given.

    Raises:
        ValueError: if another packing is in the target's folder.
        FileExistsError: if a shard of another packing is there without a manifest.
    """
    before = earlier_packing(target, len(images))
    begin(target.output)
    shards: list[PackedShard] = []
    for position, name in enumerate(target.names(len(images))):
        start = position * target.samples_per_shard
        batch = images[start : start + target.samples_per_shard]
        data, shard = _built(batch, name, target)
        _require_shard(shard, before, position, target)
        storage.put(storage.join(target.output, name), data)
        shards.append(shard)
        written(shard)
    labels = label_range(images)
    manifest = Manifest(samples=len(images), labels=labels, shards=tuple(shards), classes=classes)
    write_manifest(target.output, manifest)
    return manifest


def require_same(images: Sequence[Packed], target: Target) -> None:
    """Raise as `pack` would if the target's folder has other shards than those of `images`; write nothing.

    Shards that are there are built again, since only their bytes tell. Without any, no image is read.

    Raises:
        ValueError: if another packing is in the target's folder.
        FileExistsError: if a shard of another packing is there without a manifest.
    """
    before = earlier_packing(target, len(images))
    there = {entry.uri for entry in storage.list_objects(target.output)}
    for position, name in enumerate(target.names(len(images))):
        uri = storage.join(target.output, name)
        if not before and uri not in there:
            continue
        start = position * target.samples_per_shard
        data, shard = _built(images[start : start + target.samples_per_shard], name, target)
        _require_shard(shard, before, position, target)
        if uri in there:
            storage.require_same(uri, data)


def _built(batch: Sequence[Packed], name: str, target: Target) -> tuple[bytes, PackedShard]:
    data = tar_bytes(batch) if target.format == "tar" else parquet_bytes(batch)
    return data, PackedShard(name=name, size=len(data), rows=len(batch), sha256=hashlib.sha256(data).hexdigest())


def _require_shard(shard: PackedShard, before: Manifest | None, position: int, target: Target) -> None:
    if before and before.shards[position] != shard:
        raise ValueError(
            f"{target.output}: its {NAME} belongs to another packing ({shard.name} differs); choose a new folder"
        )


def earlier_packing(target: Target, samples: int) -> Manifest | None:
    """The manifest in the target's folder from an earlier packing of as many samples, if there is one.

    Raises:
        ValueError: if the names or counts there show another packing.
    """
    folder, names = storage.join(target.output, ""), target.names(samples)
    expected = set(names)
    for entry in storage.list_objects(target.output):
        if is_shard_name(entry.uri) and entry.uri.removeprefix(folder) not in expected:
            raise ValueError(f"{entry.uri} is none of the {len(names)} shards to be packed there; choose a new folder")
    before = read_manifest(target.output)
    if before and (before.samples, [shard.name for shard in before.shards]) != (samples, names):
        raise ValueError(
            f"{target.output}: its {NAME} is of another packing: {before.samples} samples in {len(before.shards)} "
            f"shards, now {samples} in {len(names)}; choose a new folder"
        )
    return before


def label_range(images: Sequence[Packed]) -> Labels:
    """The number of labels that `images` have, the least and the greatest."""
    labels = [image.label for image in images if image.label is not None]
    return Labels(min=min(labels, default=None), max=max(labels, default=None), count=len(labels))


def tar_bytes(images: Sequence[Packed]) -> bytes:
    """A WebDataset shard: `KEY.jpg`, `KEY.cls` with the label as text, `KEY.json` with `about`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for image in images:
            _add(tar, f"{image.key}.{image.suffix}", image.read())
            if image.label is not None:
                _add(tar, f"{image.key}.cls", str(image.label).encode())
            if image.about:
                _add(tar, f"{image.key}.json", json.dumps(image.about, sort_keys=True).encode())
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # its defaults: no time, owner or group; mode 0644
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def parquet_bytes(images: Sequence[Packed]) -> bytes:
    """A Parquet shard: COLUMNS, then a column for each name in `about`.

    Nothing is compressed, since nearly all of it is encoded images; pages carry checksums.
    """
    keys, labels = [image.key for image in images], [image.label for image in images]
    columns: list[Any] = [keys, [image.read() for image in images], labels]  # the stub allows arrays alone
    table = pa.table(columns, schema=COLUMNS)
    for name in images[0].about if images else ():
        values: Any = [image.about[name] for image in images]
        table = table.append_column(name, cast("pa.Array[Any]", pa.array(values)))
    buffer = io.BytesIO()
    pq.write_table(  # pyright: ignore[reportUnknownMemberType]
        table,
        buffer,
        row_group_size=_ROW_GROUP,
        write_batch_size=_PAGE_ROWS,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    )
    return buffer.getvalue()
