"""Resolve paths, globs and folders to stored objects.

Shards that are named one by one are looked up in a listing of their folder where that saves many requests.
"""

import fnmatch
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipelines import storage
from pipelines.data.other_formats import no_shard, require_plain_files
from pipelines.data.suffixes import SHARD_SUFFIXES, is_shard_name
from pipelines.storage import StoredObject

_log = logging.getLogger(__name__)
_NEAR_SUFFIX = re.compile(r"(\.tar|\.parquet|\.tgz|\.tbz2?|\.txz|\.zip)(\.\w+)?$", re.IGNORECASE)
"""`.tar.xz`, `.parquet.gz`: not shards, but a dataset must not become smaller without a warning."""
GLOB = re.compile(r"[*?\[]")
Watch = Callable[[int], None]
_WATCHED_OBJECTS = 1000
_WORTH_LISTING = 20
"""From this many shards of one folder on, the folder is listed; fewer are requested one by one."""
_LISTED_PER_SHARD = 100
"""A page of a thousand objects takes a store about as long as ten requests: beyond that a listing is given up."""
_AT_ONCE = 32
_MAX_ABSENT = 20
"""A listing may be minutes old: shards that it lacks are requested one by one, until this many prove absent."""


@dataclass(slots=True)
class ListingCounter:
    """Lists and looks up objects, and reports their number to `watch` once every thousand."""

    watch: Watch | None
    objects: int = 0

    def list_objects(self, uri: str) -> Iterator[StoredObject]:
        """Every object below `uri`, by name."""
        return map(self._count, storage.list_objects(uri))

    def look_up(self, uris: Sequence[str]) -> dict[str, StoredObject]:
        """The objects among `uris` that exist, by URI; a remote store is sent many requests at once."""
        if not any(map(storage.is_remote, uris)):
            return {uri: self._count(entry) for uri in uris if (entry := _stat(uri))}
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            return {entry.uri: self._count(entry) for entry in pool.map(_stat, uris) if entry}
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # an interrupted caller does not wait for the rest

    def _count(self, entry: StoredObject) -> StoredObject:
        self.objects += 1
        if self.watch and self.objects % _WATCHED_OBJECTS == 0:
            self.watch(self.objects)
        return entry


def _stat(uri: str) -> StoredObject | None:
    try:
        return storage.stat(uri)
    except FileNotFoundError:
        return None


def is_shard(pattern: str) -> bool:
    """Whether `pattern` names one shard."""
    return is_shard_name(pattern) and not is_glob(pattern) and not is_folder(pattern)


def look_up(counter: ListingCounter, uris: Sequence[str]) -> dict[str, StoredObject]:
    """The shards that were named one by one, by URI.

    Raises:
        FileNotFoundError: naming the first of those that do not exist.
        ValueError: if a name begins with a dot.
    """
    folders: dict[str, list[str]] = {}
    for uri in dict.fromkeys(uris):
        if PurePosixPath(uri).name.startswith("."):  # its cells would be hidden too, and never listed
            raise ValueError(f"{uri}: a shard's name must not begin with a dot")
        folders.setdefault(folder_of(uri), []).append(uri)
    found: dict[str, StoredObject] = {}
    unlisted: list[str] = []
    for folder, wanted in folders.items():
        listed, complete = _list_wanted(counter, folder, set(wanted))
        found |= listed
        rest = [uri for uri in wanted if uri not in listed]
        if complete:
            found |= _look_up_unlisted(counter, rest)
        else:
            unlisted += rest
    found |= counter.look_up(unlisted)
    if missing := [uri for wanted in folders.values() for uri in wanted if uri not in found]:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise FileNotFoundError(f"{', '.join(missing[:3])}{more}: no such file")
    return found


def _list_wanted(counter: ListingCounter, folder: str, uris: set[str]) -> tuple[dict[str, StoredObject], bool]:
    """Those of `uris` that a listing of `folder` shows, and whether the listing was read to its end.

    On S3 a listing saves one request per shard. Credentials that may read shards may still not be allowed to list them.
    """
    found: dict[str, StoredObject] = {}
    if not storage.is_remote(folder) or len(uris) < _WORTH_LISTING:
        return found, False
    try:
        for seen, entry in enumerate(counter.list_objects(folder), start=1):
            if entry.uri in uris:
                found[entry.uri] = entry
            if len(found) == len(uris) or seen == _LISTED_PER_SHARD * len(uris):
                return found, False
    except storage.DeniedError as error:
        _log.warning("%s; its shards are requested one by one", error)
        return found, False
    return found, True


