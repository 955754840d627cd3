"""Check a card's claims of size and cost against its architecture.

The architecture is built without weights, so this takes a second and no download. Claims of accuracy are not checked
here: that takes images, see `jobs.evaluate`.
"""

from dataclasses import dataclass
from typing import Literal

from zoo.cards import Card

_OVERHEAD_BYTES = 1024
"""Upper bound of a checkpoint's overhead per tensor, in bytes; the published files have 124 to 175."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFinding:
    """One claim, checked.

    Attributes:
        what: The quantity.
        claimed: The published value; None where none is published.
        computed: The value for the zoo's architecture.
        agrees: Whether the two agree within the claim's rounding; None where nothing is claimed.
        note: How the value was computed.
    """

    what: Literal["parameters", "FLOPs", "multiply-accumulates", "file size"]
    claimed: int | None
    computed: int
    agrees: bool | None
    note: str


def audit(card: Card) -> tuple[CardFinding, ...]:
    """Compare the claimed parameters, operations and file size of `card` with computed ones.

    Parameters agree if the computed number, rounded to the claim's precision, equals the claim. FLOPs agree if the rule
    of the published cards gives exactly the claim (see `counts.published_flops`), or if the multiply-accumulates,
    rounded, equal it. The file size agrees if it is the size of the tensors plus the usual overhead of a checkpoint.
    """
    import torch

    from zoo import counts

    with torch.device("meta"):
        model = card.network.build(card.num_classes)
    size = card.preprocessing.size
    macs = counts.macs(model, size)
    return (
        _parameters(card, counts.parameters(model)),
        *([_flops(card.claimed_flops, counts.published_flops(model, size), macs)] if card.claimed_flops else []),
        CardFinding(
            what="multiply-accumulates",
            claimed=None,
            computed=macs,
            agrees=None,
            note=f"of convolutions and linear layers at {size} x {size}",
        ),
        _bytes(card, *counts.tensor_bytes(model)),
    )


def _parameters(card: Card, computed: int) -> CardFinding:
    claimed = card.claimed_params
    agrees = None if claimed is None else _rounded(computed, claimed) == claimed
    return CardFinding(what="parameters", claimed=claimed, computed=computed, agrees=agrees, note="trainable values")


def _flops(claimed: int, published: int, macs: int) -> CardFinding:
    if claimed == published:
        note = "by the cards' rule: multiply-adds on an image 1.27 times as wide as high, without the classifier"
        return CardFinding(what="FLOPs", claimed=claimed, computed=published, agrees=True, note=note)
    agrees = _rounded(macs, claimed) == claimed
    return CardFinding(what="FLOPs", claimed=claimed, computed=macs, agrees=agrees, note="as multiply-accumulates")


def _bytes(card: Card, tensors: int, entries: int) -> CardFinding:
    claimed = card.weights.size if card.weights else None
    agrees = None if claimed is None else 0 <= claimed - tensors <= entries * _OVERHEAD_BYTES
    note = f"bytes of {entries:,} tensors in float32; a checkpoint adds up to {_OVERHEAD_BYTES} per tensor"
    return CardFinding(what="file size", claimed=claimed, computed=tensors, agrees=agrees, note=note)


def _rounded(value: int, like: int) -> int:
    """`value`, rounded to as many digits as `like` has without its trailing zeros, but to at least three."""
    text = str(like)
    return round(value, max(3, len(text.rstrip("0"))) - len(text))
