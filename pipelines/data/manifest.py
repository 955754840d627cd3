"""`manifest.json` beside packed shards: what was packed, so that a reader detects missing or changed bytes.

A manifest that is damaged or of another format is an error, never treated as absent.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from pipelines import storage

_log = logging.getLogger(__name__)
NAME = "manifest.json"
BEGUN = ".packing.json"
"""Written before the first shard: if it exists without a manifest, packing was interrupted."""
FORMAT = "menagerie-shards/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedShard:
    """One shard as it was written.

    Attributes:
        name: of the file, with its suffix.
        size: bytes.
        rows: samples.
        sha256: 64 hexadecimal digits.
    """

    name: str
    size: int
    rows: int
    sha256: str

    def __post_init__(self) -> None:
        _expect(_is_text(self.name) and self.name not in {"", ".."} and "/" not in self.name, self, "name")
        _expect(_is_count(self.size), self, "size")
        _expect(_is_count(self.rows), self, "rows")
        _expect(_is_text(self.sha256) and len(self.sha256) == 64, self, "sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The labels of packed samples.

    Attributes:
        min: least label; None where no sample has one.
        max: greatest label; likewise.
        count: samples that have a label.
    """

    min: int | None
    max: int | None
    count: int

    def __post_init__(self) -> None:
        _expect(_is_count(self.count), self, "count")
        _expect(self.min is None if self.count == 0 else _is_count(self.min), self, "min")
        _expect(self.max is None if self.count == 0 else _is_count(self.max), self, "max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The content of a folder of packed shards.

    Attributes:
        samples: in all shards together.
        labels: of all samples.
        shards: in the order of packing.
        classes: the label of each class name, where names were given for packing.
    """

    samples: int
    labels: Labels
    shards: tuple[PackedShard, ...]
    classes: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        _expect(self.classes is None or all(_is_count(label) for label in self.classes.values()), self, "classes")
        rows = sum(shard.rows for shard in self.shards)
        if self.samples != rows:
            raise ValueError(f"has {self.samples!r} samples, but its shards have {rows}")
        if len({shard.name for shard in self.shards}) < len(self.shards):
            raise ValueError("names a shard twice")


def read_manifest(folder_uri: str) -> Manifest | None:
    """The manifest in the folder `folder_uri`; None if there is none, or if the store denies access to it.

    Raises:
        ValueError: if it is damaged, or of another format.
    """
    uri = storage.join(folder_uri, NAME)
    try:
        data = storage.read(uri)
    except FileNotFoundError:
        return None
    except storage.DeniedError as error:
        _log.warning("%s; treated as absent: a store that denies listing says this of absent objects", error)
        return None
    try:
        return _parse(json.loads(data))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{uri} is damaged or of another format: {error}") from error


def reserve(folder_uri: str, mark: str, own: Mapping[str, object]) -> None:
    """Reserve a folder for one content; a second call with the same arguments succeeds.

    Args:
        folder_uri: the folder.
        mark: name of the object that says what the folder will contain.
        own: the content of that object.

    Raises:
        ValueError: if the folder holds something else, or is reserved for something else.
    """
    require_free(folder_uri, mark, own)
    uri = storage.join(folder_uri, mark)
    try:
        storage.put(uri, _reservation(own))
    except FileExistsError:
        raise ValueError(_taken(uri)) from None
    begin(folder_uri)


def require_free(folder_uri: str, mark: str, own: Mapping[str, object]) -> None:
    """Raise as `reserve` would with the same arguments; nothing is written.

    Raises:
        ValueError: if the folder holds something else, or is reserved for something else.
    """
    uri = storage.join(folder_uri, mark)
    if storage.exists(uri):
        if storage.read(uri) != _reservation(own):
            raise ValueError(_taken(uri))
    elif other := next(iter(storage.list_objects(folder_uri)), None):
        raise ValueError(
            f"{folder_uri}: {other.uri} is there already and belongs to something else; choose a new folder"
        )


def _reservation(own: Mapping[str, object]) -> bytes:
    return (json.dumps(own) + "\n").encode()


def _taken(uri: str) -> str:
    return f"{uri} says that the folder is for something else; choose a new folder"


def begin(folder_uri: str) -> None:
    """Mark the folder `folder_uri` as one that will have a manifest."""
    storage.put(storage.join(folder_uri, BEGUN), (json.dumps({"format": FORMAT}) + "\n").encode())


def require_complete(folder_uri: str) -> Manifest | None:
    """The manifest in the folder `folder_uri`; None if its shards were packed by other software.

    Raises:
        ValueError: if packing was interrupted there, or the manifest is damaged.
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
    except storage.DeniedError:  # read_manifest has warned of it
        return False


def write_manifest(folder_uri: str, manifest: Manifest) -> None:
    """Write `manifest` into the folder `folder_uri`; does nothing if the same one is there.

    Raises:
        FileExistsError: if another manifest is there.
    """
    content = {"format": FORMAT, **asdict(manifest)}
    if manifest.classes is None:  # as in manifests from before there were names
        del content["classes"]
    storage.put(storage.join(folder_uri, NAME), (json.dumps(content, indent=1) + "\n").encode())


def _parse(parsed: object) -> Manifest:
    content: dict[str, Any] = cast(dict[str, Any], parsed) if isinstance(parsed, dict) else {"format": parsed}
    if content.get("format") != FORMAT:
        raise ValueError(f"expected format {FORMAT!r}, found {content.get('format')!r}")
    return Manifest(
        samples=content["samples"],
        labels=Labels(**content["labels"]),
        shards=tuple(PackedShard(**entry) for entry in content["shards"]),
        classes=None if content.get("classes") is None else dict(content["classes"]),
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0  # isinstance would take true and false for numbers


def _expect(valid: bool, owner: object, field: str) -> None:
    if not valid:
        raise ValueError(f"{type(owner).__name__} with {field} {getattr(owner, field)!r}")
