"""The object of a shard -> the bytes of its tar: as they are, or inflated from gzip or Zstandard by their first bytes.

The stream is read once, forwards. What it inflates to is bounded by what was read.
"""

import gzip
import hashlib
import io
import zlib
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, cast

import pyarrow as pa

from pipelines import storage
from pipelines.records import Shard

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_SKIPPED_FRAMES = {bytes([first]) + b"\x2a\x4d\x18": "zstd" for first in range(0x50, 0x60)}
"""How a Zstandard file may begin, too (RFC 8878, 3.1.2): pzstd writes the size of each frame before it."""
_OTHERS = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "a zip archive",
    b"PK\x05\x06": "a zip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
}
_USTAR = (257, b"ustar")
"""Where a tar says that it is one; its first bytes are the name of a member and may look like anything."""
_BUFFER = 1 << 20
_MAX_INFLATIONS = 5
"""How often a compressed shard is inflated again for the sake of links."""
_FREE_INFLATION = 64 << 20
_MAX_INFLATION = 100
"""Bytes inflated for each compressed one: encoded images hardly shrink, and a tar of zeros inflates a thousandfold."""


class ShardError(Exception):
    """A shard that cannot be read to its end; the message is the reason that the user sees."""


class TarStream(io.RawIOBase):
    """The bytes of a tar, read forwards once, as far as tarfile asks for.

    tarfile seeks before each header; here that reads up to the place. It steps back by one byte at most.
    """

    def __init__(self, source: BinaryIO) -> None:
        self._source, self._at, self._final, self._stepped = source, 0, b"", False

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """As far as tarfile needs it."""
        return True

    def tell(self) -> int:
        """The place in the tar, in bytes."""
        return self._at - self._stepped

    def read(self, size: int = -1) -> bytes:
        """Exactly `size` bytes, fewer only at the end."""
        if self._stepped and size:
            self._stepped = False
            return self._final + self.read(size - 1)
        data = self._source.read(size)
        while size > len(data) and (more := self._source.read(size - len(data))):
            data += more
        self._at += len(data)
        self._final = data[-1:] or self._final
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go forwards to `offset`, or back by one byte; the end of the stream is where seeking stops."""
        if whence != io.SEEK_SET or offset < self._at - 1:
            raise io.UnsupportedOperation("a tar is read forwards")
        self._stepped = offset == self._at - 1
        while self._at < offset and self.read(min(_BUFFER, offset - self._at)):
            pass
        return self.tell()


class _Digesting:
    """A file that computes the SHA-256 of what is read."""

    def __init__(self, source: BinaryIO) -> None:
        self._source, self.digest = source, hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self.digest.update(data)
        return data


class _Counting:
    """A file, as Arrow reads one, that counts the bytes read."""

    closed = False

    def __init__(self, source: BinaryIO) -> None:
        self._source, self.taken = source, 0

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self.taken += len(data)
        return data

    def close(self) -> None:
        """The caller closes the file itself."""


def _inflated(source: _Counting, codec: str) -> BinaryIO:
    """The inflated bytes of `source`. Python's gzip, other than Arrow's, accepts zeros behind the end, as gzip does."""
    if codec == "gzip":
        return cast(BinaryIO, gzip.GzipFile(fileobj=cast(BinaryIO, source), mode="rb"))
    return cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(source, mode="r"), codec))  # pyright: ignore[reportArgumentType]


class _Inflating:
    """A file that inflates another one, and refuses to go far beyond what it has read of it."""

    def __init__(self, source: BinaryIO, codec: str) -> None:
        self._compressed, self._given = _Counting(source), 0
        self._inflated = _inflated(self._compressed, codec)

    def read(self, size: int) -> bytes:
        try:
            data = self._inflated.read(min(size, _BUFFER))
        except zlib.error as error:
            raise ShardError(f"gzip is damaged: {error}") from error
        self._given += len(data)
        if self._given > _FREE_INFLATION + _MAX_INFLATION * self._compressed.taken:
            raise ShardError(
                f"inflates {self._compressed.taken:,} bytes to more than {_MAX_INFLATION} times as many; "
                "shards of images do not shrink so far"
            )
        return data


def verify(digest: str, shard: Shard) -> None:
    """Raise ShardError unless the manifest, where there is one, has the SHA-256 `digest`."""
    if shard.sha256 not in {None, digest}:
        raise ShardError(f"SHA-256 {digest[:12]}… differs from its manifest's {(shard.sha256 or '')[:12]}…")


@contextmanager
def open_tar(shard: Shard) -> Generator[TarStream]:
    """The tar in `shard`. At the end of the context, which reads the rest, a digest is compared with the manifest's.

    Raises:
        ShardError: if the shard is compressed in another way, inflates too far, or differs from its manifest.
    """
    with storage.open_input(shard.uri) as source:
        codec = codec_of(source)
        digesting = _Digesting(source) if shard.sha256 else None
        raw = cast(BinaryIO, digesting or source)
        yield TarStream(cast(BinaryIO, _Inflating(raw, codec)) if codec else raw)
        if digesting:
            while digesting.read(_BUFFER):
                pass
            verify(digesting.digest.hexdigest(), shard)


def codec_of(source: BinaryIO) -> str | None:
    """How the seekable file `source` is compressed; None if it is not. It is at its start afterwards.

    Raises:
        ShardError: if it is compressed in a way that is not read.
    """
    head = source.read(sum(map(len, (bytes(_USTAR[0]), _USTAR[1]))))
    source.seek(0)
    if head[_USTAR[0] :] == _USTAR[1]:
        return None
    for magic, codec in (_MAGIC | _SKIPPED_FRAMES).items():
        if head.startswith(magic):
            return codec
    for magic, name in _OTHERS.items():
        if head.startswith(magic):
            raise ShardError(f"is {name}, not a tar; plain, gzip and zstd tars are read")
    return None


class SecondReading:
    """Reads parts of a shard again, mostly in the order of their offsets; the caller's `opened` closes its file.

    A compressed shard is inflated again from its start, and a few times more where the order goes back.
    """

    def __init__(self, shard: Shard, opened: ExitStack) -> None:
        self._source = opened.enter_context(storage.open_input(shard.uri))
        self._codec, self._inflations = codec_of(self._source), 0
        self._inflated: TarStream | None = None

    def read(self, offset: int, size: int) -> bytes | None:
        """The bytes of the tar from `offset` on; None where it would have to be inflated too often."""
        if not self._codec:
            self._source.seek(offset)
            return self._source.read(size)
        if self._inflated is None or offset < self._inflated.tell():
            if self._inflations == _MAX_INFLATIONS:
                return None
            self._inflations += 1
            self._source.seek(0)
            self._inflated = TarStream(cast(BinaryIO, _Inflating(self._source, self._codec)))
        self._inflated.seek(offset)
        return self._inflated.read(size)
