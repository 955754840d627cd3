"""The 1000 classes of ILSVRC-2012, in the order of their sorted synset ids: class 0 is n01440764, the tench.

Owns the table `imagenet1k.tsv` (synset id, tab, name). Refuses other orders: the ILSVRC devkit numbers the same
classes differently, and whoever reads its files maps them by synset id.

A synset id is `n` and an offset into the nouns of WordNet 3.0 (Copyright 2006 by Princeton University). The name is
that synset's first lemma. Where two of the thousand share it (crane, cardigan, maillot), the first two lemmas are
given, or, for a synset that has one lemma alone, its hypernym in brackets.
"""

import functools
from importlib import resources


def synsets() -> tuple[str, ...]:
    """The synset id of each class, such as `n01440764`; 1000 of them, ascending."""
    return tuple(synset for synset, _ in _rows())


def class_names() -> tuple[str, ...]:
    """The English name of each class, such as `great white shark`; 1000 of them, no two alike."""
    return tuple(name for _, name in _rows())


@functools.cache
def _rows() -> tuple[tuple[str, str], ...]:
    table = resources.files("zoo").joinpath("imagenet1k.tsv").read_text(encoding="ascii")
    return tuple((synset, name) for synset, name in (line.split("\t") for line in table.splitlines()))
