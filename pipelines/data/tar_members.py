r"""A tar -> its members that belong to samples, read in order.

Bytes of a name that are not UTF-8 become `\xNN`. Names that begin with a dot, and whatever is neither a picture nor a
label, are passed over and counted. A link counts as the earlier member to which it leads. No archive ends early without
an error: a cut between two members, an unreadable header, or a hole of zeros fails the whole shard.
"""

import json
import posixpath
import tarfile
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

from pipelines.data.containers import SecondReading, ShardError, TarStream, open_tar
from pipelines.data.suffixes import LABEL, MAX_IMAGE_BYTES, is_picture, last_suffix
from pipelines.data.tar_headers import StrictHeader
from pipelines.records import Shard

_BUFFER = 1 << 20
_MAX_LABEL_BYTES = 1 << 20
"""Of a member with a label; JSON beside a picture may be long."""
_MAX_LINKABLE = 4_000_000
"""Members whose places are remembered for links."""
_MAX_KINDS = 20
OTHER_KINDS = "others"


@dataclass(frozen=True, slots=True)
class Member:
    """A picture or label in a tar.

    Attributes:
        path: its name in the archive.
        stem: the path up to the first dot of its last part: members of one sample share it.
        field: what follows that dot, in lower case.
        offset: of its first byte in the tar, once inflated.
        content: its bytes; a text, the reason, where it cannot be read.
    """

    path: str
    stem: str
    field: str
    offset: int
    content: bytes | str

    @property
    def key(self) -> str:
        """The path up to its last dot."""
        return self.path.rpartition(".")[0]


@dataclass(slots=True)
class PassedOver:
    """Members that are no part of a sample, counted by kind: `json`, `seg.png`, `hidden names`."""

    kinds: Counter[str]

    def add(self, kind: str) -> None:
        """Count one of `kind`; beyond twenty kinds, further ones count as others."""
        known = kind in self.kinds or len(self.kinds) < _MAX_KINDS
        self.kinds[kind if known else OTHER_KINDS] += 1

    def as_text(self) -> str | None:
        """The counts as JSON; None if nothing was passed over."""
        return json.dumps(self.kinds, sort_keys=True) if self.kinds else None


@contextmanager
def open_members(shard: Shard, label_field: str | None, passed: PassedOver) -> Generator[Iterator[Member]]:
    """The pictures and labels in `shard`, in order; what is passed over is counted in `passed`.

    Args:
        shard: a tar, plain or compressed.
        label_field: a further field that holds labels, in lower case, beside `cls` and `NAME.cls`.
        passed: counts, to which those of this shard are added.

    Raises:
        ShardError, tarfile.TarError, OSError: from the iterator, or at the end of the context, if it is damaged.
    """
    with (
        ExitStack() as opened,
        open_tar(shard) as stream,
        tarfile.open(
            fileobj=cast(BinaryIO, stream),
            mode="r:",
            tarinfo=StrictHeader,
            encoding="utf-8",
            errors="backslashreplace",  # tarfile's own surrogates cannot be written to Arrow
        ) as tar,
    ):
        yield _members(tar, stream, _Links(shard, opened), label_field, passed)


def require_end(stream: TarStream, at: int) -> None:
    """An archive ends with zeros. If more follows, they are a hole, and members after it would be lost."""
    while rest := stream.read(_BUFFER):
        if rest.strip(b"\0"):
            raise ShardError(f"damaged at byte {at}: an end of archive, and more after it (tar -A joins archives)")


def _members(
    tar: tarfile.TarFile, stream: TarStream, links: "_Links", label_field: str | None, passed: PassedOver
) -> Iterator[Member]:
    for info in tar:
        # tarfile keeps every header that it has read: memory would grow with the shard
        tar.members = []  # pyright: ignore[reportAttributeAccessIssue]
        if info.isdir():
            continue
        member = _named(info)
        kind = _passed_over(info, member, label_field)
        if info.isreg() and not info.issparse():
            links.remember(member.path, info.offset_data, info.size)
        if kind:
            passed.add(kind)
        elif info.isreg():
            yield Member(member.path, member.stem, member.field, member.offset, _content(info, member, stream))
        else:
            yield links.followed(info, member)
    require_end(stream, tar.offset)


def _named(info: tarfile.TarInfo) -> Member:
    path = info.name.removeprefix("./")
    folder, slash, name = path.rpartition("/")
    first, _, field = name.partition(".")
    return Member(path, f"{folder}{slash}{first}", field.lower(), info.offset_data, b"")


def _passed_over(info: tarfile.TarInfo, member: Member, label_field: str | None) -> str:
    """The kind of a member that is no part of a sample; empty if it is one."""
    if member.path.rpartition("/")[2].startswith("."):
        return "hidden names"
    if not (info.isreg() or info.islnk() or info.issym()):
        return "special files"
    if member.field and (is_picture(member.field) or last_suffix(member.field) == LABEL or member.field == label_field):
        return ""
    if info.issym():
        return "links to folders or other files"
    return last_suffix(member.field) if member.field else "no suffix"


def _content(info: tarfile.TarInfo, member: Member, stream: TarStream) -> bytes | str:
    """The bytes of a member, or the reason why they cannot be used."""
    if reason := _unfit(info.size, member.field):
        return reason
    if info.issparse():
        return "sparse file: its holes are not read; pack it without --sparse"
    stream.seek(info.offset_data)
    content = stream.read(info.size)
    if len(content) < info.size:
        raise tarfile.ReadError(f"unexpected end of data in member {member.path!r}")
    return content


def _unfit(size: int, field: str) -> str:
    most = MAX_IMAGE_BYTES if is_picture(field) else _MAX_LABEL_BYTES
    return f"too large: {size} bytes is over {most}" if size > most else ""


class _Links:
    """Where the members of a shard lie, so that links to them can be followed."""

    def __init__(self, shard: Shard, opened: ExitStack) -> None:
        self._shard, self._opened = shard, opened
        self._places: dict[str, tuple[int, int]] = {}
        self._again: SecondReading | None = None

    def remember(self, path: str, offset: int, size: int) -> None:
        """Keep where the bytes of the member `path` lie."""
        if len(self._places) < _MAX_LINKABLE:
            self._places[path] = (offset, size)

    def followed(self, info: tarfile.TarInfo, member: Member) -> Member:
        """The link `member` with the bytes of the earlier member to which it leads, or with the reason for none."""
        target = _target(info, member.path)
        if target not in self._places:
            to = f"link: leads to {info.linkname[:100]!r}, which is no earlier member"
            return replace(member, content=f"{to}; tar --dereference packs the pictures themselves")
        offset, size = self._places[target]
        self.remember(member.path, offset, size)
        content = _unfit(size, member.field) or self._read(offset, size)
        return replace(member, offset=offset, content=content)

    def _read(self, offset: int, size: int) -> bytes | str:
        if self._again is None:
            self._again = SecondReading(self._shard, self._opened)
        content = self._again.read(offset, size)
        if content is None:
            return "link: leads too far back in a compressed shard; pack it without compression"
        if len(content) < size:
            raise ShardError(f"was cut while it was read: no {size} bytes at {offset}")
        return content


def _target(info: tarfile.TarInfo, path: str) -> str:
    """The path in the archive to which a link leads."""
    if info.islnk():
        return info.linkname.removeprefix("./")
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), info.linkname))
