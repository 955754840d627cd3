"""What a model costs an image: multiply-accumulates at the size that it is tested at.

Owns the table `macs.tsv` of the zoo's own models, since counting them takes torch and eight seconds. Refuses to trust
a card, whose FLOPs are counted by other rules. Other models are counted when they are asked for.
"""

import functools
from importlib import resources

from zoo import audit
from zoo.cards import Card


def macs(card: Card) -> int:
    """Multiply-accumulates of one image through the card's model, as `zoo.counts.macs` counts them."""
    size = card.preprocessing.size
    return _table().get((card.architecture, card.num_classes, size)) or _counted(card)


def _counted(card: Card) -> int:
    """By building the model without a weight: with torch's start two seconds, which only such a model costs."""
    return next(finding.computed for finding in audit.audit(card) if finding.what == "multiply-accumulates")


@functools.cache
def _table() -> dict[tuple[str, int, int], int]:
    text = resources.files("zoo").joinpath("macs.tsv").read_text(encoding="ascii")
    rows = (line.split("\t") for line in text.splitlines()[1:])
    return {(architecture, int(classes), int(size)): int(macs) for architecture, classes, size, macs in rows}
