"""Which shards make a dataset: listing and naming them, without reading any.

Owns the rules for folders, globs, brace patterns and list files, and takes digests from the store's listing and from
`manifest.json`. Refuses an empty dataset, two shards of one name, and a folder that lacks what its manifest promises.
"""

import fnmatch
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from braceexpand import braceexpand

from pipelines import storage
from pipelines.manifest import Manifest, PackedShard, require_complete
from pipelines.records import Dataset, Shard
from pipelines.storage import StoredObject

_log = logging.getLogger(__name__)
SUFFIXES = (".tar", ".parquet")
_NEARLY = re.compile(r"(\.tar|\.parquet|\.tgz)(\.\w+)?$", re.IGNORECASE)
"""`.TAR`, `.tar.gz`: left out, they would make a dataset smaller without a word."""
_GLOB = re.compile(r"[*?\[]")


def find(sources: Sequence[str]) -> Dataset:
    """The dataset under `sources`: each a folder, a shard, a glob, a brace pattern or a `.txt` file listing such.

    A list holds one source a line; empty lines and those that begin with `#` are passed over. In a glob, `*` crosses
    folders. A shard's name is its path below the folder that all sources share, and that folder's name is the
    dataset's. Order is that of the sources; within a folder or glob, by name.

    Raises:
        ValueError: if there is no shard, a shard stands twice, or a manifest names shards that are not there.
        FileNotFoundError: if a source names nothing.
    """
    patterns = [pattern for source in sources for pattern in _patterns(source)]
    found = [entry for pattern in patterns for entry in _expand(pattern)]
    if not found:
        raise ValueError(f"no shard ({' or '.join(SUFFIXES)}) under {', '.join(sources) or 'an empty --data'}")
    root = _common_folder([_literal_folder(pattern) for pattern in patterns])
    manifests = {folder: require_complete(folder) for folder in sorted({_folder(entry.uri) for entry in found})}
    packed = {folder: {item.name: item for item in m.shards} for folder, m in manifests.items() if m}
    shards = tuple(_shard(entry, root, packed.get(_folder(entry.uri), {})) for entry in found)
    _refuse_doubles(shards)
    _refuse_incomplete([pattern.rstrip("/") for pattern in patterns], found, manifests)
    name = PurePosixPath(root).name or "dataset"
    return Dataset(name=name, source=" ".join(sources), shards=shards, labels=_labels(manifests.values()))


def _patterns(source: str, lists: tuple[str, ...] = ()) -> Iterator[str]:
    """`source` without braces and lists: folders, shards and globs."""
    try:
        patterns = [source] if _exists(source) else list(braceexpand(source))
    except ValueError as error:
        raise ValueError(f"{source!r}: {error}") from error
    for pattern in map(storage.absolute, patterns):
        if not pattern.endswith(".txt") or _is_glob(pattern) or _is_folder(pattern):
            yield pattern
        elif pattern in lists:
            raise ValueError(f"{pattern}: lists itself")
        else:
            for line in _lines(pattern):
                yield from _patterns(line, (*lists, pattern))


def _lines(uri: str) -> list[str]:
    try:
        lines = storage.read(uri).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{uri}: not a list of shards: {error.reason} at byte {error.start}") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _expand(pattern: str) -> Sequence[StoredObject]:
    if _is_glob(pattern):
        return _glob(pattern)
    if pattern.endswith(SUFFIXES) and not _is_folder(pattern):
        if PurePosixPath(pattern).name.startswith("."):  # its cells would be hidden too, and never be listed
            raise ValueError(f"{pattern}: a shard's name must not begin with a dot")
        return [storage.stat(pattern)]
    found = _list_folder(pattern)
    if not found:
        raise ValueError(f"no shard ({' or '.join(SUFFIXES)}) under {pattern}")
    return found


def _exists(uri: str) -> bool:
    """Whether `uri` is a local path as it stands: then its brackets and braces are letters."""
    return not storage.is_remote(uri) and storage.local_path(uri).exists()


