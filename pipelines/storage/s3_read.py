"""Reading from S3 and what speaks its protocol: listing in pages, whole objects, ranges.

Owns clients and the time limits of requests. Credentials come from the standard AWS chain, the endpoint from
AWS_ENDPOINT_URL. Refuses to retry by itself: every request goes through `s3_retries.persist`.
"""

import io
import time
from collections.abc import Iterator
from datetime import datetime
from errno import EINVAL
from functools import cache
from threading import Lock
from typing import Any, BinaryIO, cast

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, CredentialRetrievalError
from botocore.session import get_session
from botocore.utils import parse_timestamp

from pipelines.storage import s3_errors, s3_retries
from pipelines.storage.s3_retries import persist

S3 = "s3://"
_CONNECT_SECONDS, _READ_SECONDS = 5, 20
_PART_BYTES = 8 << 20
_PART_SECONDS = 30.0
"""A body that trickles never runs into the time limit of one read; slower than 280 kB/s is taken for a stall, so that
the attempts that are made in any case last hardly longer than a minute."""
_PIECE_BYTES = 1 << 16
_CONNECTIONS = 32
_making = Lock()
"""Held while a client is made, which takes a while: many threads may ask for the first one at once."""


def stat(uri: str) -> tuple[int, str]:
    """Size in bytes and ETag of the object at `uri`.

    Raises:
        FileNotFoundError: if there is none.
    """
    bucket, key = split(uri)
    head = persist(uri, client().head_object, Bucket=bucket, Key=key)
    return head["ContentLength"], etag(head)


def list_objects(uri: str) -> Iterator[tuple[str, int, str]]:
    """URI, size and ETag of every object below the prefix `uri`, by name, a page of a thousand at a time."""
    bucket, key = split(uri)
    prefix = key.rstrip("/") + "/" if key else ""
    more: dict[str, str] = {}
    while True:
        page = persist(uri, client().list_objects_v2, Bucket=bucket, Prefix=prefix, **more)
        for entry in page.get("Contents", ()):
            if not entry["Key"].endswith("/"):  # consoles leave an empty object to mark a folder
                yield f"{S3}{bucket}/{entry['Key']}", entry["Size"], etag(entry)
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def read(uri: str) -> bytes:
    """The whole object at `uri`.

    Up to 8 MiB its checksum is verified, where the store has one; more is read in ranges, which have none.
    """
    bucket, key = split(uri)

    def get() -> bytes | None:
        answer = client().get_object(Bucket=bucket, Key=key)
        if answer["ContentLength"] > _PART_BYTES:
            answer["Body"].close()
            return None
        content = bytearray(answer["ContentLength"])
        _fill(memoryview(content), answer["Body"])
        return bytes(content)

    small = persist(uri, get)
    if small is not None:
        return small
    with open_input(uri) as stream:
        return stream.read()


def open_input(uri: str) -> BinaryIO:
    """A seekable binary file over the object at `uri`, read in ranges."""
    return cast(BinaryIO, io.BufferedReader(_Ranges(uri), _PART_BYTES))


class _Ranges(io.RawIOBase):
    """The object at `uri` by ranges, each tried again for itself; one that is replaced in between is an error."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._size, self._version = stat(uri)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if at < 0:
            raise OSError(EINVAL, "Invalid argument")  # as a local file does
        self._at = at
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._size - self._at, _PART_BYTES)
        if wanted <= 0:
            return 0
        persist(self._uri, self._get, view=view[:wanted])
        self._at += wanted
        return wanted

    def readall(self) -> bytes:
        content = bytearray(max(0, self._size - self._at))
        filled = 0
        while filled < len(content):
            filled += self.readinto(memoryview(content)[filled:])
        return bytes(content)

    def _get(self, view: memoryview) -> None:
        bucket, key = split(self._uri)
        span = f"bytes={self._at}-{self._at + len(view) - 1}"
        answer = _ranging_client().get_object(Bucket=bucket, Key=key, Range=span)
        if etag(answer) != self._version:
            answer["Body"].close()
            raise OSError(f"{self._uri}: was replaced while it was read")
        _fill(view, answer["Body"])


def _fill(view: memoryview, body: Any) -> None:
    filled, until = 0, time.monotonic() + _PART_SECONDS
    with body:
        while filled < len(view):
            piece = body.read(min(_PIECE_BYTES, len(view) - filled))
            if not piece:
                raise ConnectionError(f"the answer ended after {filled} of {len(view)} bytes")
            if time.monotonic() > until:
                raise TimeoutError(f"{filled} of {len(view)} bytes in {_PART_SECONDS:.0f} s")
            view[filled : filled + len(piece)] = piece
            filled += len(piece)
        body.read(1)  # only at its end does the SDK compare the checksum


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of `uri`.

    Raises:
        ValueError: if there is no bucket, or what looks like credentials.
    """
    bucket, _, key = uri.removeprefix(S3).partition("/")
    if "@" in bucket or ":" in bucket:
        raise ValueError("an s3:// URI holds a bucket and a key; credentials belong in the environment or AWS_PROFILE")
    if not bucket:
        raise ValueError(f"{uri!r} names no bucket; expected s3://bucket/key")
    return bucket, key


def etag(answer: dict[str, Any]) -> str:
    """The ETag in an answer, without its quotes."""
    return answer.get("ETag", "").strip('"')


def forget() -> None:
    """Forget clients, and which stores have answered."""
    _client.cache_clear()
    s3_retries.forget()


def client() -> Any:
    """The client of this process."""
    with _making:
        return _client()


def _ranging_client() -> Any:
    """Some stores send the checksum of the whole object along with a range of it."""
    with _making:
        return _client(response_checksum_validation="when_required")


def _moment(value: Any) -> datetime:
    """A time as a store says it. The SDK's own parser takes two thirds of the time of a long listing."""
    try:
        return datetime.fromisoformat(value)
    except (ValueError, TypeError):
        return parse_timestamp(value)


@cache
def _client(**options: str) -> Any:
    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        max_pool_connections=_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": 1},
        **options,
    )
    core = get_session()
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
    try:
        return Session(botocore_session=core).client("s3", config=config)  # boto3's own session keeps old credentials
    except CredentialRetrievalError as error:
        raise s3_errors.without_credentials("the AWS settings", error) from error
    except BotoCoreError as error:
        raise PermissionError(f"the AWS settings cannot be used: {error}") from error
    except ValueError as error:  # which holds what was set, perhaps with a password
        raise OSError("AWS_ENDPOINT_URL is no URL of a store; expected http://HOST:PORT or https://HOST") from error
