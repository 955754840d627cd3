"""Objects that a list names -> shards, by Ray tasks, one for each shard.

A shard holds a slice of the list, whichever task is done first. Objects that cannot be read are left out, with their
reasons. On request, only the first of equal images is packed; every object is then read twice, first for its digest.
A note follows each finished slice, which is not packed again. Images are not decoded.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np

from pipelines import storage
from pipelines.cluster import tasks
from pipelines.data import manifest, read
from pipelines.data.manifest import Labels, Manifest, PackedShard
from pipelines.data.suffixes import IMAGE_SUFFIXES, MAX_IMAGE_BYTES
from pipelines.packing import pack, uri_list
from pipelines.packing.pack import Target
from pipelines.packing.uri_list import Listed, UriList

_READS = 16
"""Objects that a task reads at once; most of the time it waits for the store."""
_TOLERATED = 10
"""Unread objects that prove nothing about a list as a whole, however short it is."""
_REMEDY = "--retry-unread tries again, a higher --max-bad-rate accepts what there is"


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """An image that was read."""

    key: str
    image: bytes
    label: int | None
    uri: str

    @property
    def suffix(self) -> str:
        """The suffix of its URI, or `jpg` if that is not an image's; readers look only at the bytes."""
        suffix = self.uri.rpartition(".")[2].lower()
        return suffix if suffix in IMAGE_SUFFIXES else "jpg"

    @property
    def about(self) -> dict[str, object]:
        """No further columns."""
        return {}

    def read(self) -> bytes:
        """The encoded bytes, unchanged."""
        return self.image


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """The result for one slice: its shard, or None if it has no image; `unread` are pairs of URI and reason.

    `equal` is the number of images left out because an earlier row of the list has the same bytes.
    """

    shard: PackedShard | None
    unread: tuple[tuple[str, str], ...]
    equal: int
    labels: Labels


def forget_unread(listed: UriList, target: Target, dedup: bool) -> int:
    """Remove the notes and shards of slices with unread objects, so that they are packed again.

    If there is one and `dedup` is set, this applies to all slices: another of equal images may now be the first.

    Returns:
        The number of slices to pack again.

    Raises:
        ValueError: if another packing is in the target's folder.
    """
    manifest.reserve(target.output, uri_list.MARK, uri_list.contents(listed, target, dedup))
    notes = storage.list_objects(storage.join(target.output, "notes"))
    noted = {entry.uri: _decoded(storage.read(entry.uri)) for entry in notes}
    unread = {uri for uri, part in noted.items() if part.unread}
    again = [uri for uri in noted if uri in unread or (dedup and unread)]
    shards = [storage.join(target.output, part.shard.name) for uri in again if (part := noted[uri]).shard]
    digests = [storage.join(target.output, "digests", uri.rpartition("/")[2]) for uri in unread]
    # In this order: without a manifest the remaining shards are no dataset, and a shard without a note is packed again.
    for removed in ([storage.join(target.output, manifest.NAME)] if again else [], again, shards, digests):
        storage.remove(removed)
    return len(again)


def collect(
    listed: UriList,
    target: Target,
    dedup: bool,
    max_bad_rate: float,
    watch: Callable[[int, Collected], None],
) -> Manifest:
    """Pack the objects that the list names, and write the manifest, on the connected cluster.

    Args:
        listed: the list (see `uri_list`).
        target: the folder and form of the shards.
        dedup: whether only the first of several images with the same bytes is packed.
        max_bad_rate: the share of objects that may be unread; ten always may.
        watch: called with the number and result of each slice, in order of completion.

    Raises:
        ValueError: if the list is wrong, another packing is in the target's folder, or too many objects are unread.
        UnavailableError: if a store is unavailable.
    """
    manifest.reserve(target.output, uri_list.MARK, uri_list.contents(listed, target, dedup))
    fresh = _first_of_equal(listed, target) if dedup else None
    done: dict[int, Collected] = {}
    for number, result in _notes(listed, target, "notes", _write, fresh):
        done[number] = _decoded(result)
        watch(number, done[number])
    slices = [done[number] for number in sorted(done)]
    shards = tuple(part.shard for part in slices if part.shard)
    unread = sum(len(part.unread) for part in slices)
    objects = unread + sum(part.equal + (part.shard.rows if part.shard else 0) for part in slices)
    if not shards or unread > max(_TOLERATED, max_bad_rate * objects):
        fault = f"{unread:,} of the {objects:,} objects that it names cannot be read; {_REMEDY}"
        raise ValueError(f"{listed.uri}: {fault}; the first: {_first_unread(slices)}")
    labels = _merged([part.labels for part in slices])
    classes = listed.classes.labels if listed.classes else None
    made = Manifest(samples=sum(shard.rows for shard in shards), labels=labels, shards=shards, classes=classes)
    manifest.write_manifest(target.output, made)
    return made


