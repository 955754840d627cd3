"""The files in a tar, strictly: an archive that was cut short or damaged is an error, and no file in it is missed.

Only headers are read. Links are resolved to the files that they mean, as unpacking would.
"""

import gzip
import logging
import lzma
import posixpath
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipelines.data.suffixes import LABEL, is_picture, last_suffix
from pipelines.packing.text import examples

DAMAGED = (
    *(tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError),
    *(zipfile.BadZipFile, NotImplementedError, IndexError, RuntimeError),
)
"""What tarfile, zipfile and the decompressors raise on damaged bytes; zipfile also what it raises on an empty name."""
_log = logging.getLogger(__name__)
_LINKS = 20
"""The longest chain of links that is followed; more is a loop."""


class MemberError(ValueError):
    """A member of a sound tar that cannot be packed."""


@contextmanager
def readable(path: Path) -> Generator[None]:
    """Turn what is raised on a damaged archive into a ValueError that names it."""
    try:
        yield
    except MemberError as error:
        raise ValueError(f"{path}: {error}") from None
    except DAMAGED as error:
        raise ValueError(f"{path}: not a tar, or damaged: {error}") from error


def folders(tar: tarfile.TarFile) -> list[str]:
    """The folders in `tar` that have a header of their own."""
    return [posixpath.normpath(member.name).lstrip("/") for member in tar.getmembers() if member.isdir()]


def members(tar: tarfile.TarFile, shown: object) -> list[tarfile.TarInfo]:
    """The files in `tar`, by name; tarfile takes a cut between two of them, or a damaged header, for the end.

    `shown` names the archive in a warning of links that are left out.

    Raises:
        tarfile.ReadError: if the archive has no end.
        MemberError: if a link leads to no file of it, and the name of the link is that of something to be packed.
    """
    every = tar.getmembers()
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"cut or damaged at byte {tar.offset}")
    for member in every:
        member.name = posixpath.normpath(member.name).lstrip("/")  # some archives write ./name
    by_name = {member.name: member for member in every}
    files = [member for member in every if member.isfile() or member.islnk() or member.issym()]
    pairs = [(member, _resolved(member, by_name)) for member in files]
    if lost := [member.name for member, target in pairs if target is None]:
        _log.warning("%s: %d links lead to no file of it and are left out (%s)", shown, len(lost), examples(lost))
    return sorted((target for _, target in pairs if target is not None), key=lambda member: member.name)


def content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The bytes of a file in `tar`."""
    stream = tar.extractfile(member)
    assert stream is not None, member.name  # only files are listed
    return stream.read()


def _resolved(member: tarfile.TarInfo, by_name: Mapping[str, tarfile.TarInfo]) -> tarfile.TarInfo | None:
    """The file that `member` is or links to, under the name of `member`; None for a link that leads to none."""
    target = member
    for _ in range(_LINKS):
        if target.isfile():
            break
        folder = posixpath.dirname(target.name) if target.issym() else ""
        linked = by_name.get(posixpath.normpath(posixpath.join(folder, target.linkname)).lstrip("/"))
        if linked is None or linked is target:
            break
        target = linked
    if not target.isfile():
        if not _counts(member.name):
            return None
        raise MemberError(
            f"{member.name} is a link to {member.linkname}, which is no file of the archive; "
            "tar --dereference packs what links lead to, in their place"
        )
    if target.issparse():
        raise MemberError(f"{member.name} is a sparse file; pack the unpacked folder instead")
    return target if target is member else target.replace(name=member.name, deep=False)


def _counts(name: str) -> bool:
    """Whether a file called `name` would be packed, or could say labels."""
    file = posixpath.basename(name)
    if any(part.startswith(".") for part in name.split("/")):
        return False
    return is_picture(file) or last_suffix(file) in {LABEL, "tar"} or file.startswith("metadata.")
