r"""The bytes of a shard -> samples: our own strict readers of WebDataset tars and Parquet.

Owns what a sample is: in a tar, consecutive members that share a path up to the *last* dot (so that dots in a key lose
nothing), `jpg|jpeg|png|webp` the image and `cls` the label; other members, `json` among them, and names that begin
with a dot are passed over, and bytes of a name that are no UTF-8 are spelled `\xNN`. In Parquet, a row of `key, image,
label`. Refuses to end early in silence: an archive cut between two members, a header that cannot be read, a hole of
zeros, or bytes other than the manifest's fail the whole shard.
"""

import hashlib
import re
import tarfile
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.records import Sample, Shard

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp")
MAX_IMAGE_BYTES = 64 << 20
"""A member may claim any size in its header; one that claims more than this is a row with a reason, never read."""
_BUFFER = 1 << 20
_TAR_BUFFER = 1 << 17
"""What tarfile holds is copied with each member that is taken out of it."""
_MOST_MEMBER_BYTES = 1 << 36
"""A header can claim 2**88 bytes, and tarfile would count through all of them in search of the next."""
LABEL_ALONE = f"no image: a label without a member {'|'.join(IMAGE_SUFFIXES)}"
_LONGEST_LABEL = 100
_PARQUET_ROWS = 1
"""Read at once; a dictionary makes every row as large as the largest, and a file of kilobytes can hold gigabytes."""
_LABEL = re.compile(rb"\s*-?[0-9]+\s*")
UNREADABLE = (OSError, EOFError, ValueError, OverflowError, tarfile.TarError, pa.ArrowException)
"""What these readers raise on a damaged shard. ValueError and OverflowError: tarfile and pyarrow check neither the
numbers nor the text in what they read."""
MAX_SAMPLES = 1_000_000
"""Samples in a shard: each key is remembered until its end, and a stream of members may never end."""


class ShardError(Exception):
    """A shard that cannot be trusted to its end; the message is the reason that the user sees."""


def read_samples(shard: Shard) -> Iterator[Sample]:
    """Every sample of `shard`, in order and up to its limit, as it lies there.

    Raises:
        ShardError: if its bytes are not those of its manifest, or it has another form than it should.
        UNREADABLE: if it is damaged.
    """
    return islice(_parquet_samples(shard), shard.limit) if shard.uri.endswith(".parquet") else _tar_samples(shard)


class _StrictMember(tarfile.TarInfo):
    """tarfile takes an unreadable or missing header in mid-archive for the end; here only the end marker is the end."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> "_StrictMember":
        try:
            member = cast("_StrictMember", super().fromtarfile(tar))
        except tarfile.EOFHeaderError:  # pyright: ignore[reportAttributeAccessIssue]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"not a tar, or cut or damaged at byte {tar.offset}: {error}") from error
        if not 0 <= member.size <= _MOST_MEMBER_BYTES:
            raise tarfile.ReadError(f"damaged at byte {member.offset}: a member claims {member.size} bytes")
        return member


class _Checked:
    """Passes reads through and digests them."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._digest.update(data)
        return data

    def verify(self, shard: Shard) -> None:
        """Read what is left, of a limited shard most of it, where a manifest says what the whole should be."""
        while shard.sha256 and self.read(_BUFFER):
            pass
        _verify(self._digest.hexdigest(), shard)


def _verify(digest: str, shard: Shard) -> None:
    if shard.sha256 not in {None, digest}:
        raise ShardError(f"SHA-256 {digest[:12]}… differs from its manifest's {(shard.sha256 or '')[:12]}…")


def _tar_samples(shard: Shard) -> Iterator[Sample]:
    with storage.open_input(shard.uri) as stream:
        checked = _Checked(stream)
        with tarfile.open(
            fileobj=cast(BinaryIO, checked),
            mode="r|",
            bufsize=_TAR_BUFFER,
            tarinfo=_StrictMember,
            encoding="utf-8",
            errors="backslashreplace",  # tarfile's own surrogates cannot be written to Arrow
        ) as tar:
            yield from islice(_group(_members(tar)), shard.limit)
            if shard.limit is None:
                _refuse_hole(tar)
        checked.verify(shard)


def _refuse_hole(tar: tarfile.TarFile) -> None:
    """Zeros end an archive; where more follows them, they are a hole in it, with members behind."""
    while rest := cast(BinaryIO, tar.fileobj).read(_BUFFER):
        if rest.strip(b"\0"):
            raise ShardError(f"damaged at byte {tar.offset}: an end of archive, and more after it")


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, str, int, bytes | str]]:
    """Key, field (`image` or `cls`), offset and content of each member that counts; a str is why there is none."""
    for member in tar:
        # tarfile keeps every header it has seen: memory that grows with the shard
        tar.members = []  # pyright: ignore[reportAttributeAccessIssue]
        path, _, suffix = member.name.removeprefix("./").rpartition(".")
        suffix = suffix.lower()
        field = "image" if suffix in IMAGE_SUFFIXES else suffix
        hidden = member.name.rpartition("/")[2].startswith(".")
        if not member.isfile() or field not in {"image", "cls"} or hidden:
            continue
        if member.size > MAX_IMAGE_BYTES:
            yield path, field, member.offset_data, f"too large: {member.size} bytes is over {MAX_IMAGE_BYTES}"
            continue
        content = tar.extractfile(member)
        assert content is not None, member.name  # only None for what is no file
        yield path, field, member.offset_data, content.read()


def _group(members: Iterable[tuple[str, str, int, bytes | str]]) -> Iterator[Sample]:
    key, fields, offset = "", {}, 0
    for path, field, begin, content in members:
        if fields and (path != key or field in fields):
            yield _sample(key, fields, offset)
            fields = {}
        offset = begin if field == "image" or not fields else offset
        key = path
        fields[field] = content
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
    for batch in file.iter_batches(batch_size=_PARQUET_ROWS, columns=columns):
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
