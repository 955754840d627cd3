"""Multiply-accumulates per image of a model at its test size.

The numbers of the zoo's own models are in the table `macs.tsv`, since counting them takes torch and eight seconds.
Other models are counted on request. The FLOPs of a card are not used, since they are counted by other rules.
"""

import functools
from importlib import resources

from zoo import audit
from zoo.cards import Card


def macs(card: Card) -> int:
    """Multiply-accumulates of the card's model for one image, as `zoo.counts.macs` counts them."""
    size = card.preprocessing.size
    return _known_macs().get((card.architecture, card.num_classes, size)) or _count_macs(card)


def _count_macs(card: Card) -> int:
    """Builds the model without weights, which takes two seconds with the import of torch."""
    return next(finding.computed for finding in audit.audit(card) if finding.what == "multiply-accumulates")


@functools.cache
def _known_macs() -> dict[tuple[str, int, int], int]:
    text = resources.files("zoo").joinpath("macs.tsv").read_text(encoding="ascii")
    rows = (line.split("\t") for line in text.splitlines()[1:])
    return {(architecture, int(classes), int(size)): int(macs) for architecture, classes, size, macs in rows}
