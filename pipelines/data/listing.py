"""What is there of a dataset's shards: those that were named one by one, and those in folders and globs.

Owns how a store is asked: a listing where it spares many questions, and how many objects have been seen. Refuses to
say what makes a dataset.
"""

import fnmatch
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipelines import storage
from pipelines.storage import StoredObject

_log = logging.getLogger(__name__)
SUFFIXES = (".tar", ".parquet")
_NEARLY = re.compile(r"(\.tar|\.parquet|\.tgz)(\.\w+)?$", re.IGNORECASE)
"""`.TAR`, `.tar.gz`: left out, they would make a dataset smaller without a word."""
GLOB = re.compile(r"[*?\[]")
Watch = Callable[[int], None]
_WATCHED_OBJECTS = 1000
_WORTH_LISTING = 20
"""So many shards of one folder are looked up in a listing of it; fewer are asked for one by one."""
_LISTED_PER_SHARD = 100
"""A page of a thousand objects takes a store about as long as ten questions: beyond that a listing is given up."""
_AT_ONCE = 32
_ASKED_AGAIN = 20
"""A listing may be minutes old: shards that it lacks are asked for, until so many are really not there."""


@dataclass(slots=True)
class ListingCounter:
    """What stores say is there, counted for `watch`."""

    watch: Watch | None
    objects: int = 0

    def list_objects(self, uri: str) -> Iterator[StoredObject]:
        """Every object below `uri`, by name."""
        return map(self._count, storage.list_objects(uri))

    def ask(self, uris: Sequence[str]) -> dict[str, StoredObject]:
        """Those of the objects `uris` that are there, by URI; stores that are far away are asked for many at once."""
        if not any(map(storage.is_remote, uris)):
            return {uri: self._count(entry) for uri in uris if (entry := _stat(uri))}
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            return {entry.uri: self._count(entry) for entry in pool.map(_stat, uris) if entry}
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # who gives up waiting does not wait for the rest

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
    return pattern.endswith(SUFFIXES) and not is_glob(pattern) and not is_folder(pattern)


def look_up(store: ListingCounter, uris: Sequence[str]) -> dict[str, StoredObject]:
    """The shards that were named one by one, by URI.

    Raises:
        FileNotFoundError: if some are not there, naming the first of them.
        ValueError: if a name begins with a dot.
    """
    folders: dict[str, list[str]] = {}
    for uri in dict.fromkeys(uris):
        if PurePosixPath(uri).name.startswith("."):  # its cells would be hidden too, and never be listed
            raise ValueError(f"{uri}: a shard's name must not begin with a dot")
        folders.setdefault(folder_of(uri), []).append(uri)
    there: dict[str, StoredObject] = {}
    unlisted: list[str] = []
    for folder, wanted in folders.items():
        listed, to_its_end = _listed(store, folder, set(wanted))
        there |= listed
        rest = [uri for uri in wanted if uri not in listed]
        if to_its_end:
            there |= _ask_again(store, rest)
        else:
            unlisted += rest
    there |= store.ask(unlisted)
    if missing := [uri for wanted in folders.values() for uri in wanted if uri not in there]:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise FileNotFoundError(f"{', '.join(missing[:3])}{more}: no such file")
    return there


def _listed(store: ListingCounter, folder: str, uris: set[str]) -> tuple[dict[str, StoredObject], bool]:
    """Those of `uris` that a listing of `folder` shows, and whether it was read to its end.

    On S3 a listing spares a request for each shard; who may read shards there may still not be allowed to list them.
    """
    there: dict[str, StoredObject] = {}
    if not storage.is_remote(folder) or len(uris) < _WORTH_LISTING:
        return there, False
    try:
        for seen, entry in enumerate(store.list_objects(folder), start=1):
            if entry.uri in uris:
                there[entry.uri] = entry
            if len(there) == len(uris) or seen == _LISTED_PER_SHARD * len(uris):
                return there, False
    except storage.DeniedError as error:
        _log.warning("%s; its shards are asked for one by one", error)
        return there, False
    return there, True


def _ask_again(store: ListingCounter, uris: Sequence[str]) -> dict[str, StoredObject]:
    """Those of `uris` that came after their folder was listed, until so many are really not there."""
    there: dict[str, StoredObject] = {}
    asked = 0
    while asked < len(uris) and (left := _ASKED_AGAIN - (asked - len(there))):
        there |= store.ask(uris[asked : asked + left])
        asked = min(len(uris), asked + left)
    return there


def entries(store: ListingCounter, pattern: str, named: Mapping[str, StoredObject]) -> Sequence[StoredObject]:
    """The shards that `pattern` stands for: one of `named`, or those of a glob or a folder.

    Raises:
        FileNotFoundError: if there is no such folder, or a glob matches nothing.
        ValueError: if a folder holds no shard.
    """
    if pattern in named:
        return [named[pattern]]
    if is_glob(pattern):
        return _glob(store, pattern)
    found = _list_folder(store, pattern)
    if not found:
        raise ValueError(f"no shard ({' or '.join(SUFFIXES)}) under {pattern}")
    return found


def exists(uri: str) -> bool:
    """Whether `uri` is a local path as it stands: then its brackets and braces are letters."""
    return not storage.is_remote(uri) and storage.local_path(uri).exists()


def is_glob(pattern: str) -> bool:
    """Whether `pattern` has wildcards, and is not the name of something on this disk."""
    return bool(GLOB.search(pattern)) and not exists(pattern)


def is_folder(uri: str) -> bool:
    """Whether `uri` is a folder on this disk; of a store nobody can tell before it is listed."""
    return not storage.is_remote(uri) and storage.local_path(uri).is_dir()


def _list_folder(store: ListingCounter, uri: str) -> list[StoredObject]:
    if not storage.is_remote(uri) and not storage.local_path(uri).is_dir():
        raise FileNotFoundError(f"{uri}: no such folder, and not a shard ({' or '.join(SUFFIXES)})")
    found = list(store.list_objects(uri))
    if near := [entry.uri for entry in found if _NEARLY.search(entry.uri) and not entry.uri.endswith(SUFFIXES)]:
        _log.warning("%s: %d files look like shards and are left out (%s)", uri, len(near), near[0])
    return [entry for entry in found if entry.uri.endswith(SUFFIXES)]


def _glob(store: ListingCounter, pattern: str) -> list[StoredObject]:
    folder = folder_of(pattern[: GLOB.search(pattern).start()])  # pyright: ignore[reportOptionalMemberAccess]
    matching = [entry for entry in _list_folder(store, folder) if fnmatch.fnmatchcase(entry.uri, pattern)]
    if not matching:
        raise FileNotFoundError(f"{pattern}: matches no shard ({' or '.join(SUFFIXES)})")
    return matching


def folder_of(uri: str) -> str:
    """What `uri` lies in."""
    return uri.rpartition("/")[0] or ("/" if uri.startswith("/") else ".")
