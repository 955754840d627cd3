"""Which shards make a dataset: listing and naming them, without reading any.

Owns the rules for folders, globs, brace patterns and list files, and takes digests from the store's listing and from
`manifest.json`. Refuses an empty dataset, two shards of one name, and a folder that lacks what its manifest promises.
"""

import fnmatch
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from braceexpand import braceexpand

from pipelines import storage
from pipelines.manifest import Manifest, read_manifest
from pipelines.records import Dataset, Shard
from pipelines.storage import StoredObject

SUFFIXES = (".tar", ".parquet")
_GLOB = re.compile(r"[*?\[]")


def find(sources: Sequence[str]) -> Dataset:
    """The dataset under `sources`: each a folder, a shard, a glob, a brace pattern or a `.txt` file listing such.

    A list holds one source a line; empty lines and those that begin with `#` are passed over. In a glob, `*` crosses
    folders. A shard's name is its path below the folder that all of them share, and that folder's name is the
    dataset's. Order is that of the sources; within a folder or glob, by name.

    Raises:
        ValueError: if there is no shard, a shard stands twice, or a manifest names shards that are not there.
        FileNotFoundError: if a source names nothing.
    """
    patterns = [pattern for source in sources for pattern in _patterns(source)]
    found = [entry for pattern in patterns for entry in _expand(pattern)]
    if not found:
        raise ValueError(f"no shard ({' or '.join(SUFFIXES)}) under {', '.join(sources) or 'an empty --data'}")
    root = _common_folder([entry.uri for entry in found])
    manifests = {folder: read_manifest(folder) for folder in sorted({_folder(entry.uri) for entry in found})}
    shards = tuple(_shard(entry, root, manifests[_folder(entry.uri)]) for entry in found)
    _refuse_doubles(shards)
    _refuse_incomplete([pattern.rstrip("/") for pattern in patterns], found, manifests)
    name = PurePosixPath(root).name or "dataset"
    return Dataset(name=name, source=" ".join(sources), shards=shards, labels=_labels(manifests.values()))


def _patterns(source: str) -> Iterator[str]:
    """`source` without braces and lists: folders, shards and globs."""
    try:
        patterns = list(braceexpand(source))
    except ValueError as error:
        raise ValueError(f"{source!r}: {error}") from error
    for pattern in patterns:
        if not pattern.endswith(".txt") or _GLOB.search(pattern):
            yield pattern
            continue
        for line in storage.read(pattern).decode().splitlines():
            if line.strip() and not line.startswith("#"):
                yield from _patterns(line.strip())


def _expand(pattern: str) -> Sequence[StoredObject]:
    if _GLOB.search(pattern):
        return _glob(pattern)
    if pattern.endswith(SUFFIXES) and not _is_folder(pattern):
        return [storage.stat(pattern)]
    found = _list_folder(pattern)
    if not found:
        raise ValueError(f"no shard ({' or '.join(SUFFIXES)}) under {pattern}")
    return found


def _is_folder(uri: str) -> bool:
    return not storage.is_remote(uri) and storage.local_path(uri).is_dir()


def _list_folder(uri: str) -> list[StoredObject]:
    if not storage.is_remote(uri) and not storage.local_path(uri).is_dir():
        raise FileNotFoundError(f"{uri}: no such folder, and not a shard ({' or '.join(SUFFIXES)})")
    return [entry for entry in storage.list_objects(uri) if entry.uri.endswith(SUFFIXES)]


def _glob(pattern: str) -> list[StoredObject]:
    folder = _folder(pattern[: _GLOB.search(pattern).start()])  # pyright: ignore[reportOptionalMemberAccess]
    whole = pattern if "/" in pattern else f"./{pattern}"  # as the listing of `.` names what it finds
    matching = [entry for entry in _list_folder(folder) if fnmatch.fnmatchcase(entry.uri, whole)]
    if not matching:
        raise FileNotFoundError(f"{pattern}: matches no shard ({' or '.join(SUFFIXES)})")
    return matching


def _folder(uri: str) -> str:
    return uri.rpartition("/")[0] or ("/" if uri.startswith("/") else ".")


def _common_folder(uris: Sequence[str]) -> str:
    """The deepest folder above all `uris`, made absolute so that `.` and `..` have names too."""
    folders = [_absolute(_folder(uri)).split("/") for uri in uris]
    shared = 0
    for parts in zip(*folders, strict=False):
        if len(set(parts)) > 1:
            break
        shared += 1
    return "/".join(folders[0][:shared])


def _absolute(folder: str) -> str:
    return folder.removeprefix(storage.S3) if storage.is_remote(folder) else os.path.abspath(storage.local_path(folder))


def _shard(entry: StoredObject, root: str, manifest: Manifest | None) -> Shard:
    path = f"{_absolute(_folder(entry.uri))}/{PurePosixPath(entry.uri).name}"
    name = path.removeprefix(root).lstrip("/").rpartition(".")[0]
    shard = Shard(name=name, uri=entry.uri, size=entry.size, etag=entry.etag)
    promised = {item.name: item for item in manifest.shards} if manifest else {}
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
