"""Reading from S3 and stores that speak its protocol: listing in pages, whole objects, ranges.

A stalled body is given up after a while. Nothing is retried here: every request goes through `s3_retries.persist`.
"""

import io
import time
from collections.abc import Iterator
from errno import EINVAL
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from pipelines.storage.s3_client import ANONYMOUS, S3, Answer, client, range_client
from pipelines.storage.s3_retries import persist

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PART_BYTES = 8 << 20
_PART_SECONDS = 30.0
"""A body that trickles never reaches the time limit of one read. Slower than 280 kB/s counts as stalled, so that the
attempts that are made in any case take hardly longer than a minute."""
_PIECE_BYTES = 1 << 16


def stat(uri: str) -> tuple[int, str]:
    """Size in bytes and ETag of the object at `uri`.

    Raises:
        FileNotFoundError: if there is none.
    """
    bucket, key, signed = _place(uri)
    head = persist(uri, client(signed=signed).head_object, Bucket=bucket, Key=key)
    return head["ContentLength"], etag(head)


def list_objects(uri: str) -> Iterator[tuple[str, int, str]]:
    """URI, size and ETag of every object below the prefix `uri`, by name, a page of a thousand at a time."""
    bucket, key, signed = _place(uri)
    start = f"{S3 if signed else ANONYMOUS}{bucket}/"
    prefix = key.rstrip("/") + "/" if key else ""
    more: dict[str, str] = {}
    while True:
        page = persist(uri, client(signed=signed).list_objects_v2, Bucket=bucket, Prefix=prefix, **more)
        for entry in page.get("Contents", ()):
            if not entry["Key"].endswith("/"):  # consoles leave an empty object to mark a folder
                yield start + entry["Key"], entry["Size"], etag(entry)
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def read(uri: str) -> bytes:
    """The whole object at `uri`.

    Up to 8 MiB its checksum is verified, where the store has one; more is read in ranges, which have none.
    """
    bucket, key, signed = _place(uri)

    def get() -> bytes | None:
        answer = client(signed=signed).get_object(Bucket=bucket, Key=key)
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
    """The object at `uri` by ranges, each retried by itself; an object that is replaced meanwhile is an error."""

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

    def readinto(self, buffer: "WriteableBuffer") -> int:
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
        bucket, key, signed = _place(self._uri)
        span = f"bytes={self._at}-{self._at + len(view) - 1}"
        answer = range_client(signed=signed).get_object(Bucket=bucket, Key=key, Range=span)
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
        body.read(1)  # the SDK compares the checksum only at the end of the body


def _place(uri: str) -> tuple[str, str, bool]:
    """Bucket and key of `uri`, and whether requests for it are signed."""
    signed = not uri.startswith(ANONYMOUS)
    return *split(uri if signed else S3 + uri.removeprefix(ANONYMOUS)), signed


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of `uri`, whose requests are signed.

    Raises:
        ValueError: if there is no bucket, or what looks like credentials, or the object may only be read.
    """
    if uri.startswith(ANONYMOUS):
        raise ValueError(f"{uri}: a bucket that is read without credentials is not written to; leave anonymous@ out")
    bucket, _, key = uri.removeprefix(S3).partition("/")
    if "@" in bucket or ":" in bucket:
        raise ValueError("an s3:// URI holds a bucket and a key; credentials belong in the environment or AWS_PROFILE")
    if not bucket:
        raise ValueError(f"{uri!r} names no bucket; expected s3://bucket/key")
    return bucket, key


def etag(answer: Answer) -> str:
    """The ETag in an answer, without its quotes."""
    return answer.get("ETag", "").strip('"')
