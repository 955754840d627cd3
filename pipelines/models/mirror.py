"""Weights in a store, so that a cluster needs no other source for them, with a lock for each model.

    STORE/weights/resnest50-528c19ca.pth        the file
    STORE/weights/resnest50d.lock.json          its whole SHA-256, its size, its sources

Weights come from the checkpoint that is given explicitly, or else from the store or where they are published; a file on
this machine with the right digest is not fetched. A file is mirrored only after it was verified and loaded into its
architecture. From then on its whole digest counts, even if only eight digits or none were published, and the lock is
never replaced.
"""

import dataclasses
import hashlib
import json
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import zoo
from pipelines import storage
from pipelines.messages import public_url
from pipelines.storage.layout import Folder
from zoo.cards import Card, LabelOrder
from zoo.weights import cache, wanted
from zoo.weights.cache import Watch
from zoo.weights.fit import fit, fit_content
from zoo.weights.http import PIECE_BYTES, FetchError
from zoo.weights.wanted import Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A store's record of a model's weights: `size` in bytes, the whole `sha256`, and the `sources` they came from."""

    model: str
    file: str
    sha256: str
    size: int
    label_order: LabelOrder
    sources: tuple[str, ...]
    key: str | None = None
    """Name of the set of weights in the file; None where it holds one."""

    @property
    def wanted(self) -> Wanted:
        """The file, without sources."""
        return Wanted(file=self.file, sha256=self.sha256, sources=(), label_order=self.label_order, key=self.key)

    def to_json(self) -> dict[str, object]:
        """The lock as it stands in files: without `key` where there is none, as before there were keys."""
        content = dataclasses.asdict(self)
        return content if self.key else {name: value for name, value in content.items() if name != "key"}


def find(store: str | None, card: Card, checkpoint: str | None = None, key: str | None = None) -> Wanted:
    """The file of weights to run `card` with.

    Args:
        store: a store that may have them; None for no store.
        card: the model.
        checkpoint: a path or URI to use instead of the card's; the whole file is read once for its digest.
        key: name of the set of weights in `checkpoint`, where it holds several.

    Raises:
        ValueError: if no weights are published, their digest is unknown, the store's lock contradicts the card, or the
            name of the checkpoint contradicts its content.
        FileNotFoundError: if there is no file at `checkpoint`.
    """
    if checkpoint:
        return _placed(None, wanted.explicit(card, checkpoint, cache.sha256_of(checkpoint, _OPENERS), key))
    file = _published(store, card)
    if file.sha256 is None:
        raise ValueError(
            f"{card.name}: no SHA-256 of its weights is published or locked in the store; "
            f"`python -m jobs.weights mirror --models {card.name} --store STORE` locks it (with "
            "--checkpoint FILE if they cannot be fetched)"
        )
    return _placed(store, file)


def _published(store: str | None, card: Card) -> Wanted:
    """The file of the store's lock, with the card's sources; the card's file if nothing is locked."""
    lock = read_lock(store, card) if store else None
    if lock is None:
        return wanted.published(card)
    return dataclasses.replace(lock.wanted, sources=wanted.published(card).sources if card.weights else ())


def _placed(store: str | None, file: Wanted) -> Wanted:
    """The file with the store as its first source, and with absolute local paths."""
    sources = [storage.absolute(source) if cache.is_local(source) else source for source in file.sources]
    return dataclasses.replace(file, sources=(*([_uri(store, file.file)] if store else []), *sources))


def obtain(file: Wanted, watch: Watch | None = None) -> Path:
    """The path of the file on this machine, fetched if necessary: see `zoo.weights.cache.obtain`."""
    return cache.obtain(file, _OPENERS, watch)


def load(card: Card, file: Wanted) -> "zoo.nn.Module":
    """The model of `card` with the weights in `file`, in evaluation mode on the CPU."""
    return zoo.create(card, dataclasses.replace(file, sources=(str(obtain(file)),)))


def check(card: Card, file: Wanted) -> tuple[str, ...]:
    """Load the file into a model of `card`, which is then dropped.

    Returns:
        What was done to find the weights in the file, a step each.

    Raises:
        ValueError: if they do not fit.
        FileNotFoundError: if no source has the file.
    """
    network = card.network.build(card.num_classes)
    return fit(network, card, dataclasses.replace(file, sources=(str(obtain(file)),)))


def check_checkpoint(card: Card, checkpoint: str, key: str | None = None) -> tuple[Wanted, tuple[str, ...]]:
    """Read the file at `checkpoint` once: its digest, and whether it fits a model of `card`.

    Args:
        card: the model.
        checkpoint: a path or URI.
        key: name of the set of weights in the file, where it holds several.

    Returns:
        The file, as of `find`, and what was done to find the weights in it, a step each.

    Raises:
        ValueError: if the weights do not fit, or the name of the file contradicts its content.
        FileNotFoundError: if there is no such file.
    """
    data = cache.content(checkpoint, _OPENERS)
    file = _placed(None, wanted.explicit(card, checkpoint, hashlib.sha256(data).hexdigest(), key))
    return file, fit_content(card.network.build(card.num_classes), card, file, data, checkpoint)


def is_near(file: Wanted) -> bool:
    """Whether the file is on this machine or in a store, so that it need not be fetched from elsewhere."""
    near = (source for source in file.sources if source.startswith(storage.S3))
    return cache.at_hand(file) is not None or any(map(storage.exists, near))


def uri(store: str, file: Wanted) -> str:
    """The URI of the file in a store, whether it is there or not."""
    return _uri(store, file.file)


