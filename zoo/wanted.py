"""Which file of weights a model wants: its name, its digest, the places where it may be.

Owns names and places, as data. Refuses to touch a file: `zoo.cache` brings it, `zoo.weights` reads it.
"""

import re
from dataclasses import dataclass

from zoo.cards import Card, LabelOrder
from zoo.weights import CAFFE, SUFFIXES, digest_in


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
        label_order=weights.label_order,
    )


def explicit(card: Card, location: str, sha256: str | None = None) -> Wanted:
    """The file at `location`, whatever the card says; a digest in its name counts where `sha256` gives none.

    Caffe's files have the label order that the card gives for its own; other files are in ours.
    """
    order = card.weights.label_order if card.weights and location.endswith(CAFFE) else "synset"
    known = sha256 or digest_in(location)
    return Wanted(file=file_name(card, location, known), sha256=known, sources=(location,), label_order=order)


def file_name(card: Card, location: str, sha256: str | None) -> str:
    """A file's name in a cache or store: as published where that holds its digest, else `MODEL-DIGEST8`."""
    name = location.rpartition("/")[2].partition("?")[0]
    in_name = digest_in(name)
    if sha256 and in_name and sha256.startswith(in_name):
        return name
    suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), SUFFIXES[0])
    model = re.sub(r"[^\w.-]", "_", card.name)
    return f"{model}-{sha256[:8]}{suffix}" if sha256 else f"{model}{suffix}"
