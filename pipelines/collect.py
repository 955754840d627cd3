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

from pipelines import manifest, pack, read, storage, tasks, uri_list
from pipelines.formats import IMAGE_SUFFIXES
from pipelines.manifest import Labels, Manifest, PackedShard
from pipelines.pack import Target
from pipelines.uri_list import Listed

_READS = 16
"""Objects that a task reads at once, most of the time waiting for the store."""
_MARK = "collected.json"


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


def collect(
    location: str, target: Target, limit: int | None, dedup: bool, watch: Callable[[int, Collected], None]
) -> Manifest:
    """Pack what the list at `location` names, and write the manifest, on the cluster that is connected.

    Args:
        location: the list (see `uri_list`).
        target: where shards go and of what kind.
        limit: how many of the list's rows count.
        dedup: whether of images with the same bytes only the first is packed.
        watch: told of each slice, by its number, as they get ready.

    Raises:
        ValueError: if the list is wrong, another packing is in the target's folder, or nothing can be read.
        UnavailableError: if a store is away.
    """
    _claim(location, target, limit, dedup)
    manifest.begin(target.output)
    fresh = _fresh(location, target, limit) if dedup else None
    done: dict[int, Collected] = {}
    for number, result in _noted(location, target, limit, "notes", _write, fresh):
        done[number] = _decoded(result)
        watch(number, done[number])
    slices = [done[number] for number in sorted(done)]
    shards = tuple(part.shard for part in slices if part.shard)
    if not shards:
        raise ValueError(f"{location}: nothing that it names can be read; the first: {_first(slices)}")
    labels = _together([part.labels for part in slices])
    made = Manifest(samples=sum(shard.rows for shard in shards), labels=labels, shards=shards)
    manifest.write_manifest(target.output, made)
    return made


def _claim(location: str, target: Target, limit: int | None, dedup: bool) -> None:
    listed = storage.stat(location)
    own = {"list": storage.absolute(location), "size": listed.size, "etag": listed.etag, "limit": limit, "dedup": dedup}
    own |= {"samples_per_shard": target.samples_per_shard, "format": target.format}
    mark = storage.join(target.output, _MARK)
    try:
        storage.put(mark, (json.dumps(own) + "\n").encode())
    except FileExistsError:
        raise ValueError(f"{mark} is of another list or other options; take a new folder") from None


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
    images = _images(listed.uris)
    content = np.array([read.digest_of(i) if isinstance(i, bytes) else 0 for i in images], np.uint64).tobytes()
    storage.replace(note, content)
    return content


def _write(listed: Listed, fresh: np.ndarray | None, number: int, target: Target, note: str) -> bytes:
    """Write the shard of a slice and then its note."""
    keep = range(len(listed.uris)) if fresh is None else np.flatnonzero(fresh).tolist()
    images = dict(zip(keep, _images([listed.uris[row] for row in keep]), strict=True))
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
    storage.put(storage.join(target.output, name), data)
    return PackedShard(name=name, size=len(data), rows=len(packed), sha256=hashlib.sha256(data).hexdigest())


def _decoded(content: bytes) -> Collected:
    said = json.loads(content)
    shard = PackedShard(**said["shard"]) if said["shard"] else None
    unread = tuple((uri, reason) for uri, reason in said["unread"])
    return Collected(shard=shard, unread=unread, equal=said["equal"], labels=Labels(**said["labels"]))


def _images(uris: Sequence[str]) -> list[bytes | str]:
    """Each one's bytes, or why it cannot be read."""
    with ThreadPoolExecutor(_READS) as pool:
        return list(pool.map(_image, uris))


def _image(uri: str) -> bytes | str:
    try:
        return storage.read(uri) or "empty"
    except storage.UnavailableError:
        raise  # it is not the object's fault
    except OSError as error:
        return f"{type(error).__name__}: {error}"


def _together(labels: Sequence[Labels]) -> Labels:
    known = [some for some in labels if some.count]
    least, greatest = ([value for some in known if (value := getattr(some, end)) is not None] for end in ("min", "max"))
    count = sum(some.count for some in known)
    return Labels(min=min(least, default=None), max=max(greatest, default=None), count=count)


def _first(slices: Sequence[Collected]) -> str:
    return next((f"{uri}: {reason}" for part in slices for uri, reason in part.unread), "the list is empty")