def verify(place: str, file: Wanted) -> None:
    """Read the whole copy of the file at `place`, a path or URI, and compare its digest.

    Raises:
        ValueError: if the digest differs.
        FileNotFoundError: if there is no such file.
    """
    digest = cache.sha256_of(place, _OPENERS)
    if not file.sha256 or not digest.startswith(file.sha256):
        raise ValueError(f"{place}: expected SHA-256 {file.sha256}, found {digest}")


def mirror(
    store: str, card: Card, checkpoint: str | None = None, watch: Watch | None = None, key: str | None = None
) -> Lock:
    """Put the model's weights into the store and lock them; if they are there already, they stay.

    They come from `checkpoint` if it is given, else from this machine or where they are published. If no digest is
    published, the file is trusted this once, provided that it fits the model; later files must agree with the lock.

    Args:
        store: where to put them.
        card: the model.
        checkpoint: a path or URI to use instead of the card's.
        watch: called with the progress of a download.
        key: name of the set of weights in `checkpoint`, where it holds several.

    Raises:
        ValueError: if the file does not fit the model, or the card or the file's name has another digest.
        FileNotFoundError: if no source has the file.
        FileExistsError: if other weights of this model are locked, or the store's copy is damaged.
    """
    file = wanted.explicit(card, checkpoint, key=key) if checkpoint else _published(store, card)
    place = file.sources[0] if file.sources else _uri(store, file.file)
    digest = file.sha256 or cache.sha256_of(place, _OPENERS)
    name = file.file if file.sha256 else wanted.file_name(card, place, digest)
    file = _placed(None if checkpoint else store, dataclasses.replace(file, file=name, sha256=digest))
    path = obtain(file, watch)
    digest = cache.sha256_of(str(path))
    _require_published(card, digest, str(path))
    load(card, dataclasses.replace(file, sha256=digest, sources=(str(path),)))
    return _lock(store, card, path, dataclasses.replace(file, sha256=digest))


def _lock(store: str, card: Card, path: Path, file: Wanted) -> Lock:
    assert file.sha256
    lock = Lock(
        model=card.name,
        file=wanted.file_name(card, path.name, file.sha256),
        sha256=file.sha256,
        size=path.stat().st_size,
        label_order=file.label_order,
        sources=tuple(public_url(source) for source in file.sources if source.startswith("http")),
        key=file.key,
    )
    content = json.dumps(lock.to_json(), indent=1).encode() + b"\n"
    there = _agreeing(store, card, lock)
    storage.put_file(_uri(store, (there or lock).file), path)
    if there is None:
        try:
            storage.put(_lock_uri(store, card), content)
        except FileExistsError:  # another job has just locked them, perhaps with other sources
            there = _agreeing(store, card, lock)
    return there or lock


def _agreeing(store: str, card: Card, lock: Lock) -> Lock | None:
    """The store's lock, if there is one; it must name the same bytes, label order and set of weights."""
    there = read_lock(store, card)
    if there and (there.sha256, there.label_order, there.key) != (lock.sha256, lock.label_order, lock.key):
        raise FileExistsError(f"{_lock_uri(store, card)} locks {_named(there)}, not {_named(lock)}")
    return there


def _named(lock: Lock) -> str:
    key = f", weights {lock.key}" if lock.key else ""
    return f"SHA-256 {lock.sha256} in label order {lock.label_order}{key}"


def read_lock(store: str, card: Card) -> Lock | None:
    """The store's lock of the model's weights; None if nothing is locked.

    Raises:
        ValueError: if the lock is damaged or of another model, or its digest is not the card's.
    """
    uri = _lock_uri(store, card)
    try:
        content = json.loads(storage.read(uri))
        fields: dict[str, Any] = {**content, "sources": tuple(content["sources"])}
        lock = Lock(**fields)
        if (lock.model, len(lock.wanted.sha256 or "")) != (card.name, 64):  # reading `wanted` checks its fields
            raise ValueError(f"it is of {lock.model!r}, SHA-256 {lock.sha256!r}")
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{uri}: not a lock of {card.name}'s weights: {error}") from error
    _require_published(card, lock.sha256, uri)
    return lock


def _require_published(card: Card, digest: str, where: str) -> None:
    published = card.weights.sha256 if card.weights else None
    if published and not digest.startswith(published):
        raise ValueError(f"{card.name}: its card names SHA-256 {published}, {where} has {digest}")


def _uri(store: str, file: str) -> str:
    return storage.join(storage.absolute(store), Folder.WEIGHTS, file)


def _lock_uri(store: str, card: Card) -> str:
    return _uri(store, f"{card.name.replace(':', '_')}.lock.json")


@contextmanager
def _open_object(uri: str) -> Generator[tuple[Iterable[bytes], int | None]]:
    """An object in pieces, and its size. Only errors of the store become a `FetchError`, not that of a full disk."""
    with _fetch_errors(uri):
        stream, size = storage.open_input(uri), storage.stat(uri).size
    with stream:
        yield _chunks(uri, stream), size


def _chunks(uri: str, stream: BinaryIO) -> Iterator[bytes]:
    while True:
        with _fetch_errors(uri):
            chunk = stream.read(PIECE_BYTES)
        if not chunk:
            return
        yield chunk


@contextmanager
def _fetch_errors(uri: str) -> Generator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise FetchError("not in this store") from error
    except OSError as error:  # not transient: each request has been retried already
        raise FetchError(str(error)) from error


_OPENERS = {"s3": _open_object}