def _is_glob(pattern: str) -> bool:
    return bool(_GLOB.search(pattern)) and not _exists(pattern)


def _is_folder(uri: str) -> bool:
    return not storage.is_remote(uri) and storage.local_path(uri).is_dir()


def _list_folder(uri: str) -> list[StoredObject]:
    if not storage.is_remote(uri) and not storage.local_path(uri).is_dir():
        raise FileNotFoundError(f"{uri}: no such folder, and not a shard ({' or '.join(SUFFIXES)})")
    found = list(storage.list_objects(uri))
    if near := [entry.uri for entry in found if _NEARLY.search(entry.uri) and not entry.uri.endswith(SUFFIXES)]:
        _log.warning("%s: %d files look like shards and are left out (%s)", uri, len(near), near[0])
    return [entry for entry in found if entry.uri.endswith(SUFFIXES)]


def _glob(pattern: str) -> list[StoredObject]:
    folder = _folder(pattern[: _GLOB.search(pattern).start()])  # pyright: ignore[reportOptionalMemberAccess]
    matching = [entry for entry in _list_folder(folder) if fnmatch.fnmatchcase(entry.uri, pattern)]
    if not matching:
        raise FileNotFoundError(f"{pattern}: matches no shard ({' or '.join(SUFFIXES)})")
    return matching


def _folder(uri: str) -> str:
    return uri.rpartition("/")[0] or ("/" if uri.startswith("/") else ".")


def _literal_folder(pattern: str) -> str:
    """The folder that a pattern names before any wildcard: what is added below it later moves no name."""
    if _is_glob(pattern) or (pattern.endswith(SUFFIXES) and not _is_folder(pattern)):
        return _folder(_GLOB.split(pattern)[0] if _is_glob(pattern) else pattern)
    return pattern.rstrip("/")


def _common_folder(folders: Sequence[str]) -> str:
    """The deepest folder above all `folders`, without a store's scheme."""
    split = [folder.removeprefix(storage.S3).split("/") for folder in folders]
    shared = 0
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        shared += 1
    return "/".join(split[0][:shared])


def _shard(entry: StoredObject, root: str, promised: Mapping[str, PackedShard]) -> Shard:
    name = entry.uri.removeprefix(storage.S3).removeprefix(root).lstrip("/").rpartition(".")[0]
    shard = Shard(name=name, uri=entry.uri, size=entry.size, etag=entry.etag)
    packed = promised.get(PurePosixPath(entry.uri).name)
    return replace(shard, rows=packed.rows, sha256=packed.sha256) if packed else shard


def _refuse_doubles(shards: Sequence[Shard]) -> None:
    first: dict[str, str] = {}
    for shard in shards:
        if shard.name in first:
            raise ValueError(f"two shards named {shard.name!r}: {first[shard.name]} and {shard.uri}")
        first[shard.name] = shard.uri


def _refuse_incomplete(
    patterns: Sequence[str], found: Sequence[StoredObject], manifests: Mapping[str, Manifest | None]
) -> None:
    """Holds each folder that was taken whole, itself or with one above it, against its manifest."""
    there = {entry.uri for entry in found}
    for folder, manifest in manifests.items():
        if manifest is None or not any(f"{folder}/".startswith(f"{pattern}/") for pattern in patterns):
            continue
        missing = [item.name for item in manifest.shards if f"{folder}/{item.name}" not in there]
        if missing:
            raise ValueError(
                f"{folder}: {len(missing)} of the {len(manifest.shards)} shards in its manifest are not there: "
                f"{', '.join(missing[:5])}"
            )


def _labels(manifests: Iterable[Manifest | None]) -> tuple[int, int] | None:
    ranges = [(m.labels.min, m.labels.max) for m in manifests if m]
    low = [least for least, _ in ranges if least is not None]
    high = [most for _, most in ranges if most is not None]
    return (min(low), max(high)) if low and high else None
