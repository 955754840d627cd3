"""Objects by URI: a local path and `s3://bucket/key` behave the same.

Owns listing, reading and atomic writing; it is the one place that knows which store a URI names. Refuses to stream
results out (a half-written object could be seen) and to take credentials: they come from the standard AWS chain, the
endpoint from AWS_ENDPOINT_URL.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pyarrow import fs

S3 = "s3://"
_ATTEMPTS = 8
"""boto3's default of 3 gives up after about a second, less than a store takes to recover from a burst of 503s."""
_CONNECT_SECONDS, _READ_SECONDS = 5, 30
_CONFLICT_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as its store lists it: `size` in bytes; `etag` changes with the content (local: modification time)."""

    uri: str
    size: int
    etag: str


def is_remote(uri: str) -> bool:
    """Whether `uri` names an object store rather than a local path.

    Raises:
        ValueError: for a scheme that is neither.
    """
    scheme, separator, _ = uri.partition("://")
    if separator and scheme not in {"s3", "file"}:
        raise ValueError(f"{uri!r}: unknown scheme {scheme!r}; known: s3://, file:// and local paths")
    return uri.startswith(S3)


def join(uri: str, *parts: str) -> str:
    """`uri` and `parts` with single slashes between them."""
    return "/".join([uri.rstrip("/") or "/", *(part.strip("/") for part in parts)])


def absolute(uri: str) -> str:
    """`uri` such that it names the same object in every process, whatever its working folder."""
    return uri if is_remote(uri) else os.path.abspath(local_path(uri))


def local_path(uri: str) -> Path:
    """The path that a local URI names."""
    return Path(uri.removeprefix("file://")).expanduser()


def stat(uri: str) -> StoredObject:
    """The object at `uri`.

    Raises:
        FileNotFoundError: if there is none.
    """
    if not is_remote(uri):
        if not local_path(uri).is_file():
            raise FileNotFoundError(f"{uri}: no such file")
        status = local_path(uri).stat()
        return StoredObject(uri, status.st_size, f"{status.st_mtime_ns:x}")
    bucket, key = _split(uri)
    with _translating(uri):
        head = _client().head_object(Bucket=bucket, Key=key)
    return StoredObject(uri, head["ContentLength"], head["ETag"].strip('"'))


def exists(uri: str) -> bool:
    """Whether an object (not a folder) is at `uri`."""
    if not is_remote(uri):
        return local_path(uri).is_file()
    try:
        stat(uri)
    except FileNotFoundError:
        return False
    return True


def list_objects(uri: str) -> Iterator[StoredObject]:
    """Every object below the folder or prefix `uri`, by name; none where nothing is there.

    Names that begin with a dot are left out: the files of a write in progress, and what operating systems strew.
    """
    found = _list_s3(uri) if is_remote(uri) else _list_local(uri)
    return (entry for entry in found if not entry.uri.rpartition("/")[2].startswith("."))


def read(uri: str) -> bytes:
    """The whole object at `uri`.

    Raises:
        FileNotFoundError: if there is none.
    """
    with open_input(uri) as stream:
        return stream.read()


def open_input(uri: str) -> pa.NativeFile:
    """A seekable binary file over the object at `uri`, to be closed by the caller.

    Raises:
        FileNotFoundError: if there is none.
    """
    if not is_remote(uri):
        if not local_path(uri).is_file():
            raise FileNotFoundError(f"{uri}: no such file")
        return pa.OSFile(str(local_path(uri)), "rb")
    return _filesystem().open_input_file(uri.removeprefix(S3))


def put(uri: str, data: bytes) -> bool:
    """Create the object at `uri`, whole or not at all; the same bytes already there are fine.

    Returns:
        Whether this call created it.

    Raises:
        FileExistsError: if other bytes are there; they are left as they are.
    """
    created = _create_s3(uri, data) if is_remote(uri) else _create_local(local_path(uri), data)
    if not created and read(uri) != data:
        raise FileExistsError(f"{uri} is there with other content; it was not written over")
    return created


def replace(uri: str, data: bytes) -> None:
    """Write the object at `uri`, whole or not at all, over whatever is there."""
    if is_remote(uri):
        bucket, key = _split(uri)
        with _translating(uri):
            _client().put_object(Bucket=bucket, Key=key, Body=data)
        return
    path = local_path(uri)
    temporary = _temporary(path, data)
    try:
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def require_writable(uri: str) -> None:
    """Say now, rather than after hours of work, that an object at the local path `uri` could not be written.

    Raises:
        OSError: naming the path and what stands in the way. Object stores are not asked.
    """
    if is_remote(uri):
        return
    path = local_path(uri).absolute()
    if path.is_dir():
        raise IsADirectoryError(f"{uri}: is a folder")
    above = next(folder for folder in path.parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise NotADirectoryError(f"{uri}: cannot be written, {above} is no folder that we may write in")


def _create_local(path: Path, data: bytes) -> bool:
    temporary = _temporary(path, data)
    try:
        path.hardlink_to(temporary)  # unlike rename, a link never replaces what another job has just put there
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    _sync_folder(path.parent)
    return True


def _temporary(path: Path, data: bytes) -> Path:
    """A synced sibling of `path` holding `data`; nothing is left behind where writing fails (a full disk)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp's 0600 would hide results from everybody else on a shared disk
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise
    return Path(name)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _list_local(uri: str) -> Iterator[StoredObject]:
    root = str(local_path(uri))
    folders = os.walk(root, followlinks=True)
    paths = [os.path.join(folder, name) for folder, _, names in folders for name in names if name[0] != "."]
    for path in sorted(paths):
        try:
            status = os.stat(path)
        except FileNotFoundError:
            if os.path.islink(path):  # an unmounted disk must not make a dataset smaller
                raise FileNotFoundError(f"{path}: a link to nothing") from None
            continue  # another job has just removed it
        name = path.removeprefix(root).lstrip("/")
        yield StoredObject(join(uri, name), status.st_size, f"{status.st_mtime_ns:x}")


