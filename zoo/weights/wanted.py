"""Which file of weights a model wants: its name, its digest, the places where it may be.

Owns names and places, as data. Refuses to touch a file: `zoo.cache` brings it, `zoo.weights` reads it.
"""

import re
from dataclasses import dataclass

from zoo.cards import Card, LabelOrder
from zoo.cards.digests import digest_in
from zoo.weights.load import CAFFE, SUFFIXES


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A file of weights.

    `file` is its name in a cache or store. `sha256` is its digest or the beginning of it, None where none is known.
    `sources` are tried in their order: `package:PACKAGE/PATH` (a file inside an installed Python package), local paths,
    URIs. `label_order` is that of its classes.
    """

    file: str
    sha256: str | None
    sources: tuple[str, ...]
    label_order: LabelOrder = "synset"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.-]*", self.file):
            raise ValueError(f"{self.file!r} is no name for a file of weights")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{8,64}", self.sha256):
            raise ValueError(f"{self.file}: {self.sha256!r} is no SHA-256, nor the first 8 digits of one")


def published(card: Card) -> Wanted:
    """The file that the card names.

    Raises:
        ValueError: if no weights were published for this model.
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


def explicit(card: Card, location: str, sha256: str | None = None) -> Wanted:
    """The file at `location`, whatever the card says; a digest in its name counts where `sha256` gives none.

    Caffe's files have the label order that the card gives for its own; other files are in ours.

    Raises:
        ValueError: if `sha256` is another digest than the one in the file's name.
    """
    order = card.label_order if location.endswith(CAFFE) else "synset"
    in_name = digest_in(location)
    if sha256 and in_name and not sha256.startswith(in_name):
        raise ValueError(f"{location}: expected SHA-256 {in_name}, as its name says, found {sha256}")
    known = sha256 or in_name
    return Wanted(file=file_name(card, location, known), sha256=known, sources=(location,), label_order=order)


def file_name(card: Card, location: str, sha256: str | None) -> str:
    """A file's name in a cache or store: as published where that holds its digest, else `MODEL-DIGEST8`."""
    name = re.sub(r"[^\w.-]", "_", location.rpartition("/")[2].partition("?")[0])
    in_name = digest_in(name)
    if sha256 and in_name and sha256.startswith(in_name):
        return name
    suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), SUFFIXES[0])
    model = re.sub(r"[^\w.-]", "_", card.name)
    return f"{model}-{sha256[:8]}{suffix}" if sha256 else f"{model}{suffix}"
