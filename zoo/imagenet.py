"""The 1000 classes of ILSVRC-2012, in the order of their sorted synset ids: class 0 is n01440764, the tench.

They come from the table `imagenet1k.tsv` (synset id, ILSVRC2012_ID, name; separated by tabs). Labels have this order
everywhere. The ILSVRC devkit numbers the same classes differently, from 1; its numbers serve only to convert ground
truth and Caffe weights to this order.

A synset id is `n` and an offset into the nouns of WordNet 3.0 (Copyright 2006 by Princeton University). The name is the
synset's first lemma. Where two of the thousand share it (crane, cardigan, maillot), the name has the first two lemmas,
or, for a synset with a single lemma, its hypernym in brackets.
"""

import functools
from importlib import resources


def synsets() -> tuple[str, ...]:
    """The synset id of each class, such as `n01440764`; 1000 of them, ascending."""
    return tuple(synset for synset, _, _ in _rows())


def class_names() -> tuple[str, ...]:
    """The English name of each class, such as `great white shark`; 1000 distinct names."""
    return tuple(name for _, _, name in _rows())


def devkit_positions() -> tuple[int, ...]:
    """Each class's index in the devkit's order, its ILSVRC2012_ID minus 1: 448 for class 0."""
    return tuple(int(devkit_id) - 1 for _, devkit_id, _ in _rows())


@functools.cache
def _rows() -> tuple[tuple[str, str, str], ...]:
    table = resources.files("zoo").joinpath("imagenet1k.tsv").read_text(encoding="ascii")
    return tuple((synset, number, name) for synset, number, name in (line.split("\t") for line in table.splitlines()))
