"""Weights in a store, so that a cluster needs no other place for them, and a lock that says what they are.

    STORE/weights/resnest50-528c19ca.pth        the file
    STORE/weights/resnest50d.lock.json          its whole SHA-256, size, and where it came from

Owns both, and the order in which the places of a model's weights are tried: what was given explicitly, the store, this
machine's cache, where they are published. A file is mirrored only when it has been verified and loaded into its
architecture; from then on its whole digest counts, also where only eight digits or none were published. Refuses to
replace what is locked.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zoo
from pipelines import storage
from zoo import cache, wanted
from zoo.cache import Watch
from zoo.cards import Card
from zoo.http import CHUNK_BYTES, FetchError
from zoo.wanted import Wanted

_FOLDER = "weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """What a store says of a model's weights: `size` in bytes, `sha256` whole, `sources` the places they came from."""

    model: str
    file: str
    sha256: str
    size: int
    sources: tuple[str, ...]


def find(store: str | None, card: Card, checkpoint: str | None = None) -> Wanted:
    """The file of weights that `card` is to be run with.

    Args:
        store: where weights may be mirrored; None for no store.
        card: the model.
        checkpoint: a path or URI that overrides the card; it is read through once for its digest.

    Raises:
        ValueError: if no weights are published, no digest is known of them, or the store's lock contradicts the card.
        FileNotFoundError: if there is nothing at `checkpoint`.
    """
    if checkpoint:
        return wanted.explicit(card, checkpoint, cache.sha256_of(checkpoint, _OPENERS))
    file = _published(store, card)
    if file.sha256 is None:
        raise ValueError(
            f"{card.name}: no SHA-256 of its weights is published, and none is locked in the store; "
            f"`python -m jobs.weights mirror --models {card.name} --store STORE` locks it (--checkpoint FILE where "
            "they cannot be fetched)"
        )
    return dataclasses.replace(file, sources=(_uri(store, file.file), *file.sources)) if store else file


def _published(store: str | None, card: Card) -> Wanted:
    """What the card says, with the store's lock where there is one."""
    file, lock = wanted.published(card), read_lock(store, card) if store else None
    return dataclasses.replace(file, file=lock.file, sha256=lock.sha256) if lock else file


def obtain(file: Wanted, watch: Watch | None = None) -> Path:
    """The file on this machine, fetched if need be: see `zoo.cache.obtain`."""
    return cache.obtain(file, _OPENERS, watch)


def load(card: Card, file: Wanted) -> Any:
    """The model of `card` (an `nn.Module`) with the weights in `file`, in evaluation mode on the CPU: `zoo.create`."""
    return zoo.create(card, dataclasses.replace(file, sources=(str(obtain(file)),)))


def is_near(file: Wanted) -> bool:
    """Whether the file is on this machine or in a store, so that no other place has to be asked."""
    near = (source for source in file.sources if source.startswith(storage.S3))
    return cache.at_hand(file) is not None or any(map(storage.exists, near))


def uri(store: str, file: Wanted) -> str:
    """Where a store has the file, if it has it."""
    return _uri(store, file.file)


def verify(store: str, file: Wanted) -> None:
    """Read the store's own copy of the file through, and compare its digest.

    Raises:
        ValueError: if the digest is another.
        FileNotFoundError: if the store has no such file.
    """
    digest = cache.sha256_of(uri(store, file), _OPENERS)
    if not file.sha256 or not digest.startswith(file.sha256):
        raise ValueError(f"{uri(store, file)}: expected SHA-256 {file.sha256}, found {digest}")


def mirror(store: str, card: Card, checkpoint: str | None = None, watch: Watch | None = None) -> Lock:
    """Put the model's weights into the store and lock them; what is there already with the same bytes is left.

    They come from `checkpoint` where it is given, else from this machine or where they are published. Where no digest
    is published, the file is trusted this once, if it fits the model; the lock is what later ones must agree with.

    Raises:
        ValueError: if the file does not fit the model, or the card names another digest.
        FileNotFoundError: if the file cannot be had.
        FileExistsError: if other weights of this model are locked.
    """
    file = wanted.explicit(card, checkpoint) if checkpoint else _published(store, card)
    digest = file.sha256 or cache.sha256_of(file.sources[0], _OPENERS)
    path = obtain(dataclasses.replace(file, file=wanted.file_name(card, file.sources[0], digest), sha256=digest), watch)
    digest = cache.sha256_of(str(path))
    _require_published(card, digest, str(path))
    load(card, dataclasses.replace(file, sha256=digest, sources=(str(path),)))
    return _lock(store, card, path, digest, file.sources)


def _lock(store: str, card: Card, path: Path, digest: str, sources: Sequence[str]) -> Lock:
    there = read_lock(store, card)
    if there and there.sha256 != digest:
        raise FileExistsError(f"{card.name}: {_lock_uri(store, card)} locks SHA-256 {there.sha256}, not {digest}")
    lock = Lock(
        model=card.name,
        file=there.file if there else wanted.file_name(card, path.name, digest),
        sha256=digest,
        size=path.stat().st_size,
        sources=tuple(source for source in sources if "://" in source),
    )
    if not _is_there(_uri(store, lock.file), lock.size):
        storage.put(_uri(store, lock.file), path.read_bytes())
    if not there:
        storage.put(_lock_uri(store, card), json.dumps(dataclasses.asdict(lock), indent=1).encode() + b"\n")
    return there or lock


def read_lock(store: str, card: Card) -> Lock | None:
    """What the store says of the model's weights; None where nothing is locked.

    Raises:
        ValueError: if the lock is damaged, or the card's digest is another.
    """
    uri = _lock_uri(store, card)
    try:
        content = json.loads(storage.read(uri))
        lock = Lock(**{**content, "sources": tuple(content["sources"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{uri}: not a lock of weights: {error}") from error
    _require_published(card, lock.sha256, uri)
    return lock


def _require_published(card: Card, digest: str, where: str) -> None:
    published = card.weights.sha256 if card.weights else None
    if published and not digest.startswith(published):
        raise ValueError(f"{card.name}: its card names SHA-256 {published}, {where} has {digest}")


def _is_there(uri: str, size: int) -> bool:
    try:
        return storage.stat(uri).size == size
    except FileNotFoundError:
        return False


def _uri(store: str, file: str) -> str:
    return storage.join(storage.absolute(store), _FOLDER, file)


def _lock_uri(store: str, card: Card) -> str:
    return _uri(store, f"{card.name.replace(':', '_')}.lock.json")


@contextmanager
def _open_object(uri: str) -> Iterator[tuple[Iterable[bytes], int | None]]:
    try:
        with storage.open_input(uri) as stream:
            yield iter(lambda: stream.read(CHUNK_BYTES), b""), stream.size()
    except FileNotFoundError as error:
        raise FetchError("not in this store") from error
    except OSError as error:
        raise FetchError(str(error), transient=True) from error


_OPENERS = {"s3": _open_object}
