r"""The bytes of a shard -> samples: strict readers of WebDataset tars and Parquet.

In a tar, a sample is made of consecutive members that share a path up to the *last* dot, so that keys may have dots.
`jpg|jpeg|png|webp` is the image and `cls` the label; other members, such as `json`, and names that begin with a dot are
skipped. Bytes of a name that are not UTF-8 become `\xNN`. In Parquet, a sample is a row of `key, image, label`.

No shard ends early without an error: an archive that is cut between two members, an unreadable header, a hole of zeros,
or bytes that differ from the manifest fail the whole shard.
"""

import hashlib
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO, Literal, cast

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.records import Sample, Shard

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp")
MAX_IMAGE_BYTES = 64 << 20
"""The header of a member may state any size; a member above this is a row with an error, and is never read."""
_BUFFER = 1 << 20
_TAR_BUFFER = 1 << 17
"""tarfile copies what it has buffered with each member that is read."""
_MAX_MEMBER_BYTES = 1 << 36
"""A header can state 2**88 bytes, and tarfile would seek through all of them for the next header."""
LABEL_ALONE = f"no image: a label without a member {'|'.join(IMAGE_SUFFIXES)}"
_LONGEST_LABEL = 100
_PARQUET_ROWS = 1
"""Rows read at once: a dictionary-encoded file of kilobytes can expand to gigabytes, since many rows may share one
large value."""
_LABEL = re.compile(rb"\s*-?[0-9]+\s*")
UNREADABLE = (OSError, EOFError, ValueError, OverflowError, tarfile.TarError, pa.ArrowException)
"""What these readers raise on a damaged shard; ValueError and OverflowError because tarfile and pyarrow do not check
the numbers and texts that they parse."""
MAX_SAMPLES = 1_000_000
"""Samples in a shard: every key is kept in memory until its end, and a stream of members may never end."""


class ShardError(Exception):
    """A shard that cannot be read to its end; the message is the reason that the user sees."""


def read_samples(shard: Shard) -> Iterator[Sample]:
    """Every sample of `shard` as it is stored, in order and up to its limit.

    Raises:
        ShardError: if its bytes differ from its manifest, or its format is wrong.
        UNREADABLE: if it is damaged.
    """
    return islice(_parquet_samples(shard), shard.limit) if shard.uri.endswith(".parquet") else _tar_samples(shard)


class _StrictMember(tarfile.TarInfo):
    """tarfile takes an unreadable or missing header for the end of the archive; here only the end marker is the end."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> "_StrictMember":  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            member = cast("_StrictMember", super().fromtarfile(tar))
        except tarfile.EOFHeaderError:  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"not a tar, or cut or damaged at byte {tar.offset}: {error}") from error
        if not 0 <= member.size <= _MAX_MEMBER_BYTES:
            raise tarfile.ReadError(f"damaged at byte {member.offset}: a member claims {member.size} bytes")
        return member


class _DigestingStream:
    """A stream that computes the SHA-256 of what is read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._digest.update(data)
        return data

    def verify(self, shard: Shard) -> None:
        """Compare with the manifest where there is one; reads the rest first, which is most of a limited shard."""
        while shard.sha256 and self.read(_BUFFER):
            pass
        _verify(self._digest.hexdigest(), shard)


def _verify(digest: str, shard: Shard) -> None:
    if shard.sha256 not in {None, digest}:
        raise ShardError(f"SHA-256 {digest[:12]}… differs from its manifest's {(shard.sha256 or '')[:12]}…")


