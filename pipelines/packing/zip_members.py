"""The files in a zip by their paths, with slashes; some tools of Windows write backslashes."""

import stat
import zipfile
from pathlib import Path

from pipelines.data.suffixes import MAX_IMAGE_BYTES

_WINDOWS = 0
"""The system that a member says it was made on."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def members(archive: zipfile.ZipFile) -> tuple[list[tuple[str, zipfile.ZipInfo]], list[str]]:
    """The files in `archive`, each with its path, and the paths of its folders."""
    infos = [info for info in archive.infolist() if not info.filename.startswith("__MACOSX/")]  # as macOS adds it
    slashes = any("/" in info.filename for info in infos)
    written = [
        info.filename.replace("\\", "/") if info.create_system == _WINDOWS or not slashes else info.filename
        for info in infos
    ]
    pairs = [(path.removeprefix("./").strip("/"), path, info) for path, info in zip(written, infos, strict=True)]
    files = [(name, info) for name, path, info in pairs if not path.endswith("/")]
    return files, [name for name, path, _ in pairs if path.endswith("/")]


def require_readable(info: zipfile.ZipInfo, path: Path) -> None:
    """Raise ValueError if the bytes of a member cannot be read; `path` is the zip, for the message."""
    if info.flag_bits & 1 or info.compress_type not in _METHODS or stat.S_ISLNK(info.external_attr >> 16):
        raise ValueError(f"{path}: {info.filename} is encrypted, a link, or compressed in another way; unzip it first")
    if info.file_size > MAX_IMAGE_BYTES:
        raise ValueError(f"{path}: {info.filename} is too large: {info.file_size} bytes is over {MAX_IMAGE_BYTES}")
