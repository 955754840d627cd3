"""A selection -> shards to train on: the chosen images unchanged, with pseudo-label, score, rank and source.

Each Ray task writes the output shards of one group (see `groups`) and after them a note, which lists them and holds
thumbnails of some ranks for contact sheets. A resumed run skips groups that have a note. Images are never re-encoded; a
chosen image that cannot be read is an error, as is a folder with another selection in it.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.cluster import tasks
from pipelines.data import manifest, read
from pipelines.data.containers import ShardError
from pipelines.data.manifest import Labels, Manifest, PackedShard
from pipelines.packing import pack
from pipelines.packing.pack import Target
from pipelines.records import Dataset
from pipelines.selection import lineage, thumbnails
from pipelines.selection.files import Selection
from pipelines.selection.groups import Group

pc: Any = pyarrow.compute  # the stubs do not know what many of its functions take and return for a column
_SHARDS_KEY = b"menagerie.written"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A chosen image: `rank` counts from 1 in the class `label`; `source` is its shard, index and key in the pool."""

    image: bytes
    label: int
    score: float
    rank: int
    source: str

    @property
    def key(self) -> str:
        """The key of the sample: its class and rank, and so unique."""
        return key_of(self.label, self.rank)

    @property
    def suffix(self) -> str:
        """The suffix of its file, by its first bytes, since a Parquet shard has no file names."""
        if self.image.startswith(b"\x89PNG"):
            return "png"
        return "webp" if self.image[8:12] == b"WEBP" else "jpg"

    @property
    def about(self) -> Mapping[str, object]:
        """What is stored beside image and label."""
        return {"rank": self.rank, "score": self.score, "source": self.source}

    def read(self) -> bytes:
        """The encoded image."""
        return self.image


def key_of(label: int, rank: int) -> str:
    """The key of a chosen image in its shard."""
    return f"{label:05d}-{rank:07d}"


def materialize(
    selection: Selection,
    groups: Sequence[Group],
    target: Target,
    shown: np.ndarray,
    watch: Callable[[int, int], None],
) -> pa.Table:
    """Write all output shards and their manifest, on the cluster that is connected.

    Args:
        selection: what was chosen.
        groups: from `groups.group_shards`.
        target: where shards go, and their format.
        shown: (rows of the selection,) bool; whether a thumbnail of the row is wanted.
        watch: called with the number of output shards that are written and of their samples, after each group.

    Returns:
        The thumbnails, by class and rank (see `thumbnails.SCHEMA`).

    Raises:
        ValueError: if another selection is in the target's folder, or the pool has changed since it was scored.
    """
    own = {"format": target.format, "samples_per_shard": target.samples_per_shard}
    manifest.reserve(target.output, lineage.MARK, lineage.mark_of(selection.facts) | own)
    notes = storage.join(target.output, "notes")
    written: dict[int, PackedShard] = {}
    shown_there = [thumbnails.SCHEMA.empty_table()]
    for group, (shards, shown_here) in _written_groups(selection, groups, target, shown, notes):
        written |= {group.first + n: shard for n, shard in enumerate(shards)}
        shown_there.append(shown_here)
        watch(len(written), sum(shard.rows for shard in written.values()))
    _finish(selection, target, [written[number] for number in sorted(written)])
    return pa.concat_tables(shown_there).sort_by([("label", "ascending"), ("rank", "ascending")])  # pyright: ignore[reportUnknownMemberType]


def _finish(selection: Selection, target: Target, written: Sequence[PackedShard]) -> None:
    labels = selection.chosen["label"]
    least, greatest = (pc.min_max(labels)[name].as_py() for name in ("min", "max"))
    known = Labels(min=least, max=greatest, count=len(labels))
    manifest.write_manifest(target.output, Manifest(samples=len(labels), labels=known, shards=tuple(written)))


_Written = tuple[list[PackedShard], pa.Table]
"""The output shards of a group, and its thumbnails."""


