"""Objects that a list names -> shards, by Ray tasks, a shard each.

Owns which shard holds what (a slice of the list each, whatever gets ready first), what cannot be read (left out, with
its reason), and that of equal images the first in the list is packed alone where that is asked for: then every object
is read twice, first for its digest. What is done is noted behind it, and not done again. Refuses to look into an image.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np

from pipelines import storage
from pipelines.cluster import tasks
from pipelines.data import manifest, read
from pipelines.data.formats import IMAGE_SUFFIXES, MAX_IMAGE_BYTES
from pipelines.data.manifest import Labels, Manifest, PackedShard
from pipelines.packing import pack, uri_list
from pipelines.packing.pack import Target
from pipelines.packing.uri_list import Listed

_READS = 16
"""Objects that a task reads at once, most of the time waiting for the store."""
_TOLERATED = 10
"""Unread objects that prove nothing about a list as a whole, however short it is."""
_MARK = "collected.json"
_REMEDY = "--retry-unread tries again, a higher --max-bad-rate takes what there is"


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """An image that was read."""

    key: str
    image: bytes
    label: int | None
    uri: str

    @property
    def suffix(self) -> str:
        """As its URI says, or `jpg` where that says nothing: readers go by the bytes."""
        suffix = self.uri.rpartition(".")[2].lower()
        return suffix if suffix in IMAGE_SUFFIXES else "jpg"

    @property
    def about(self) -> dict[str, object]:
        """Nothing lies beside it."""
        return {}

    def read(self) -> bytes:
        """The bytes as they are."""
        return self.image


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What became of one slice: its shard, None where nothing is left; `unread` are (URI, reason)."""

    shard: PackedShard | None
    unread: tuple[tuple[str, str], ...]
    equal: int
    labels: Labels


def forget_unread(location: str, target: Target, limit: int | None, dedup: bool) -> int:
    """Remove the notes and shards of slices of which something could not be read, so that they are made again.

    With `dedup` those of all slices, if there is one such: of equal images another may now be the first.

    Returns:
        How many slices there were.

    Raises:
        ValueError: if another packing is in the target's folder.
    """
    _claim(location, target, limit, dedup)
    notes = storage.list_objects(storage.join(target.output, "notes"))
    noted = {entry.uri: _decoded(storage.read(entry.uri)) for entry in notes}
    unread = {uri for uri, part in noted.items() if part.unread}
    again = [uri for uri in noted if uri in unread or (dedup and unread)]
    shards = [storage.join(target.output, part.shard.name) for uri in again if (part := noted[uri]).shard]
    digests = [storage.join(target.output, "digests", uri.rpartition("/")[2]) for uri in unread]
    # In this order: without a manifest nobody takes a rest for the whole, and a shard that is not noted is made again.
    for removed in ([storage.join(target.output, manifest.NAME)] if again else [], again, shards, digests):
        storage.remove(removed)
    return len(again)


def collect(
    location: str,
    target: Target,
    limit: int | None,
    dedup: bool,
    max_bad_rate: float,
    watch: Callable[[int, Collected], None],
) -> Manifest:
    """Pack what the list at `location` names, and write the manifest, on the cluster that is connected.

    Args:
        location: the list (see `uri_list`).
        target: where shards go and of what kind.
        limit: how many of the list's rows count.
        dedup: whether of images with the same bytes only the first is packed.
        max_bad_rate: the share of objects that may be unread; ten always may.
        watch: told of each slice, by its number, as they get ready.

    Raises:
        ValueError: if the list is wrong, another packing is in the target's folder, or too much cannot be read.
        UnavailableError: if a store is away.
    """
    _claim(location, target, limit, dedup)
    fresh = _fresh(location, target, limit) if dedup else None
    done: dict[int, Collected] = {}
    for number, result in _noted(location, target, limit, "notes", _write, fresh):
        done[number] = _decoded(result)
        watch(number, done[number])
    slices = [done[number] for number in sorted(done)]
    shards = tuple(part.shard for part in slices if part.shard)
    unread = sum(len(part.unread) for part in slices)
    objects = unread + sum(part.equal + (part.shard.rows if part.shard else 0) for part in slices)
    if not shards or unread > max(_TOLERATED, max_bad_rate * objects):
        told = f"{unread:,} of the {objects:,} objects that it names cannot be read; {_REMEDY}"
        raise ValueError(f"{location}: {told}; the first: {_first(slices)}")
    labels = _together([part.labels for part in slices])
    made = Manifest(samples=sum(shard.rows for shard in shards), labels=labels, shards=shards)
    manifest.write_manifest(target.output, made)
    return made


def _claim(location: str, target: Target, limit: int | None, dedup: bool) -> None:
    listed = storage.stat(location)
    own = {"list": storage.absolute(location), "size": listed.size, "etag": listed.etag, "limit": limit, "dedup": dedup}
    own |= {"samples_per_shard": target.samples_per_shard, "format": target.format}
    manifest.claim(target.output, _MARK, own)


