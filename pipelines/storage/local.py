"""Objects on a local disk: files that appear whole or not at all.

A file is written under a temporary name, synced, and only then given its own.
"""

import os
import stat as modes
import time
import uuid
from collections.abc import Iterator
from errno import ENOSYS, ENOTSUP, EOPNOTSUPP, EPERM
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = ".menagerie-"
"""Prefix of files that are being written, and of those that a killed process left."""
_NO_LINKS = {EPERM, ENOTSUP, EOPNOTSUPP, ENOSYS}


def stat(path: Path) -> tuple[int, str]:
    """Size in bytes and modification time of the file at `path`.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    try:
        status = path.stat()
    except NotADirectoryError:
        status = None
    if status is None or not modes.S_ISREG(status.st_mode):
        raise FileNotFoundError(f"{path}: no such file")
    return status.st_size, f"{status.st_mtime_ns:x}"


def open_input(path: Path) -> BinaryIO:
    """The file at `path`, open for reading.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return path.open("rb")


def list_files(root: Path) -> Iterator[tuple[str, int, str]]:
    """Name below `root`, size in bytes and modification time of each file there, sorted by name."""
    top = str(root)
    folders = os.walk(top, onerror=_unless_gone, followlinks=True)
    paths = [os.path.join(folder, name) for folder, _, names in folders for name in names if name[0] != "."]
    for path in sorted(paths):
        try:
            status = os.stat(path)
        except FileNotFoundError:
            if os.path.islink(path):  # an unmounted disk must not make a dataset smaller
                raise FileNotFoundError(f"{path}: is a link to nothing") from None
            continue  # another job has just removed it
        yield path.removeprefix(top).lstrip("/"), status.st_size, f"{status.st_mtime_ns:x}"


def _unless_gone(error: OSError) -> None:
    """An unreadable folder must not make a dataset smaller; one that does not exist holds nothing."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def create(path: Path, data: bytes | memoryview) -> bool:
    """Write the file at `path`; False, without writing, if there is one already."""
    temporary = _temporary(path, data)
    try:
        _link(temporary, path)
    except FileExistsError:
        if path.is_dir():
            raise IsADirectoryError(f"{path}: is a folder") from None
        return False
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return True


def _link(temporary: Path, path: Path) -> None:
    """Give the file its name. A link, unlike a rename, never replaces what another job has just put there."""
    try:
        path.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():  # on a disk without links, another job's write between these lines could be lost
            raise FileExistsError(path) from error
        temporary.rename(path)


def replace(path: Path, data: bytes | memoryview) -> None:
    """Write the file at `path` over whatever is there."""
    temporary = _temporary(path, data)
    try:
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def require_writable(path: Path) -> None:
    """Check now, rather than after hours of work, that a file can be written at `path`.

    Raises:
        OSError: if it cannot; the message names the path and the obstacle.
    """
    path = path.absolute()
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder")
    above = next(folder for folder in path.parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise NotADirectoryError(f"{path}: cannot be written: {above} is no writable folder")


def leftovers(root: Path, seconds: float) -> list[Path]:
    """Files below `root` whose writing began more than `seconds` ago and never ended."""
    oldest = time.time() - seconds
    return sorted(path for path in root.rglob(f"{_TEMPORARY}*") if _is_file_before(path, oldest))


def _is_file_before(path: Path, oldest: float) -> bool:
    try:
        status = path.stat()
    except FileNotFoundError:  # its writer has just finished
        return False
    return modes.S_ISREG(status.st_mode) and status.st_mtime < oldest


def _temporary(path: Path, data: bytes | memoryview) -> Path:
    """A synced sibling of `path` that holds `data`; nothing is left behind if writing fails, as on a full disk."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # to `create` it would mean that `path` is there
        raise NotADirectoryError(f"{path.parent}: is not a folder") from None
    temporary = path.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}")
    try:
        # Not mkstemp: its mode 0600 would hide results on a shared disk; the umask decides who may read them.
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
