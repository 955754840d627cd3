"""Objects by URI: a local path and `s3://bucket/key` behave the same.

Objects are put whole or not at all, and `put` never writes over other bytes. Each kind of store has modules of its own
(`local`, `s3_*`). No function takes credentials: they come from the standard AWS chain, the endpoint from
AWS_ENDPOINT_URL; `s3://anonymous@bucket/key` is read without them.
"""

import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pipelines.storage import local, s3_client, s3_read, s3_retries, s3_write
from pipelines.storage.s3_client import S3
from pipelines.storage.s3_errors import UnavailableError
from pipelines.storage.s3_write import Data

_PROBE = ".menagerie-probe"
_COMPARED_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as its store lists it: `size` in bytes; `etag` changes with the content (local: modification time)."""

    uri: str
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Leftover:
    """An unfinished write of a killed process at `uri`: a temporary file, or the parts of the upload with this id."""

    uri: str
    upload: str | None


def is_remote(uri: str) -> bool:
    """Whether `uri` names an object store rather than a local path.

    Raises:
        ValueError: if its scheme is unknown.
    """
    scheme, separator, _ = uri.partition("://")
    if separator and scheme not in {"s3", "file"}:
        raise ValueError(f"{uri!r}: unknown scheme {scheme!r}; known: s3://, file:// and local paths")
    return uri.startswith(S3)


def join(uri: str, *parts: str) -> str:
    """`uri` and `parts`, joined by single slashes."""
    return "/".join([uri.rstrip("/") or "/", *(part.strip("/") for part in parts)])


def absolute(uri: str) -> str:
    """A URI that names the same object as `uri` in every process, whatever its working folder."""
    return uri if is_remote(uri) else os.path.abspath(local_path(uri))


def anonymous(uri: str) -> str:
    """The URI that names the same object as `uri` and has it read without credentials, as public buckets allow."""
    signed = is_remote(uri) and not uri.startswith(s3_client.ANONYMOUS)
    return s3_client.ANONYMOUS + uri.removeprefix(S3) if signed else uri


def signed(uri: str) -> str:
    """The URI that names the same object as `uri` and has it read with credentials: the reverse of `anonymous`."""
    return S3 + uri.removeprefix(s3_client.ANONYMOUS) if uri.startswith(s3_client.ANONYMOUS) else uri


def path_in_store(uri: str) -> str:
    """`uri` without scheme: the same whether or not its object is read with credentials."""
    return uri.removeprefix(s3_client.ANONYMOUS).removeprefix(S3)


def local_path(uri: str) -> Path:
    """The path that a local URI names."""
    return Path(uri.removeprefix("file://")).expanduser()


def stat(uri: str) -> StoredObject:
    """The object at `uri`.

    Raises:
        FileNotFoundError: if there is none.
    """
    return StoredObject(uri, *(s3_read.stat(uri) if is_remote(uri) else local.stat(local_path(uri))))


def exists(uri: str) -> bool:
    """Whether an object (not a folder) is at `uri`."""
    try:
        stat(uri)
    except FileNotFoundError:
        return False
    return True


def list_objects(uri: str) -> Iterator[StoredObject]:
    """All objects below the folder or prefix `uri`, sorted by name; none if nothing is there.

    Names that begin with a dot are left out: writes in progress, and files that operating systems leave.
    """
    if is_remote(uri):
        found = s3_read.list_objects(uri)
    else:
        found = ((join(uri, name), size, etag) for name, size, etag in local.list_files(local_path(uri)))
    return (StoredObject(*entry) for entry in found if not entry[0].rpartition("/")[2].startswith("."))


def read(uri: str) -> bytes:
    """The whole object at `uri`.

    Raises:
        FileNotFoundError: if there is none.
    """
    if is_remote(uri):
        return s3_read.read(uri)
    with local.open_input(local_path(uri)) as stream:
        return stream.read()


def open_input(uri: str) -> BinaryIO:
    """A seekable binary file over the object at `uri`, which the caller closes.

    Raises:
        FileNotFoundError: if there is none.
    """
    return s3_read.open_input(uri) if is_remote(uri) else local.open_input(local_path(uri))


def put(uri: str, data: Data) -> bool:
    """Create the object at `uri`, whole or not at all. It may be there already with the same bytes.

    Returns:
        Whether this call created it.

    Raises:
        FileExistsError: if other bytes are there; they stay.
    """
    created = s3_write.create(uri, data) if is_remote(uri) else local.create(local_path(uri), data)
    if not created:
        require_same(uri, data)
    return created


def require_same(uri: str, data: Data) -> None:
    """Raise FileExistsError if the object at `uri` has other bytes than `data`."""
    if not _holds(uri, memoryview(data)):
        raise FileExistsError(f"{uri} exists with other content; it was not overwritten")


def put_file(uri: str, path: Path) -> bool:
    """As `put`, with the content of the local file at `path`, which is never held in memory as a whole."""
    if not path.stat().st_size:
        return put(uri, b"")
    with path.open("rb") as file:
        # Not closed here: the frames of an error still view it, and closing it would raise another error instead.
        return put(uri, memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))


def _holds(uri: str, data: memoryview) -> bool:
    if stat(uri).size != len(data):
        return False
    with open_input(uri) as stream:
        return all(
            memoryview(stream.read(_COMPARED_BYTES)) == data[start : start + _COMPARED_BYTES]
            for start in range(0, len(data), _COMPARED_BYTES)
        )


def replace(uri: str, data: Data) -> None:
    """Write the object at `uri`, whole or not at all, in place of whatever is there."""
    if not is_remote(uri):
        local.replace(local_path(uri), data)
    elif not s3_write.replace(uri, data) and not _holds(uri, memoryview(data)):
        raise UnavailableError(f"{uri}: the upload was aborted before its end")


def remove(uris: Sequence[str]) -> None:
    """Remove the objects at `uris`, as far as they exist."""
    s3_write.remove([uri for uri in uris if is_remote(uri)])
    for uri in uris:
        if not is_remote(uri):
            local_path(uri).unlink(missing_ok=True)


def leftovers(uri: str, seconds: float) -> list[Leftover]:
    """Writes below `uri` that began more than `seconds` ago and never ended; no reader ever sees them."""
    if is_remote(uri):
        return [Leftover(*entry) for entry in s3_write.abandoned(uri, seconds)]
    return [Leftover(str(path), None) for path in local.leftovers(local_path(uri), seconds)]


def discard(leftover: Leftover) -> None:
    """Remove an unfinished write that `leftovers` found."""
    if leftover.upload is None:
        local_path(leftover.uri).unlink(missing_ok=True)
    else:
        s3_write.abort(leftover.uri, leftover.upload)


def probe(uri: str) -> str:
    """Write into the folder or prefix `uri` to learn what its store can do.

    Returns:
        The kind of store, in a few words.

    Raises:
        OSError: if nothing can be written there, or the bucket does not exist.
    """
    place = join(uri, _PROBE)
    if not is_remote(uri):
        local.replace(local_path(place), b"")
        local_path(place).unlink(missing_ok=True)
        return "local disk"
    try:
        conditional = s3_write.probe(place)
    except OSError as error:
        raise type(error)(f"{uri} cannot be written: {str(error).removeprefix(f'{place}: ')}") from error
    if conditional:
        return "S3, conditional writes"
    return "S3 without conditional writes: fill a cell with one job at a time, or with jobs on one kind of device"


def require_writable(uri: str) -> None:
    """Check now, rather than after hours of work, that an object can be written at `uri`.

    Only local paths are checked; `probe` asks an object store.

    Raises:
        OSError: if it cannot; the message names the path and the obstacle.
    """
    if not is_remote(uri):
        local.require_writable(local_path(uri))


def forget_clients() -> None:
    """Forget the clients of object stores and what is known of these, for when the environment names others."""
    s3_client.forget()
    s3_retries.forget()
    s3_write.forget()
