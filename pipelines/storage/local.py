"""Objects on a local disk: files that appear whole or not at all.

Owns temporary names, syncing, and what a listing leaves out. Refuses to know about other stores.
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
"""How the names of files begin that are being written; also those that a killed process left."""
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
    """The file at `path`, to be read.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return path.open("rb")


def list_files(root: Path) -> Iterator[tuple[str, int, str]]:
    """Name below `root`, size in bytes and modification time of every file there, by name."""
    top = str(root)
    folders = os.walk(top, onerror=_unless_gone, followlinks=True)
    paths = [os.path.join(folder, name) for folder, _, names in folders for name in names if name[0] != "."]
    for path in sorted(paths):
        try:
            status = os.stat(path)
        except FileNotFoundError:
            if os.path.islink(path):  # an unmounted disk must not make a dataset smaller
                raise FileNotFoundError(f"{path}: a link to nothing") from None
            continue  # another job has just removed it
        yield path.removeprefix(top).lstrip("/"), status.st_size, f"{status.st_mtime_ns:x}"


def _unless_gone(error: OSError) -> None:
    """A folder that cannot be listed must not make a dataset smaller; one that is not there holds nothing."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def create(path: Path, data: bytes | memoryview) -> bool:
    """Write the file at `path`, unless there is one: then False."""
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
    """Give the file its name; unlike rename, a link never replaces what another job has just put there."""
    try:
        path.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():  # a disk without links: between the two, another's write could be lost
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
    """Say now, rather than after hours of work, that a file at `path` could not be written.

    Raises:
        OSError: naming the path and what stands in the way.
    """
    path = path.absolute()
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder")
    above = next(folder for folder in path.parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise NotADirectoryError(f"{path}: cannot be written, {above} is no folder that we may write in")


def leftovers(root: Path, seconds: float) -> list[Path]:
    """Files below `root` that somebody began to write more than `seconds` ago and did not end."""
    oldest = time.time() - seconds
    return sorted(path for path in root.rglob(f"{_TEMPORARY}*") if _is_file_before(path, oldest))


def _is_file_before(path: Path, oldest: float) -> bool:
    try:
        status = path.stat()
    except FileNotFoundError:  # its writer has just ended
        return False
    return modes.S_ISREG(status.st_mode) and status.st_mtime < oldest


def _temporary(path: Path, data: bytes | memoryview) -> Path:
    """A synced sibling of `path` holding `data`; nothing is left behind where writing fails (a full disk)."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # which would say that `path` is there
        raise NotADirectoryError(f"{path.parent}: is no folder") from None
    temporary = path.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}")
    try:
        # Not mkstemp, whose 0600 would hide results on a shared disk: who may read them is for the umask to say.
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
