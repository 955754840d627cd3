"""Which shards make a dataset: they are listed and named, none is read.

Sources are folders, globs, brace patterns and list files; digests come from the store's listing and `manifest.json`.
It is an error if a dataset is empty, two shards have one name, a name is too long for the file of a cell, or a folder
lacks shards of its manifest.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import PurePosixPath

from braceexpand import braceexpand

from pipelines import storage
from pipelines.data import listing
from pipelines.data.manifest import Manifest, PackedShard, require_complete
from pipelines.data.sidecars import without_sidecars
from pipelines.data.suffixes import SHARD_SUFFIXES, is_parquet, without_shard_suffix
from pipelines.records import Dataset, Reading, Shard
from pipelines.storage import StoredObject

_NAME_BYTES = 255
"""Limit of local disks for one part of a path."""
_CELL_ENDING = "-01234567.parquet"
"""What follows the shard's name in the file name of a cell."""


def find_dataset(
    sources: Sequence[str],
    watch: listing.Watch | None = None,
    *,
    signed: bool = True,
    reading: Reading | None = None,
) -> Dataset:
    """The dataset of the shards that `sources` name.

    A shard's name is its path below the folder that all sources share; that folder's name is the dataset's. Shards are
    in the order of the sources; within a folder or glob, by name.

    Args:
        sources: each a folder, a shard, a glob in which `*` crosses folders, a brace pattern, or a `.txt` file with one
            source per line, in which empty lines and lines that begin with `#` are skipped.
        watch: called with the number of objects listed so far, once every thousand: listing 100,000 objects takes
            seconds or, from a slow store, minutes.
        signed: False to read objects of S3 without credentials, those that lists name among them.
        reading: how samples are read from shards that have no manifest.

    Raises:
        ValueError: if there is no shard, a shard is named twice, a name is too long, or shards of a manifest are
            missing.
        FileNotFoundError: if a source matches nothing.
    """
    patterns = [pattern for source in sources for pattern in _patterns(source, signed)]
    store = listing.ListingCounter(watch)
    named = listing.look_up(store, [pattern for pattern in patterns if listing.is_shard(pattern)])
    found = [entry for pattern in patterns for entry in listing.entries(store, pattern, named)]
    if not found:
        raise ValueError(f"no shard ({', '.join(SHARD_SUFFIXES)}) under {', '.join(sources) or 'an empty --data'}")
    found = without_sidecars(found)
    root = _common_folder(
        {listing.folder_of(pattern) if pattern in named else _literal_folder(pattern) for pattern in patterns}
    )
    manifests = {
        folder: require_complete(folder) for folder in sorted({listing.folder_of(entry.uri) for entry in found})
    }
    packed = {folder: {item.name: item for item in m.shards} for folder, m in manifests.items() if m}
    shards = tuple(_shard(entry, root, packed.get(listing.folder_of(entry.uri), {})) for entry in found)
    shards = tuple(_read_as(reading, shard) for shard in shards) if reading else shards
    _require_unique_names(shards)
    _require_short_names(shards)
    _require_all_shards({pattern.rstrip("/") for pattern in patterns}, found, manifests)
    name = PurePosixPath(root).name or "dataset"
    known = [manifest for manifest in manifests.values() if manifest]
    labels, classes = _labels(known), _classes(manifests)
    return Dataset(name=name, source=" ".join(sources), shards=shards, labels=labels, classes=classes)


def _patterns(source: str, signed: bool, lists: tuple[str, ...] = ()) -> Iterator[str]:
    """The folders, shards and globs that `source` stands for, with braces and lists expanded."""
    source = source if signed else storage.anonymous(source)
    try:
        patterns = [source] if listing.exists(source) else list(braceexpand(source))
    except ValueError as error:
        raise ValueError(f"{source!r}: {error}") from error
    for pattern in map(storage.absolute, patterns):
        if not pattern.endswith(".txt") or listing.is_glob(pattern) or listing.is_folder(pattern):
            yield pattern
        elif pattern in lists:
            raise ValueError(f"{pattern}: lists itself")
        else:
            for line in _lines(pattern):
                yield from _patterns(line, signed, (*lists, pattern))


def _lines(uri: str) -> list[str]:
    try:
        lines = storage.read(uri).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{uri}: not a list of shards: {error.reason} at byte {error.start}") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _literal_folder(pattern: str) -> str:
    """The folder that a pattern names before any wildcard, so that shards added later change no shard's name."""
    return listing.folder_of(listing.GLOB.split(pattern)[0]) if listing.is_glob(pattern) else pattern.rstrip("/")


def _common_folder(folders: Iterable[str]) -> str:
    """The deepest folder above all `folders`, without a store's scheme."""
    split = [storage.path_in_store(folder).split("/") for folder in folders]
    shared = 0
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        shared += 1
    return "/".join(split[0][:shared])


