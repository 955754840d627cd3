"""`manifest.json` beside packed shards: what was packed, so that a reader can tell when bytes are missing or changed.

Owns the file's form. Refuses to guess: a manifest that is damaged or of another format is an error, never taken for
none.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipelines import storage

_log = logging.getLogger(__name__)
NAME = "manifest.json"
BEGUN = ".packing.json"
"""Written before the first shard: where it lies without a manifest, packing was interrupted."""
FORMAT = "menagerie-shards/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedShard:
    """One shard as it was written: `name` with its suffix, `size` in bytes, `rows` samples, `sha256` in hexadecimal."""

    name: str
    size: int
    rows: int
    sha256: str

    def __post_init__(self) -> None:
        _expect(isinstance(self.name, str) and self.name not in {"", ".."} and "/" not in self.name, self, "name")
        _expect(_is_count(self.size), self, "size")
        _expect(_is_count(self.rows), self, "rows")
        _expect(isinstance(self.sha256, str) and len(self.sha256) == 64, self, "sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """How many samples have a label, and the least and greatest label; both are None where no sample has one."""

    min: int | None
    max: int | None
    count: int

    def __post_init__(self) -> None:
        _expect(_is_count(self.count), self, "count")
        _expect(self.min is None if self.count == 0 else _is_count(self.min), self, "min")
        _expect(self.max is None if self.count == 0 else _is_count(self.max), self, "max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What lies in a folder of packed shards, in the order of packing."""

    samples: int
    labels: Labels
    shards: tuple[PackedShard, ...]

    def __post_init__(self) -> None:
        rows = sum(shard.rows for shard in self.shards)
        if self.samples != rows:
            raise ValueError(f"says {self.samples!r} samples, and its shards hold {rows}")
        if len({shard.name for shard in self.shards}) < len(self.shards):
            raise ValueError("names a shard twice")


def read_manifest(folder_uri: str) -> Manifest | None:
    """The manifest in the folder `folder_uri`; None where there is none, or a store will not say whether there is one.

    Raises:
        ValueError: if it is damaged, or of another format.
    """
    uri = storage.join(folder_uri, NAME)
    try:
        data = storage.read(uri)
    except FileNotFoundError:
        return None
    except storage.DeniedError as error:
        _log.warning("%s; taken for none: a store that will not list says this of what is not there", error)
        return None
    try:
        return _parse(json.loads(data))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{uri} is damaged or not ours: {error}") from error


def claim(folder_uri: str, mark: str, own: Mapping[str, object]) -> None:
    """Say in the object `mark` what is going to be in the folder, and begin; the same again is fine.

    Raises:
        ValueError: if something else is there, or is going to be.
    """
    uri = storage.join(folder_uri, mark)
    if not storage.exists(uri) and (other := next(iter(storage.list_objects(folder_uri)), None)):
        raise ValueError(f"{folder_uri}: {other.uri} is there, which is none of this; take a new folder")
    try:
        storage.put(uri, (json.dumps(own) + "\n").encode())
    except FileExistsError:
        raise ValueError(f"{uri} says that something else is being made there; take a new folder") from None
    begin(folder_uri)


def begin(folder_uri: str) -> None:
    """Mark the folder `folder_uri` as one that will have a manifest."""
    storage.put(storage.join(folder_uri, BEGUN), (json.dumps({"format": FORMAT}) + "\n").encode())


def require_complete(folder_uri: str) -> Manifest | None:
    """The manifest in the folder `folder_uri`; None where shards lie there that somebody else packed.

    Raises:
        ValueError: if a packing of ours was interrupted there, or the manifest is damaged.
    """
    manifest = read_manifest(folder_uri)
    if manifest is None and _has_begun(folder_uri):
        raise ValueError(
            f"{folder_uri}: packing was interrupted there; the same command of jobs.pack_shards or jobs.materialize "
            "completes it"
        )
    return manifest


def _has_begun(folder_uri: str) -> bool:
    try:
        return storage.exists(storage.join(folder_uri, BEGUN))
    except storage.DeniedError:  # which reading the manifest has warned of
        return False


def write_manifest(folder_uri: str, manifest: Manifest) -> None:
    """Write `manifest` into the folder `folder_uri`; the same one already there is fine.

    Raises:
        FileExistsError: if another one is there.
    """
    content = {"format": FORMAT, **asdict(manifest)}
    storage.put(storage.join(folder_uri, NAME), (json.dumps(content, indent=1) + "\n").encode())


def _parse(content: Any) -> Manifest:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else content
        raise ValueError(f"expected format {FORMAT!r}, found {found!r}")
    return Manifest(
        samples=content["samples"],
        labels=Labels(**content["labels"]),
        shards=tuple(PackedShard(**entry) for entry in content["shards"]),
    )


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0  # isinstance would take true and false for numbers


def _expect(good: bool, owner: object, field: str) -> None:
    if not good:
        raise ValueError(f"{field} {getattr(owner, field)!r} of a manifest's {type(owner).__name__}")