def _tar_samples(shard: Shard) -> Iterator[Sample]:
    with storage.open_input(shard.uri) as stream:
        digesting = _DigestingStream(stream)
        with tarfile.open(
            fileobj=cast(BinaryIO, digesting),
            mode="r|",
            bufsize=_TAR_BUFFER,
            tarinfo=_StrictMember,
            encoding="utf-8",
            errors="backslashreplace",  # tarfile's own surrogates cannot be written to Arrow
        ) as tar:
            yield from islice(_group(_members(tar)), shard.limit)
            if shard.limit is None:
                _require_end(tar)
        digesting.verify(shard)


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of a tar that belongs to a sample; `content` is a str, the reason, where it cannot be read."""

    key: str
    field: Literal["image", "cls"]
    offset: int
    content: bytes | str


def _require_end(tar: tarfile.TarFile) -> None:
    """An archive ends with zeros. If more follows, they are a hole, and members after it would be lost."""
    while rest := cast(BinaryIO, tar.fileobj).read(_BUFFER):
        if rest.strip(b"\0"):
            raise ShardError(f"damaged at byte {tar.offset}: an end of archive, and more after it")


def _members(tar: tarfile.TarFile) -> Iterator[_Member]:
    """The images and labels of a tar."""
    for member in tar:
        # tarfile keeps every header that it has read: memory would grow with the shard
        tar.members = []  # pyright: ignore[reportAttributeAccessIssue]
        path, _, suffix = member.name.removeprefix("./").rpartition(".")
        suffix = suffix.lower()
        hidden = member.name.rpartition("/")[2].startswith(".")
        if not member.isfile() or suffix not in {*IMAGE_SUFFIXES, "cls"} or hidden:
            continue
        field = "cls" if suffix == "cls" else "image"
        if member.size > MAX_IMAGE_BYTES:
            yield _Member(path, field, member.offset_data, f"too large: {member.size} bytes is over {MAX_IMAGE_BYTES}")
            continue
        content = tar.extractfile(member)
        assert content is not None, member.name  # only None for what is not a file
        yield _Member(path, field, member.offset_data, content.read())


def _group(members: Iterable[_Member]) -> Iterator[Sample]:
    key, offset = "", 0
    fields: dict[str, bytes | str] = {}
    for member in members:
        if fields and (member.key != key or member.field in fields):
            yield _sample(key, fields, offset)
            fields = {}
        offset = member.offset if member.field == "image" or not fields else offset
        key = member.key
        fields[member.field] = member.content
    if fields:
        yield _sample(key, fields, offset)


def _sample(key: str, fields: dict[str, bytes | str], offset: int) -> Sample:
    image, text = fields.get("image"), fields.get("cls")
    label, error = _label(text) if isinstance(text, bytes) else (None, text)
    if isinstance(image, str):
        error = image
    elif image is None:
        error = LABEL_ALONE
    return Sample(key=key, image=None if error else cast(bytes, image), label=label, error=error, offset=offset)


def _label(text: bytes) -> tuple[int | None, str | None]:
    if not _LABEL.fullmatch(text) or len(text) > _LONGEST_LABEL:  # int() alone would take 1_0 for 10
        return None, f"bad label: {text[:40].decode(errors='replace')!r} is not an integer"
    return _ranged(int(text))


def _ranged(label: int) -> tuple[int | None, str | None]:
    if abs(label) >= 1 << 31:
        return None, f"bad label: {label} is no 32-bit integer"
    return label, None


def _parquet_samples(shard: Shard) -> Iterator[Sample]:
    data = storage.read(shard.uri)
    if shard.sha256:
        _verify(hashlib.sha256(data).hexdigest(), shard)
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    missing = {"key", "image"} - set(file.schema_arrow.names)
    if missing:
        raise ShardError(f"lacks column {' and '.join(sorted(missing))}; it has {', '.join(file.schema_arrow.names)}")
    columns = [name for name in ("key", "image", "label") if name in file.schema_arrow.names]
    for batch in file.iter_batches(batch_size=_PARQUET_ROWS, columns=columns):  # pyright: ignore[reportUnknownMemberType]
        for row in batch.to_pylist():
            yield _row(row)


def _row(row: dict[str, object]) -> Sample:
    key, image, value = row["key"], row["image"], row.get("label")
    label, error = (None, None) if value is None else (None, f"bad label: {value!r} is not an integer")
    if isinstance(value, int) and not isinstance(value, bool):
        label, error = _ranged(value)
    if isinstance(image, bytes) and len(image) > MAX_IMAGE_BYTES:
        error = f"too large: {len(image)} bytes is over {MAX_IMAGE_BYTES}"
    if not isinstance(image, bytes):
        error = f"no image: the image column holds {'null' if image is None else type(image).__name__}"
    if key is None:
        key, error = "", "no key: the key column holds null"
    return Sample(key=str(key), image=None if error else cast(bytes, image), label=label, error=error)