def _notes(
    source: UriList,
    target: Target,
    kind: str,
    function: Callable[..., bytes],
    fresh: np.ndarray | None = None,
) -> Iterator[tuple[int, bytes]]:
    """The note of each slice, which `function` makes, with the slice's number; notes are in the folder `kind`."""
    slices = -(-uri_list.count(source) // target.samples_per_shard)
    names = [f"{number:06d}.note" for number in range(slices)]

    def calls(pending: Sequence[int]) -> Iterator[tuple[int, tuple[object, ...]]]:
        wanted = set(pending)
        for number, listed in enumerate(uri_list.slices(source, target.samples_per_shard)):
            some = None if fresh is None else fresh[listed.start : listed.start + len(listed.uris)]
            if number in wanted:
                yield number, (listed, some, number, target)

    yield from tasks.resumed(function, storage.join(target.output, kind), names, calls, lambda _, note: note)


def _first_of_equal(listed: UriList, target: Target) -> np.ndarray:
    """For each row of the list, whether no earlier row has the same image; takes 8 bytes of memory per row."""
    digests = dict(_notes(listed, target, "digests", _digest))
    every = np.concatenate([np.frombuffer(digests[number], np.uint64) for number in sorted(digests)])
    fresh = np.zeros(len(every), bool)
    fresh[np.unique(every, return_index=True)[1]] = True
    return fresh | (every == 0)  # an object that could not be read may be readable now


def _digest(listed: Listed, *_: object) -> bytes:
    """The digests of a slice's images, 8 bytes each; 0 for one that cannot be read."""
    with ThreadPoolExecutor(_READS) as pool:  # digested as they arrive: together they would take a slice's memory
        return np.array(list(pool.map(_digest_at, listed.uris)), np.uint64).tobytes()


def _write(listed: Listed, fresh: np.ndarray | None, number: int, target: Target) -> bytes:
    """Write the shard of a slice; returns the content of its note, `Collected` as JSON."""
    keep = range(len(listed.uris)) if fresh is None else np.flatnonzero(fresh).tolist()
    unfit = _unfit([listed.keys[row] for row in keep])
    with ThreadPoolExecutor(_READS) as pool:
        found = pool.map(_image_or_reason, [listed.uris[row] for row in keep], unfit)
        images = dict(zip(keep, found, strict=True))
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
    return json.dumps(asdict(done)).encode()


def _image_or_reason(uri: str, unfit: str) -> bytes | str:
    return unfit or _image(uri)


def _put(packed: Sequence[Object], name: str, target: Target) -> PackedShard:
    data = pack.tar_bytes(packed) if target.format == "tar" else pack.parquet_bytes(packed)
    uri = storage.join(target.output, name)
    try:
        storage.put(uri, data)
    except FileExistsError:  # it has no note, so it does not count; more or fewer objects are readable now
        storage.replace(uri, data)
    return PackedShard(name=name, size=len(data), rows=len(packed), sha256=hashlib.sha256(data).hexdigest())


def _decoded(content: bytes) -> Collected:
    fields = json.loads(content)
    shard = PackedShard(**fields["shard"]) if fields["shard"] else None
    unread = tuple((uri, reason) for uri, reason in fields["unread"])
    return Collected(shard=shard, unread=unread, equal=fields["equal"], labels=Labels(**fields["labels"]))


def _unfit(keys: Sequence[str]) -> list[str]:
    """For each key the reason why its shard cannot have it, or an empty text if it can."""
    seen: set[str] = set()
    reasons: list[str] = []
    for key in keys:
        again, name = key in seen, key.rpartition("/")[2]
        seen.add(key)
        if again:
            reasons.append(f"an earlier object of its shard has the key {key!r}; give a column `key`")
        elif not name or name.startswith(".") or "\0" in key:
            reasons.append(f"the key {key!r} cannot be used: its last part is empty, hidden or has a zero byte")
        else:
            reasons.append("")
    return reasons


def _digest_at(uri: str) -> int:
    image = _image(uri)
    return read.digest_of(image) if isinstance(image, bytes) else 0


def _image(uri: str) -> bytes | str:
    """The object's bytes, or the reason why there are none."""
    try:
        image = storage.read(uri)
    except storage.UnavailableError:
        raise  # not a fault of the object
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    if len(image) > MAX_IMAGE_BYTES:
        return f"too large: {len(image)} bytes is over {MAX_IMAGE_BYTES}"
    return image or "empty"


def _merged(labels: Sequence[Labels]) -> Labels:
    known = [some for some in labels if some.count]
    least, greatest = ([value for some in known if (value := getattr(some, end)) is not None] for end in ("min", "max"))
    count = sum(some.count for some in known)
    return Labels(min=min(least, default=None), max=max(greatest, default=None), count=count)


def _first_unread(slices: Sequence[Collected]) -> str:
    return next((f"{uri}: {reason}" for part in slices for uri, reason in part.unread), "the list is empty")