def _noted(
    location: str,
    target: Target,
    limit: int | None,
    kind: str,
    function: Callable[..., bytes],
    fresh: np.ndarray | None = None,
) -> Iterator[tuple[int, bytes]]:
    """What `function` gives for each slice, with its number, as they get ready; it puts a note of it below `kind`."""
    notes = storage.join(target.output, kind)
    there = {entry.uri for entry in storage.list_objects(notes)}

    def note(number: int) -> str:
        return storage.join(notes, f"{number:06d}.note")

    def calls() -> Iterator[tuple[int, tuple]]:
        for number, listed in enumerate(uri_list.slices(location, target.samples_per_shard, limit)):
            some = None if fresh is None else fresh[listed.start : listed.start + len(listed.uris)]
            if note(number) not in there:
                yield number, (listed, some, number, target, note(number))

    slices = -(-min(uri_list.count(location), limit or sys.maxsize) // target.samples_per_shard)
    yield from ((number, storage.read(note(number))) for number in range(slices) if note(number) in there)
    yield from tasks.run(function, calls())


def _fresh(location: str, target: Target, limit: int | None) -> np.ndarray:
    """Of each row of the list, whether no row before it has the same image; 8 bytes a row are held for it."""
    digests = dict(_noted(location, target, limit, "digests", _digest))
    every = np.concatenate([np.frombuffer(digests[number], np.uint64) for number in sorted(digests)])
    fresh = np.zeros(len(every), bool)
    fresh[np.unique(every, return_index=True)[1]] = True
    return fresh | (every == 0)  # what could not be read may be readable now


def _digest(listed: Listed, _: None, __: int, ___: Target, note: str) -> bytes:
    with ThreadPoolExecutor(_READS) as pool:  # digested as they come: together they would take a slice's memory
        content = np.array(list(pool.map(_digest_at, listed.uris)), np.uint64).tobytes()
    storage.replace(note, content)
    return content


def _write(listed: Listed, fresh: np.ndarray | None, number: int, target: Target, note: str) -> bytes:
    """Write the shard of a slice and then its note."""
    keep = range(len(listed.uris)) if fresh is None else np.flatnonzero(fresh).tolist()
    unfit = _unfit([listed.keys[row] for row in keep])
    with ThreadPoolExecutor(_READS) as pool:
        read_or_not = pool.map(lambda row, reason: reason or _image(listed.uris[row]), keep, unfit)
        images = dict(zip(keep, read_or_not, strict=True))
    packed = [
        Object(key=listed.keys[row], image=image, label=listed.labels[row], uri=listed.uris[row])
        for row, image in images.items()
        if isinstance(image, bytes)
    ]
    done = Collected(
        shard=_put(packed, f"{number:06d}.{target.format}", target) if packed else None,
        unread=tuple((listed.uris[row], reason) for row, reason in images.items() if isinstance(reason, str)),
        equal=len(listed.uris) - len(keep),
        labels=pack.label_range(packed),
    )
    content = json.dumps(asdict(done)).encode()
    storage.replace(note, content)
    return content


def _put(packed: Sequence[Object], name: str, target: Target) -> PackedShard:
    data = pack.tar_bytes(packed) if target.format == "tar" else pack.parquet_bytes(packed)
    uri = storage.join(target.output, name)
    try:
        storage.put(uri, data)
    except FileExistsError:  # it was not noted, so it counts for nothing; since then more could be read, or less
        storage.replace(uri, data)
    return PackedShard(name=name, size=len(data), rows=len(packed), sha256=hashlib.sha256(data).hexdigest())


def _decoded(content: bytes) -> Collected:
    said = json.loads(content)
    shard = PackedShard(**said["shard"]) if said["shard"] else None
    unread = tuple((uri, reason) for uri, reason in said["unread"])
    return Collected(shard=shard, unread=unread, equal=said["equal"], labels=Labels(**said["labels"]))


def _unfit(keys: Sequence[str]) -> list[str]:
    """Why a key cannot be one of its shard, of each; empty where it can."""
    seen: set[str] = set()
    reasons = []
    for key in keys:
        again, name = key in seen, key.rpartition("/")[2]
        seen.add(key)
        if again:
            reasons.append(f"the key {key!r} is an earlier object's of its shard; give a column `key`")
        elif not name or name.startswith(".") or "\0" in key:
            reasons.append(f"the key {key!r} is none for a sample: its last part is empty, hidden or has a zero byte")
        else:
            reasons.append("")
    return reasons


def _digest_at(uri: str) -> int:
    image = _image(uri)
    return read.digest_of(image) if isinstance(image, bytes) else 0


def _image(uri: str) -> bytes | str:
    """The object's bytes, or why there are none."""
    if "://" in uri and not uri.startswith(("s3://", "file://")):
        return f"unknown scheme {uri.partition('://')[0]!r}; known: s3://, file:// and local paths"
    try:
        image = storage.read(uri)
    except storage.UnavailableError:
        raise  # it is not the object's fault
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    if len(image) > MAX_IMAGE_BYTES:
        return f"too large: {len(image)} bytes is over {MAX_IMAGE_BYTES}"
    return image or "empty"


def _together(labels: Sequence[Labels]) -> Labels:
    known = [some for some in labels if some.count]
    least, greatest = ([value for some in known if (value := getattr(some, end)) is not None] for end in ("min", "max"))
    count = sum(some.count for some in known)
    return Labels(min=min(least, default=None), max=max(greatest, default=None), count=count)


def _first(slices: Sequence[Collected]) -> str:
    return next((f"{uri}: {reason}" for part in slices for uri, reason in part.unread), "the list is empty")
