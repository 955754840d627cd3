"""The files in a tar, strictly: an archive that was cut short or damaged is an error, and no file in it is missed.

Only headers are read. Links are resolved to the files that they mean, as unpacking would.
"""

import gzip
import lzma
import posixpath
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

DAMAGED = (
    *(tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError),
    *(zipfile.BadZipFile, NotImplementedError, IndexError, RuntimeError),
)
"""What tarfile, zipfile and the decompressors raise on damaged bytes; zipfile also what it raises on an empty name."""
_LINKS = 20
"""The longest chain of links that is followed; more is a loop."""


@contextmanager
def readable(path: Path) -> Generator[None]:
    """Turn what is raised on a damaged archive into a ValueError that names it."""
    try:
        yield
    except DAMAGED as error:
        raise ValueError(f"{path}: not a tar, or damaged: {error}") from error


def folders(tar: tarfile.TarFile) -> list[str]:
    """The folders in `tar` that have a header of their own."""
    return [posixpath.normpath(member.name).lstrip("/") for member in tar.getmembers() if member.isdir()]


def members(tar: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """The files in `tar`, by name; tarfile takes a cut between two of them, or a damaged header, for the end.

    Raises:
        tarfile.ReadError: if the archive has no end, or a link in it leads to no file of it.
    """
    every = tar.getmembers()
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"cut or damaged at byte {tar.offset}")
    for member in every:
        member.name = posixpath.normpath(member.name).lstrip("/")  # some archives write ./name
    by_name = {member.name: member for member in every}
    found = [_resolved(member, by_name) for member in every if member.isfile() or member.islnk() or member.issym()]
    return sorted(found, key=lambda member: member.name)


def content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The bytes of a file in `tar`."""
    stream = tar.extractfile(member)
    assert stream is not None, member.name  # only files are listed
    return stream.read()


def _resolved(member: tarfile.TarInfo, by_name: Mapping[str, tarfile.TarInfo]) -> tarfile.TarInfo:
    """The file that `member` is or links to, under the name of `member`."""
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
        raise tarfile.ReadError(f"{member.name} is a link to {member.linkname}, which is no file of the archive")
    if target.issparse():
        raise tarfile.ReadError(f"{member.name} is a sparse file; pack the unpacked folder instead")
    return target if target is member else target.replace(name=member.name, deep=False)