def _list_s3(uri: str) -> Iterator[StoredObject]:
    bucket, key = _split(uri)
    pages = (
        _client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key.rstrip("/") + "/" if key else "")
    )
    with _translating(uri):
        for entry in (entry for page in pages for entry in page.get("Contents", ())):
            if not entry["Key"].endswith("/"):  # consoles leave an empty object to mark a folder
                yield StoredObject(f"{S3}{bucket}/{entry['Key']}", entry["Size"], entry["ETag"].strip('"'))


def _create_s3(uri: str, data: bytes) -> bool:
    bucket, key = _split(uri)
    for pause in (*_CONFLICT_PAUSES, None):
        try:
            _client().put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
            return True
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == 412:  # it is there already, perhaps by our own first attempt whose answer was lost
                return False
            if status != 409 or pause is None:
                raise _translated(error, uri) from error
            time.sleep(pause)  # 409: another's write is under way, and nothing can be read back before it ends
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def _translating(uri: str) -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise _translated(error, uri) from error


def _translated(error: ClientError | BotoCoreError, uri: str) -> OSError:
    """The built-in exception that a local file would have raised, naming the object and the store's own word."""
    if isinstance(error, BotoCoreError):  # no answer at all: no credentials, no such host, an impossible name
        return OSError(f"{uri}: {error}")
    code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    kind = {404: FileNotFoundError, 403: PermissionError}.get(status, OSError)
    return kind(f"{uri}: {code} ({status})")


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix(S3).partition("/")
    if not bucket:
        raise ValueError(f"{uri!r} names no bucket; expected s3://bucket/key")
    return bucket, key


@cache
def _client() -> Any:
    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
    )
    return boto3.client("s3", config=config)


@cache
def _filesystem() -> fs.S3FileSystem:
    endpoint = _client().meta.endpoint_url
    return fs.S3FileSystem(
        # pyarrow does not read AWS_ENDPOINT_URL; at AWS itself it must choose the host by region and bucket
        endpoint_override=None if endpoint.endswith(".amazonaws.com") else endpoint,
        region=_client().meta.region_name,
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_READ_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    )