def _shard(entry: StoredObject, root: str, manifest: Mapping[str, PackedShard]) -> Shard:
    name = without_shard_suffix(storage.path_in_store(entry.uri).removeprefix(root).lstrip("/"))
    packed = manifest.get(entry.uri.rpartition("/")[2])
    rows, sha256 = (packed.rows, packed.sha256) if packed else (None, None)
    return Shard(name=name, uri=entry.uri, size=entry.size, etag=entry.etag, rows=rows, sha256=sha256)


def require_reading(reading: Reading, datasets: Iterable[Dataset]) -> None:
    """Raise ValueError if a part of `reading` concerns no shard of `datasets`, so that a wrong option is not idle."""
    shards = [shard for dataset in datasets for shard in dataset.shards if shard.sha256 is None]
    for parquet, part in _parts(reading).items():
        if part.as_text() and not any(is_parquet(shard.uri) == parquet for shard in shards):
            kind = "Parquet file" if parquet else "tar"
            raise ValueError(f"{_options(part)}: the data has no {kind} but those that jobs.pack_shards packed")


def _read_as(reading: Reading, shard: Shard) -> Shard:
    """The shard with the part of `reading` that concerns it; one with a manifest is read as we wrote it."""
    return shard if shard.sha256 else replace(shard, reading=_parts(reading)[is_parquet(shard.uri)].as_text())


def _parts(reading: Reading) -> dict[bool, Reading]:
    """What concerns tars, and what concerns Parquet (True)."""
    columns = {name: value for name, value in asdict(reading).items() if name.endswith("_column")}
    members = {name: value for name, value in asdict(reading).items() if name not in columns}
    return {False: Reading(**members), True: Reading(**columns)}


def _options(reading: Reading) -> str:
    given = {name: value for name, value in asdict(reading).items() if value is not None}
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in given.items())


def _require_unique_names(shards: Sequence[Shard]) -> None:
    first: dict[str, str] = {}
    for shard in shards:
        if shard.name in first:
            raise ValueError(f"two shards named {shard.name!r}: {first[shard.name]} and {shard.uri}")
        first[shard.name] = shard.uri


def _require_short_names(shards: Sequence[Shard]) -> None:
    """Cells are named after shards. A name that is too long would fail only when the cell is written, hours later."""
    for shard in shards:
        if any(len(part.encode()) > _NAME_BYTES for part in f"{shard.name}{_CELL_ENDING}".split("/")):
            raise ValueError(
                f"shard {shard.name!r}: its name is too long: a cell's name has {len(_CELL_ENDING)} bytes more, and no "
                f"part of a path may be above {_NAME_BYTES} bytes"
            )


def _require_all_shards(
    named: set[str], found: Sequence[StoredObject], manifests: Mapping[str, Manifest | None]
) -> None:
    """Check each folder that was named, or lies below a folder that was named, against its manifest."""
    present = {entry.uri for entry in found}
    for folder, manifest in manifests.items():
        parts = folder.split("/")
        if manifest is None or named.isdisjoint("/".join(parts[:end]) for end in range(1, len(parts) + 1)):
            continue
        missing = [item.name for item in manifest.shards if f"{folder}/{item.name}" not in present]
        if missing:
            raise ValueError(
                f"{folder}: {len(missing)} of the {len(manifest.shards)} shards in its manifest are missing: "
                f"{', '.join(missing[:5])}"
            )


def _labels(manifests: Sequence[Manifest]) -> tuple[int, int] | None:
    low = [m.labels.min for m in manifests if m.labels.min is not None]
    high = [m.labels.max for m in manifests if m.labels.max is not None]
    return (min(low), max(high)) if low and high else None


def _classes(manifests: Mapping[str, Manifest | None]) -> tuple[str, ...]:
    """The class names in manifests, by folder, if they are numbered from 0 on without gap.

    Raises:
        ValueError: if two manifests number them differently.
    """
    maps = {folder: manifest.classes for folder, manifest in manifests.items() if manifest and manifest.classes}
    first = next(iter(maps), "")
    for folder, named in maps.items():
        _require_agreement(first, maps[first], folder, named)
    by_label = {label: name for name, label in maps.get(first, {}).items()}
    return tuple(by_label[label] for label in sorted(by_label)) if set(by_label) == {*range(len(by_label))} else ()


def require_same_classes(datasets: Iterable[Dataset]) -> None:
    """Raise ValueError if the manifests of two datasets number class names differently."""
    maps = {dataset.source: {name: label for label, name in enumerate(dataset.classes)} for dataset in datasets}
    named = {source: names for source, names in maps.items() if names}
    first = next(iter(named), "")
    for source, names in named.items():
        _require_agreement(first, named[first], source, names)


def _require_agreement(one: str, ours: Mapping[str, int], other: str, theirs: Mapping[str, int]) -> None:
    """Raise ValueError if a name has two labels, or a label has no name in common."""
    moved = [name for name, label in ours.items() if theirs.get(name, label) != label]
    both = {*ours.values()} & {*theirs.values()}
    renamed = both - {label for name, label in ours.items() if name in theirs}
    if moved or renamed:
        raise ValueError(f"{one} and {other} number their classes differently; pack both with one --classes FILE")