def _written_groups(
    selection: Selection, groups: Sequence[Group], target: Target, shown: np.ndarray, notes: str
) -> Iterator[tuple[Group, _Written]]:
    """Each group with its output, in order of completion: those of an earlier run first."""
    by_shard = selection.chosen.append_column("shown", pa.array(shown)).sort_by("shard")  # pyright: ignore[reportUnknownMemberType]
    position = by_shard["shard"].to_numpy()

    def rows(group: Group) -> pa.Table:
        bounds = [np.searchsorted(position, (at, at + 1)) for at in group.shards]
        return pa.concat_tables([by_shard.slice(start, end - start) for start, end in bounds])

    def decoded(number: int, content: bytes) -> _Written | None:
        written = _decoded_note(content)
        wanted = _keys(rows(groups[number]).filter(pc.field("shown")))
        return written if _keys(written[1]) >= wanted else None  # it was done when other classes were to be shown

    def calls(pending: Sequence[int]) -> Iterator[tuple[int, tuple[object, ...]]]:
        pool = tasks.broadcast(selection.pool)
        yield from ((number, (pool, rows(groups[number]), groups[number], target)) for number in pending)

    names = [f"{group.first:06d}.note" for group in groups]
    yield from ((groups[number], done) for number, done in tasks.resumed(_write, notes, names, calls, decoded))


def _write(pool: Dataset, rows: pa.Table, group: Group, target: Target) -> bytes:
    """Write the output shards of `group` from `rows`, its rows of the selection; returns the content of its note."""
    images: list[Chosen] = []
    for position in group.shards:
        try:
            images += _chosen_of_shard(pool, position, rows)
        except ShardError as error:
            raise ValueError(f"{pool.shards[position].uri}: {error}") from None
    written: list[PackedShard] = []
    for number, places in enumerate(group.dealt([image.key for image in images]), group.first):
        some = [images[place] for place in places]
        data = pack.tar_bytes(some) if target.format == "tar" else pack.parquet_bytes(some)
        name = _name(number, target)
        storage.put(storage.join(target.output, name), data)
        written.append(PackedShard(name=name, size=len(data), rows=len(some), sha256=hashlib.sha256(data).hexdigest()))
    keys = _keys(rows.filter(rows["shown"]))
    return _encoded_note(written, thumbnails.thumbnail_rows([image for image in images if image.key in keys]))


def _keys(rows: pa.Table) -> set[str]:
    return {key_of(label, rank) for label, rank in zip(*(rows[n].to_pylist() for n in ("label", "rank")), strict=True)}


def _chosen_of_shard(pool: Dataset, position: int, chosen: pa.Table) -> Iterator[Chosen]:
    shard = pool.shards[position]
    rows: dict[int, list[dict[str, Any]]] = {}
    for row in chosen.filter(pc.equal(chosen["shard"], position)).to_pylist():
        rows.setdefault(row["index"], []).append(row)
    for index, sample in enumerate(read.samples(shard)):
        for row in rows.pop(index, ()):
            if sample.image is None:
                raise ShardError(f"sample {sample.key!r} was scored but is now an error: {sample.error}")
            source = f"{shard.name}/{index}/{sample.key}"
            yield Chosen(image=sample.image, label=row["label"], score=row["score"], rank=row["rank"], source=source)
    if rows:
        raise ShardError(f"{len(rows)} chosen samples are not in it, the first is row {min(rows)}")


def _encoded_note(written: Sequence[PackedShard], shown: pa.Table) -> bytes:
    shards = json.dumps([asdict(shard) for shard in written]).encode()
    sink = pa.BufferOutputStream()
    pq.write_table(shown.replace_schema_metadata({_SHARDS_KEY: shards}), sink, write_page_checksum=True)  # pyright: ignore[reportUnknownMemberType]
    return sink.getvalue().to_pybytes()


def _decoded_note(content: bytes) -> _Written:
    table = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)  # pyright: ignore[reportUnknownMemberType]
    shards = json.loads(table.schema.metadata[_SHARDS_KEY])
    return [PackedShard(**shard) for shard in shards], table.replace_schema_metadata(None)


def _name(number: int, target: Target) -> str:
    return f"{number:06d}.{target.format}"