def _look_up_unlisted(counter: ListingCounter, uris: Sequence[str]) -> dict[str, StoredObject]:
    """Those of `uris` that a complete listing lacked but that exist now; gives up after `_MAX_ABSENT` that do not."""
    found: dict[str, StoredObject] = {}
    requested = 0
    while requested < len(uris) and (left := _MAX_ABSENT - (requested - len(found))):
        found |= counter.look_up(uris[requested : requested + left])
        requested = min(len(uris), requested + left)
    return found


def entries(counter: ListingCounter, pattern: str, named: Mapping[str, StoredObject]) -> Sequence[StoredObject]:
    """The shards that `pattern` stands for: one of `named`, or those of a glob or a folder.

    Raises:
        FileNotFoundError: if there is no such folder, or a glob matches nothing.
        ValueError: if a folder holds no shard.
    """
    if pattern in named:
        return [named[pattern]]
    if is_glob(pattern):
        return _glob(counter, pattern)
    below = _list_folder(counter, pattern)
    found = _shards(pattern, below, below)
    if not found:
        raise ValueError(no_shard(pattern, (entry.uri for entry in below)))
    return found


def _is_hidden(uri: str, folder: str) -> bool:
    """Whether a folder below `folder` on the way to `uri` begins with a dot, as those of snapshots and editors do."""
    return any(part.startswith(".") for part in uri.removeprefix(folder).split("/")[:-1])


def exists(uri: str) -> bool:
    """Whether `uri` is an existing local path: then brackets and braces in it are plain characters."""
    return not storage.is_remote(uri) and storage.local_path(uri).exists()


def is_glob(pattern: str) -> bool:
    """Whether `pattern` has wildcards and is not itself an existing local path."""
    return bool(GLOB.search(pattern)) and not exists(pattern)


def is_folder(uri: str) -> bool:
    """Whether `uri` is a local folder; whether a remote one exists is known only from a listing."""
    return not storage.is_remote(uri) and storage.local_path(uri).is_dir()


def _list_folder(counter: ListingCounter, uri: str) -> list[StoredObject]:
    if not storage.is_remote(uri) and not storage.local_path(uri).is_dir():
        if exists(uri):
            raise ValueError(no_shard(uri, [uri]))
        raise FileNotFoundError(f"{uri}: no such folder, and not a shard ({', '.join(SHARD_SUFFIXES)})")
    return list(counter.list_objects(uri))


def _shards(source: str, chosen: Sequence[StoredObject], below: Sequence[StoredObject]) -> list[StoredObject]:
    """The shards among the objects `chosen` of those `below` a folder; a warning counts what nearly is one."""
    found = [entry for entry in chosen if is_shard_name(entry.uri) and not _is_hidden(entry.uri, source)]
    require_plain_files((entry.uri for entry in found), (entry.uri for entry in below))
    near = [entry.uri for entry in below if _NEAR_SUFFIX.search(entry.uri) and not is_shard_name(entry.uri)]
    if found and near:
        _log.warning("%s: %d files look like shards but are not taken (%s)", source, len(near), near[0])
    return found


def _glob(counter: ListingCounter, pattern: str) -> list[StoredObject]:
    folder = folder_of(pattern[: GLOB.search(pattern).start()])  # pyright: ignore[reportOptionalMemberAccess]
    below = _list_folder(counter, folder)
    matching = [entry for entry in below if fnmatch.fnmatchcase(entry.uri, pattern)]
    if not matching:
        raise FileNotFoundError(f"{pattern}: matches no shard ({', '.join(SHARD_SUFFIXES)})")
    found = _shards(folder, matching, below)
    if not found:
        raise ValueError(no_shard(pattern, (entry.uri for entry in matching)))
    return found


def folder_of(uri: str) -> str:
    """The folder that holds `uri`."""
    return uri.rpartition("/")[0] or ("/" if uri.startswith("/") else ".")
