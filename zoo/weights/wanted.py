"""The file of weights for a model: its name, its digest, and its sources.

This is only data: `zoo.weights.cache` fetches the file, `zoo.weights.load` reads it.
"""

import re
from dataclasses import dataclass

from zoo.cards import Card, LabelOrder
from zoo.cards.digests import digest_in
from zoo.weights.load import CAFFE, SUFFIXES


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A file of weights.

    Attributes:
        file: Name in a cache or store.
        sha256: The hexadecimal digest or a prefix of at least 8 digits; None where none is known.
        sources: Where to look, in this order: `package:PACKAGE/PATH` (a file inside an installed Python package), local
            paths, URIs.
        label_order: Order of the file's classes.
        key: Name of the set of weights where the file holds several, see `zoo.weights.unwrap`.

    Raises:
        ValueError: If the name or the digest is not valid.
    """

    file: str
    sha256: str | None
    sources: tuple[str, ...]
    label_order: LabelOrder = "synset"
    key: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.-]*", self.file):
            raise ValueError(f"{self.file!r} is not a valid name for a file of weights")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{8,64}", self.sha256):
            raise ValueError(f"{self.file}: {self.sha256!r} is not a SHA-256 or a prefix of at least 8 digits")


def published(card: Card) -> Wanted:
    """The published file of the card.

    Raises:
        ValueError: If no weights are published for this model.
    """
    weights = card.weights
    if weights is None:
        raise ValueError(f"{card.name}: no weights are published; give a file")
    return Wanted(
        file=file_name(card, weights.location, weights.sha256),
        sha256=weights.sha256,
        sources=(weights.location, *weights.mirrors),
        label_order=card.label_order,
    )


def explicit(card: Card, location: str, sha256: str | None = None, key: str | None = None) -> Wanted:
    """The file at `location` in place of the published one.

    Args:
        card: The model. Caffe files have its label order, other files have `synset`.
        location: A path or URI.
        sha256: The digest; by default the one in the file's name.
        key: Name of the set of weights where the file holds several.

    Raises:
        ValueError: If `sha256` differs from the digest in the file's name.
    """
    order = card.label_order if location.endswith(CAFFE) else "synset"
    in_name = digest_in(location)
    if sha256 and in_name and not sha256.startswith(in_name):
        raise ValueError(f"{location}: expected SHA-256 {in_name} by its name, found {sha256}")
    known = sha256 or in_name
    name = file_name(card, location, known)
    return Wanted(file=name, sha256=known, sources=(location,), label_order=order, key=key)


def file_name(card: Card, location: str, sha256: str | None) -> str:
    """The file's name in a cache or store: as published if it contains the digest, else `MODEL-DIGEST8.SUFFIX`.

    Without a digest it is `MODEL.SUFFIX`.
    """
    name = re.sub(r"[^\w.-]", "_", location.rpartition("/")[2].partition("?")[0])
    in_name = digest_in(name)
    if sha256 and in_name and sha256.startswith(in_name):
        return name
    suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), SUFFIXES[0])
    model = re.sub(r"[^\w.-]", "_", card.name)
    return f"{model}-{sha256[:8]}{suffix}" if sha256 else f"{model}{suffix}"
